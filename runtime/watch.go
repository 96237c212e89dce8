package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// settle is how long after the begin of a watch the server is asked for the state of the stage: the
// watch has reached it by then.
const settle = time.Second

// watcher is what watch needs of the server.
type watcher interface {
	Watch(ctx context.Context, build int64) (bool, error)
	Detail(ctx context.Context, stage *drone.Stage) (*client.Context, error)
}

// watch calls cancelled, at most once, when the server says that the build was cancelled. It goes
// on in the background until the function that it returns is called, which waits for its end and
// may be called again, or ctx is over.
//
// The server tells of a cancel only those who watch at that moment, for 30 s at a time. So each
// time a watch has begun, the first included, the stage's state is read, while the watch stands: a
// cancel either meets the watch or is seen in the state.
func watch(ctx context.Context, c watcher, stage *drone.Stage, build int64, log logrus.FieldLogger, cancelled func()) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watching{client: c, stage: drone.Stage{ID: stage.ID, Name: stage.Name, Machine: stage.Machine, Version: stage.Version}, build: build, log: log, once: sync.OnceFunc(cancelled)}
	var done sync.WaitGroup
	done.Go(func() {
		if err := protect("watch the build", func() error { w.loop(ctx); return nil }); err != nil {
			log.WithError(err).Error("nobody watches for a cancel of the build any more")
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// watching is one watch.
type watching struct {
	client watcher
	stage  drone.Stage
	build  int64
	log    logrus.FieldLogger
	once   func()
}

// loop watches again and again: at once after the server's own timeout, with a growing pause after
// errors.
func (w *watching) loop(ctx context.Context) {
	pauses := pause.Growing(time.Second, 30*time.Second)
	for ctx.Err() == nil {
		cancelled, err := w.round(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case cancelled:
			w.once()
			return
		case err != nil:
			w.log.WithError(err).Warn("a cancel of the build might be noticed late: the server can't be watched")
			if pause.For(ctx, pauses.NextBackOff()) != nil {
				return
			}
		default:
			pauses.Reset()
		}
	}
}

// round is one watch, with a look at the stage's state while it stands.
func (w *watching) round(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var looked sync.WaitGroup
	over := false
	looked.Go(func() {
		if pause.For(ctx, settle) != nil {
			return
		}
		if over = w.over(ctx); over {
			cancel()
		}
	})
	cancelled, err := w.client.Watch(ctx, w.build)
	if cancelled {
		cancel()
	}
	// A watch that fails, or is answered faster than it should, doesn't get around the look, nor
	// makes this spin.
	looked.Wait()
	return cancelled || over, err
}

// over reports whether the server has ended the stage.
func (w *watching) over(ctx context.Context) bool {
	stage := w.stage
	details, err := w.client.Detail(ctx, &stage)
	if err != nil || details == nil {
		if ctx.Err() == nil {
			w.log.WithError(err).Debug("the state of the stage can't be read")
		}
		return false
	}
	return details.Stage != nil && rpc.Final(details.Stage.Status) || details.Build != nil && details.Build.Status == drone.StatusKilled
}
