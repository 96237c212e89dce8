package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

// detach runs a service or a detached step in the background, and returns when it has started (or never will): those that depend on it may go on then. It
// ends by itself, with the stage, or when no other step is left.
func (r *stageRun) detach(step *engine.Step, container engine.Container, out *output) {
	started := make(chan struct{})
	announce := sync.OnceFunc(func() { close(started) })
	r.detached.Go(func() {
		defer announce()
		var exit engine.Exit
		err := protect(fmt.Sprintf("run step %q", step.Name), func() (err error) {
			exit, err = container.Run(r.detachedCtx, out, announce)
			return err
		})
		// The conclusion calls the reporter, so it is guarded as well: here is nobody else to catch its panic.
		guarded := protect(fmt.Sprintf("end step %q", step.Name), func() error {
			if isPanic(err) || err != nil && r.ctx.Err() != nil {
				r.broken(step, out, err)
			} else {
				r.concludeDetached(step, out, exit, err)
			}
			return nil
		})
		if guarded != nil {
			r.logPanic(guarded)
			r.finished(r.state.spoil(step.Name, r.masked(guarded)), nil)
		}
	})
	<-started
}

// concludeDetached ends a detached step. As with Drone it has passed, whatever became of it: being stopped is its usual end, and a stage whose service fails goes on. But
// a failure is told to the log of the step that follows, where it is missed.
func (r *stageRun) concludeDetached(step *engine.Step, out *output, exit engine.Exit, err error) {
	kind := "detached step"
	if step.Service {
		kind = "service"
	}
	var end string
	switch {
	case err != nil && errors.Is(context.Cause(r.detachedCtx), errGraphEnded):
		// Stopped since its work is done.
	case err != nil:
		end = r.masked(err).Error()
		out.lines("error: " + end)
	case exit.OOMKilled:
		end = "it ran out of memory and was killed"
	case exit.Code != 0:
		end = fmt.Sprintf("exit code %d", exit.Code)
	}
	if end != "" {
		r.warnings.add(fmt.Sprintf("warning: %s %q has failed: %s (the stage goes on; see its log)", kind, step.Name, end))
		r.log.WithField("step", step.Name).Infof("%s has failed: %s", kind, end)
	}
	r.afterwards(step, out, r.state.finish(step.Name, 0))
}
