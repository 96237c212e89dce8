package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// visit runs one step of the graph: it waits for its dependencies, runs it or not, and releases
// those that wait for it, whatever happens.
func (r *stageRun) visit(n *node) {
	defer close(n.released)
	for _, dep := range n.deps {
		<-dep.released
	}
	n.visited.Store(true)
	if n.step.RunPolicy == spec.RunNever {
		return
	}
	err := protect(fmt.Sprintf("run step %q", n.step.Name), func() error {
		if settle := r.admit(n.step); settle != nil {
			settle()
		}
		return nil
	})
	if err != nil {
		r.logPanic(err)
		r.finished(r.state.spoil(n.step.Name, r.masked(err)), nil)
	}
}

// admit runs the step if its policy allows it and once there is a free slot, and skips it
// otherwise. What it returns, unless it is nil, is still to be waited for, without a slot.
func (r *stageRun) admit(step *spec.Step) (settle func()) {
	if r.skipped(step) {
		return nil
	}
	release, err := r.acquire()
	defer release()
	// Others may have failed while this one waited for its slot.
	if err != nil || r.skipped(step) {
		r.skipped(step)
		return nil
	}
	return r.run(step)
}

// skipped reports whether the step doesn't run, and has reported that then.
func (r *stageRun) skipped(step *spec.Step) bool {
	var cause error
	if r.ctx.Err() != nil {
		cause = context.Cause(r.ctx)
	} else if r.state.runs(step.RunPolicy) {
		return false
	}
	if record, _ := r.state.Step(step.Name); !rpc.Final(record.Status) {
		r.finished(r.state.skip(step.Name, cause), nil)
	}
	return true
}

// acquire waits for a slot. The function that gives it back is never nil.
func (r *stageRun) acquire() (release func(), err error) {
	procs := r.executor.Procs
	if procs == nil {
		return func() {}, nil
	}
	if err := procs.Acquire(r.ctx, 1); err != nil {
		return func() {}, err
	}
	return func() { procs.Release(1) }, nil
}

// run runs the step; a detached one until it has started, and then returns what waits until it is
// ready. A panic on the way ends it as an error, its log closed.
func (r *stageRun) run(step *spec.Step) (settle func()) {
	var out *livelog.Output
	var container spec.Container
	err := protect(fmt.Sprintf("prepare step %q", step.Name), func() (err error) {
		record := r.state.start(step.Name)
		out = livelog.NewOutput(r.reporter.StepStarted(r.reportCtx, record), r.mask)
		out.Note(step.Notes...)
		if !step.Detach {
			out.Note(r.warnings.take()...)
		}
		container, err = r.engine.Prepare(r.ctx, r.spec, r.refreshed(step), out)
		if err == nil && container == nil {
			err = fmt.Errorf("prepare step %q: the engine made no container", step.Name)
		}
		return err
	})
	switch {
	case err == nil && step.Detach:
		return r.detach(&detached{step: step, container: container, out: out})
	case err == nil:
		var exit spec.Exit
		err = protect(fmt.Sprintf("run step %q", step.Name), func() (err error) {
			ctx, cancel := r.limited()
			defer cancel()
			exit, err = container.Run(ctx, out, nil)
			if late := new(StepTimeoutError); err != nil && r.ctx.Err() == nil && errors.As(context.Cause(ctx), &late) {
				err = late
			}
			return err
		})
		if err == nil {
			r.conclude(step, out, exit)
			return nil
		}
	case step.Detach && !isPanic(err) && r.ctx.Err() == nil:
		r.concludeDetached(&detached{step: step, out: out}, spec.Exit{}, err)
		return nil
	}
	r.broken(step, out, err)
	return nil
}

// limited is the context of a step that doesn't outlast the stage.
func (r *stageRun) limited() (context.Context, context.CancelFunc) {
	limit := r.executor.StepTimeout
	if limit <= 0 {
		return r.ctx, func() {}
	}
	return context.WithTimeoutCause(r.ctx, limit, &StepTimeoutError{Limit: limit})
}

// conclude ends a step whose process has ended.
func (r *stageRun) conclude(step *spec.Step, out *livelog.Output, exit spec.Exit) {
	code := exit.Code
	if exit.OOMKilled {
		code = exitKilled
		out.Note("the step ran out of memory and was killed")
	}
	record := r.state.finish(step.Name, code)
	r.afterwards(step, out, record)
}

// broken ends a step that has no exit code: it was stopped, or it couldn't be run.
func (r *stageRun) broken(step *spec.Step, out *livelog.Output, err error) {
	r.logPanic(err)
	var record drone.Step
	var late *StepTimeoutError
	if errors.As(err, &late) {
		record = r.state.expire(step.Name, late)
		out.Note("stopped: " + late.Error())
	} else if r.ctx.Err() != nil && !isPanic(err) {
		cause := context.Cause(r.ctx)
		record = r.state.kill(step.Name, cause)
		if line := explain(cause); line != "" {
			out.Note(line)
		}
	} else {
		record = r.state.fail(step.Name, r.masked(err))
	}
	r.afterwards(step, out, record)
}

// afterwards is what follows the end of a step of any kind: others are stopped if it failed fast,
// its log is closed, the reporter told.
func (r *stageRun) afterwards(step *spec.Step, out *livelog.Output, record drone.Step) {
	if step.ErrPolicy == spec.ErrFailFast && record.Status != drone.StatusPassing {
		r.cancel(errFailFast) // which does nothing where the step was stopped with the others
	}
	if !r.state.runs(spec.RunOnSuccess) {
		r.ahead.giveUp()
	}
	if !step.Detach {
		out.Note(r.warnings.take()...)
	}
	var card *drone.CardInput
	err := protect("close the log of a step", func() (err error) {
		card, err = out.Close()
		return err
	})
	switch {
	case isPanic(err):
		r.logPanic(err)
		record = r.state.spoil(step.Name, r.masked(err))
	case err != nil:
		r.log.WithError(err).WithField("step", step.Name).Warn("the log of a step is incomplete")
	}
	r.finished(record, card)
}

// isPanic reports whether the error is a panic that was caught.
func isPanic(err error) bool {
	var panicked *PanicError
	return errors.As(err, &panicked)
}
