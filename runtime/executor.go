package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// DefaultDestroyTimeout is how long the clean-up of a stage may take.
const DefaultDestroyTimeout = 2 * time.Minute

// DefaultServiceWait is how long steps wait for a service that has a health check, unless the
// operator says otherwise.
const DefaultServiceWait = time.Minute

// Executor runs the step graphs of stages. It may run any number of them at once.
type Executor struct {
	Engine Engine
	// Procs limits how many steps run at once, over all stages that share it; nil is no limit. A
	// detached step counts only until it has started: otherwise a service would keep the step that
	// needs it from ever starting.
	Procs *semaphore.Weighted
	// StepTimeout limits how long the container of a step runs, a detached one excepted, which runs
	// as long as the stage; 0 is no limit.
	StepTimeout time.Duration
	// ServiceWait is how long the steps that follow a service or a detached step wait for its
	// health check to pass, if it has one; 0 doesn't wait. The stage goes on without it then, with
	// a warning.
	ServiceWait time.Duration
	// DestroyTimeout limits the clean-up; 0 is DefaultDestroyTimeout.
	DestroyTimeout time.Duration
	// Log takes what the runner's operator should know; nil is logrus's standard logger.
	Log logrus.FieldLogger
}

// Job is one stage to run.
type Job struct {
	Spec *spec.Spec
	// Build and Stage are the server's records; they aren't changed. Build may be nil: the steps
	// then see no DRONE_BUILD_*.
	Build *drone.Build
	Stage *drone.Stage
	// Timeout of the stage; 0 is none.
	Timeout  time.Duration
	Reporter Reporter
	// Ended, unless it is nil, is called as soon as it is known how the stage ended, before its
	// report and the clean-up.
	Ended func(drone.Stage)
	// DetachedFailed is for a Reporter that shows all logs in one place. Unless it is nil it gets
	// why a service or a detached step has failed, before StepFinished, whose record has passed, as
	// Drone's has. The logs don't say why then, nor repeat the last lines of that step.
	DetachedFailed func(step, why string)
	// Cleaned, unless it is nil, is called when the clean-up is done, whether the report is or not.
	Cleaned func()
}

// Run runs the stage to its end and is the final record of it. It returns when every step is final,
// everything that the run made is destroyed, and the Reporter's End has returned.
//
// A cancelled context stops the stage: steps that run are killed, the others skipped; its cause
// (ErrCancelled, ErrStopped) decides how that is recorded. Clean-up and reports go on after a
// cancel.
//
// The error says that the stage couldn't be reported, to begin with (then no step ran) or at the
// end; how the build itself went is in the record alone.
func (e *Executor) Run(ctx context.Context, job Job) (drone.Stage, error) {
	if job.Reporter == nil {
		return drone.Stage{}, errors.New("run stage: there is no reporter")
	}
	nodes, graphErr := newGraph(job.Spec)
	s := job.Spec
	if graphErr != nil {
		s = &spec.Spec{}
	}
	if job.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, job.Timeout, &TimeoutError{Limit: job.Timeout})
		defer cancel()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	r := &stageRun{
		executor: e,
		engine:   e.Engine,
		log:      orStandard(e.Log),
		reporter: job.Reporter,
		spec:     s,
		mask:     livelog.NewMask(s.Secrets()),
		state:    NewState(job.Build, job.Stage, s),
		hasBuild: job.Build != nil,
		failed:   job.DetachedFailed,
		ctx:      ctx,
		cancel:   cancel,
		// What is reported is reported, cancelled or not.
		reportCtx: context.WithoutCancel(ctx),
	}
	r.state.begin()
	if err := protect("report the begin of the stage", func() error { return r.reporter.Begin(ctx, r.state.Stage()) }); err != nil {
		return r.state.Stage(), fmt.Errorf("report the begin of the stage: %w", err)
	}
	err := graphErr
	if err == nil {
		err = r.execute(nodes)
	}
	for _, step := range r.state.skipAll(context.Cause(ctx)) {
		r.finished(step, nil)
	}
	stage := r.state.end(r.masked(err))
	if job.Ended != nil {
		job.Ended(copyStage(stage))
	}
	// The clean-up doesn't wait for the report, which may wait for a server that is away, nor the
	// report for the clean-up.
	var cleaning sync.WaitGroup
	cleaning.Go(func() {
		if graphErr == nil {
			r.destroy()
		}
		if job.Cleaned != nil {
			job.Cleaned()
		}
	})
	defer cleaning.Wait()
	if err := protect("report the end of the stage", func() error { return r.reporter.End(r.reportCtx, copyStage(stage)) }); err != nil {
		return stage, fmt.Errorf("report the end of the stage: %w", err)
	}
	return stage, nil
}

// stageRun is one run of a stage.
type stageRun struct {
	executor *Executor
	engine   Engine
	log      logrus.FieldLogger
	reporter Reporter
	spec     *spec.Spec
	// mask is that of all logs, and for texts that don't go through one.
	mask     *livelog.Mask
	state    *State
	hasBuild bool
	failed   func(step, why string)
	// ctx is over when the stage is to stop; cancel ends it. reportCtx is the same and never over.
	ctx       context.Context //nolint:containedctx // the stage's life
	cancel    context.CancelCauseFunc
	reportCtx context.Context //nolint:containedctx // as ctx
	// detachedCtx is over when detached steps are to stop: with ctx, or when the others have ended.
	detachedCtx context.Context //nolint:containedctx // as ctx
	detached    sync.WaitGroup
	warnings    warnings
	ahead       *ahead
}

// execute sets up, runs the graph and waits for its last step. The error is one of Setup's: no step
// has run then.
func (r *stageRun) execute(nodes []*node) error {
	r.ahead = r.fetchAhead(nodes)
	defer r.ahead.stop()
	if err := protect("set up the stage", func() error { return r.engine.Setup(r.ctx, r.spec) }); err != nil {
		if r.ctx.Err() != nil {
			r.state.interruptBy(context.Cause(r.ctx))
		}
		return err
	}
	detachedCtx, stopDetached := context.WithCancelCause(r.ctx)
	defer stopDetached(nil)
	r.detachedCtx = detachedCtx

	var steps sync.WaitGroup
	for _, n := range nodes {
		steps.Go(func() { r.visit(n) })
	}
	steps.Wait()
	stopDetached(errGraphEnded)
	r.detached.Wait()
	return nil
}

// destroy removes what the run made, whatever happened to its context.
func (r *stageRun) destroy() {
	limit := r.executor.DestroyTimeout
	if limit <= 0 {
		limit = DefaultDestroyTimeout
	}
	ctx, cancel := context.WithTimeout(r.reportCtx, limit)
	defer cancel()
	if err := protect("destroy the stage", func() error { return r.engine.Destroy(ctx, r.spec) }); err != nil {
		r.log.WithError(err).WithField("spec", r.spec.ID).Error("a stage left something behind in the daemon")
	}
}

// finished reports a final step. A reporter that panics spoils the step: what nobody could be told
// of isn't green.
func (r *stageRun) finished(step drone.Step, card *drone.CardInput) {
	err := protect("report the end of the step", func() error {
		r.reporter.StepFinished(r.reportCtx, step, card)
		return nil
	})
	if err != nil {
		r.logPanic(err)
		r.state.spoil(step.Name, r.masked(err))
	}
}

// masked is the error without the secrets of the stage: it is shown on the build's page. A nil
// error stays nil.
func (r *stageRun) masked(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(r.mask.Text(err.Error()))
}

// logPanic writes a panic's stack to the runner's log.
func (r *stageRun) logPanic(err error) {
	var panicked *PanicError
	if errors.As(err, &panicked) {
		r.log.WithField("stack", string(panicked.Stack)).WithField("spec", r.spec.ID).Error(r.mask.Text(panicked.Error()))
	}
}

// orStandard is the logger, or logrus's own.
func orStandard(log logrus.FieldLogger) logrus.FieldLogger {
	if log == nil {
		return logrus.StandardLogger()
	}
	return log
}
