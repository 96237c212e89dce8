package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// hasteTimeout is how long the clean-up may go on after the user has asked for the end a second
// time.
const hasteTimeout = 10 * time.Second

// interruptible makes the contexts of something that a user may want to end. The first signal
// (Ctrl-C, a terminal that is closed, SIGTERM) ends stop, with a *signalError as its cause. The
// second one ends hurry a while later: whoever cleans up by then should give up.
//
// release frees what this holds; signals then work as before.
func interruptible(ctx context.Context) (stop, hurry context.Context, release func()) {
	signals := make(chan os.Signal, 4)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		// What the caller had ignored, nohup for one, stays so.
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	stop, end := context.WithCancelCause(ctx)
	hurry, endHurry := context.WithCancel(context.WithoutCancel(ctx))
	over := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		var late <-chan time.Time
		for {
			select {
			case s := <-signals:
				if stop.Err() == nil {
					end(&signalError{signal: s.(syscall.Signal)})
				} else if late == nil {
					timer := time.NewTimer(hasteTimeout)
					defer timer.Stop()
					late = timer.C
				}
			case <-late:
				endHurry()
			case <-over:
				return
			}
		}
	})
	return stop, hurry, func() {
		signal.Stop(signals)
		close(over)
		done.Wait()
		end(nil)
		endHurry()
	}
}

// bySignal is the signal that ended ctx, or nil.
func bySignal(ctx context.Context) *signalError {
	var s *signalError
	if errors.As(context.Cause(ctx), &s) {
		return s
	}
	return nil
}

// hasty is an engine that stops cleaning up when hurry ends.
type hasty struct {
	runtime.Engine
	hurry context.Context //nolint:containedctx // a signal to all calls, the context of none
}

// Destroy is the engine's, cut short by hurry.
func (h hasty) Destroy(ctx context.Context, s *spec.Spec) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.hurry, cancel)()
	return h.Engine.Destroy(ctx, s)
}

// pipe is standard output that may be closed by who reads it (exec | head). It then ends the
// program as if by SIGPIPE, but lets it clean up.
type pipe struct {
	out io.Writer
	end context.CancelCauseFunc
}

// Write is the output's.
func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.out.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		p.end(&signalError{signal: syscall.SIGPIPE})
	}
	return n, err
}
