package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// detached is a service or a detached step.
type detached struct {
	step      *spec.Step
	container spec.Container
	out       *livelog.Output
}

// String names it for the logs of others.
func (d *detached) String() string {
	kind := "detached step"
	if d.step.Service {
		kind = "service"
	}
	return fmt.Sprintf("%s %q", kind, d.step.Name)
}

// detach runs a service or a detached step in the background, and returns when it has started (or
// never will). What it returns waits until it is ready, if it will ever be: those that depend on it
// may go on then. It ends by itself, with the stage, or when no other step is left.
func (r *stageRun) detach(d *detached) (settle func()) {
	started := make(chan struct{})
	announce := sync.OnceFunc(func() { close(started) })
	lives, over := context.WithCancel(r.detachedCtx)
	r.detached.Go(func() {
		defer announce()
		defer over()
		var exit spec.Exit
		err := protect(fmt.Sprintf("run step %q", d.step.Name), func() (err error) {
			exit, err = d.container.Run(r.detachedCtx, d.out, announce)
			return err
		})
		// The conclusion calls the reporter, so it is guarded as well: here is nobody else to catch
		// its panic.
		guarded := protect(fmt.Sprintf("end step %q", d.step.Name), func() error {
			if isPanic(err) || err != nil && r.ctx.Err() != nil {
				r.broken(d.step, d.out, err)
			} else {
				r.concludeDetached(d, exit, err)
			}
			return nil
		})
		if guarded != nil {
			r.logPanic(guarded)
			r.finished(r.state.spoil(d.step.Name, r.masked(guarded)), nil)
		}
	})
	<-started
	return func() { r.settle(lives, d) }
}

// settle waits until a detached step is healthy, so that the steps that follow find it ready. One
// that has no health check is ready when it has started. One whose check doesn't pass in time is of
// use all the same, maybe, as it was to Drone, which never asks: the stage goes on, with a warning.
// lives ends when the step has ended.
func (r *stageRun) settle(lives context.Context, d *detached) {
	limit := r.executor.ServiceWait
	if limit <= 0 || lives.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(lives, limit)
	defer cancel()
	err := d.container.Ready(ctx)
	switch {
	case err == nil || lives.Err() != nil:
		// It is ready, or its end has been told.
	case errors.Is(err, spec.ErrEnded):
		<-ctx.Done() // Its end is being told, for the log of the step that follows.
	default:
		text := r.masked(err).Error()
		r.warn(d, "", fmt.Sprintf("warning: %s isn't healthy after %s, which is how long this runner's steps wait (DRONE_RUNNER_SERVICE_WAIT); the stage goes on: %s", d, limit, text))
		r.log.WithField("step", d.step.Name).Infof("a service isn't healthy after %s: %s", limit, text)
	}
}

// warn keeps a line for the log of the step that follows, and the last lines of the detached step's
// log unless they are on the same screen. The last of them is left out if it is the error that the
// line has.
func (r *stageRun) warn(d *detached, shown, line string) {
	r.warnings.add(line)
	if r.failed != nil {
		return
	}
	last := d.out.Tail()
	if n := len(last); n > 0 && shown != "" && strings.HasSuffix(last[n-1], shown) {
		last = last[:n-1]
	}
	for _, text := range last {
		r.warnings.add("  " + d.step.Name + ": " + text)
	}
}

// concludeDetached ends a detached step. As on Drone's runner it has passed, however it ended:
// being stopped is its usual end, and a stage whose service fails goes on. But the log of the step
// that follows, where a service is missed, says that one has failed, or has ended.
func (r *stageRun) concludeDetached(d *detached, exit spec.Exit, err error) {
	var end, line, shown string
	switch {
	case err != nil && errors.Is(context.Cause(r.detachedCtx), errGraphEnded):
		// Stopped since its work is done.
	case err != nil:
		end = r.masked(err).Error()
		if r.failed == nil {
			shown = "error: " + end
			d.out.Note(shown)
		}
	case exit.OOMKilled:
		end = "it ran out of memory and was killed"
	case exit.Code != 0:
		end = fmt.Sprintf("exit code %d", exit.Code)
	case d.step.Service && r.detachedCtx.Err() == nil:
		line = fmt.Sprintf("note: %s has ended, with exit code 0 (the stage goes on without it)", d)
	}
	if end != "" {
		line = fmt.Sprintf("warning: %s has failed: %s (the stage goes on; see its log)", d, end)
		if r.failed != nil {
			r.failed(d.step.Name, end)
			line = fmt.Sprintf("warning: %s has failed (the stage goes on)", d)
		}
		r.log.WithField("step", d.step.Name).Infof("%s has failed: %s", d, end)
	}
	// First its own log: what was held back of it belongs to its last lines.
	r.afterwards(d.step, d.out, r.state.finish(d.step.Name, 0))
	if line != "" {
		r.warn(d, shown, line)
	}
}
