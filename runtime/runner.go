package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Defaults of a Runner.
const (
	// DefaultTimeout of a stage whose repository has none.
	DefaultTimeout = time.Hour
	// DefaultReportGrace is how long a runner that stops goes on telling the server of its builds.
	DefaultReportGrace = 30 * time.Second
)

// Runner runs stages, from the server's offer to the last report. It may run any number of them at
// once.
type Runner struct {
	Client Client
	// Machine is the runner's name, by which the server knows who has a stage.
	Machine string
	// Compile makes a spec of the server's details. Its error is shown on the build's page.
	Compile func(context.Context, *client.Context) (*spec.Spec, error)
	// Permit says why this runner doesn't run a build, by an error that is shown on its page; nil
	// permits all.
	Permit   func(*drone.Repo, *drone.Build) error
	Executor *Executor
	Logs     LogOptions
	// Journal takes what a next start has to know of the stages that this one was killed in; nil
	// keeps none. The folder of Logs is its Logs then.
	Journal *journal.Journal
	// Timeout of stages whose repository has none; 0 is DefaultTimeout.
	Timeout time.Duration
	// ReportGrace is how long reports go on after the context ended; 0 is DefaultReportGrace.
	// Before that there is no limit: a server that is away is waited for.
	ReportGrace time.Duration
	// Ended, unless it is nil, is called with the status of each stage whose end the server knows.
	Ended func(status string)
	// Log is the operator's; nil is logrus's standard logger.
	Log logrus.FieldLogger
}

// counts tells Ended of a stage.
func (r *Runner) counts(status string) {
	if r.Ended != nil {
		r.Ended(status)
	}
}

// Run runs one stage that the server has offered. A stage that another runner has accepted already
// is no error.
//
// When ctx ends the stage is stopped: its steps are killed, and it is reported as an error if the
// cause is ErrStopped, as killed otherwise. Whatever goes wrong once the stage was accepted is
// reported as its error, a panic too, so that no stage stays pending or running for a reason that
// lies here; what Run returns then says what it was, for the operator. A stage whose end couldn't
// be reported is left to Recovery.
//
// free is called when the stage needs its slot no longer: nothing of it is left in the daemon,
// though its report may still be under way. It may be called more than once.
func (r *Runner) Run(ctx context.Context, stage *drone.Stage, free func()) error {
	log := orStandard(r.Log).WithFields(logrus.Fields{"stage.id": stage.ID, "stage.name": stage.Name})
	reportCtx, release := lingering(ctx, r.ReportGrace)
	defer release()

	accepted := copyStage(*stage)
	accepted.Machine = r.Machine
	entry, err := r.enter(ctx, accepted)
	if err != nil {
		return err
	}
	// Whatever goes wrong, somebody has to see what the server knows of this.
	leave := entry.Abandon
	defer func() { leave() }()
	err = r.Client.Accept(ctx, &accepted)
	if errors.Is(err, client.ErrOptimisticLock) {
		leave = entry.Remove
		log.Debug("another runner has the stage")
		return nil
	}
	if err != nil {
		return fmt.Errorf("accept stage %d: %w", stage.ID, err)
	}
	log.Debug("stage accepted")

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &life{runner: r, log: log, stage: accepted, entry: entry, reportCtx: reportCtx, cancel: cancel, free: free}
	leave = l.leave
	err = protect("run the stage", func() error { return l.live(ctx) })
	free()
	switch {
	case err == nil:
		return nil
	case l.told && errors.Is(err, ErrCancelled):
		log.Debug(err)
		return nil
	}
	var panicked *PanicError
	if errors.As(err, &panicked) {
		log.WithField("stack", string(panicked.Stack)).Error(panicked.Error())
	}
	if !l.told {
		err = errors.Join(err, l.fail(ctx, err))
	}
	return fmt.Errorf("stage %d: %w", stage.ID, err)
}

// enter writes a stage into the journal, before it is accepted. A runner that can't keep what it
// takes on doesn't take it on, and waits a moment so that others may.
func (r *Runner) enter(ctx context.Context, stage drone.Stage) (*journal.Entry, error) {
	if r.Journal == nil {
		return nil, nil
	}
	entry, err := r.Journal.Begin(stage)
	if err != nil {
		err = fmt.Errorf("stage %d is left to other runners: %w", stage.ID, err)
		if pause.For(ctx, noRoomPause) != nil {
			return nil, err
		}
	}
	return entry, err
}

// noRoomPause is how long a slot is held whose stage couldn't be written down: the server offers
// the stage again at once.
const noRoomPause = 10 * time.Second

// life is one stage that was accepted.
type life struct {
	runner    *Runner
	log       logrus.FieldLogger
	stage     drone.Stage
	entry     *journal.Entry
	reportCtx context.Context //nolint:containedctx // the stage's life, and what follows it
	// cancel ends the life's context for a cause.
	cancel context.CancelCauseFunc
	// free gives the slot back.
	free func()
	// told is set when the server knows how the stage ended, or can't be told.
	told bool
}

// leave ends the journal's entry, or leaves it to who tells the server later.
func (l *life) leave() {
	if l.told {
		l.entry.Remove()
	} else {
		l.entry.Abandon()
	}
}

// live gets the details, compiles and executes. What it returns is still to be reported, unless
// told is set.
func (l *life) live(ctx context.Context) error {
	r := l.runner
	details, err := r.Client.Detail(ctx, &l.stage)
	if err != nil {
		return fmt.Errorf("get the details of the stage: %w", err)
	}
	if err := check(details); err != nil {
		return err
	}
	if rpc.Final(details.Stage.Status) {
		// Between the accept and now. To begin it would be to undo that: the server takes it, since
		// the version is the newest.
		l.told = true
		return fmt.Errorf("%w before it began", ErrCancelled)
	}
	if details.Stage.ID == l.stage.ID {
		l.stage = copyStage(*details.Stage)
		l.stage.Machine = r.Machine
	}
	l.log = l.log.WithFields(logrus.Fields{"repo": details.Repo.Slug, "build.id": details.Build.ID, "build.number": details.Build.Number})

	endWatch := watch(ctx, r.Client, &l.stage, details.Build.ID, l.log, func() { l.cancel(ErrCancelled) })
	defer endWatch()

	if r.Permit != nil {
		if err := r.Permit(details.Repo, details.Build); err != nil {
			return err
		}
	}
	// What compiles asks the operator's providers, which may hang.
	limit := r.timeout(details.Repo)
	expiry := time.AfterFunc(limit, func() { l.cancel(&TimeoutError{Limit: limit}) })
	s, err := r.Compile(ctx, details)
	expiry.Stop()
	if err != nil {
		return err
	}
	if s == nil {
		return errors.New("compile the pipeline: there is no spec and no error")
	}

	// From here on there may be something to clean up.
	err = l.entry.Update(func(record *journal.Record) {
		record.Stage, record.Stage.Steps = l.stage, nil
		record.Repo, record.Build, record.Spec = details.Repo.Slug, details.Build.Number, s.ID
	})
	if err != nil {
		return fmt.Errorf("the runner has no room to keep account of the build: %w", err)
	}

	remote := NewRemote(l.reportCtx, r.Client, r.Logs, l.log)
	remote.entry = l.entry
	defer remote.Close()
	record, err := r.Executor.Run(ctx, Job{
		Spec:     s,
		Build:    details.Build,
		Stage:    &l.stage,
		Timeout:  limit,
		Reporter: &begun{Remote: remote, life: l, endWatch: endWatch},
		Ended:    l.ended,
		Cleaned:  l.free,
	})
	if err != nil {
		if rpc.Final(record.Status) {
			// It ran, and its end couldn't be told. Once more, and just that: the steps were told
			// of one by one.
			l.stage, l.stage.Version = record, remote.Stage().Version
			l.stage.Steps = nil
		}
		return err
	}
	l.told = true
	l.log.WithField("status", record.Status).Info("stage ended")
	r.counts(record.Status)
	return nil
}

// ended writes down how the stage ended: should the runner be killed while it cleans up, that is
// what the server is to be told.
func (l *life) ended(stage drone.Stage) {
	l.entry.Note(func(record *journal.Record) { record.Stage, record.Stage.Steps = stage, nil })
}

// timeout is the stage's: the repository's, in minutes, or the runner's default.
func (r *Runner) timeout(repo *drone.Repo) time.Duration {
	const most = 365 * 24 * 60 // minutes; more would overflow, and is a mistake
	switch {
	case repo.Timeout > 0:
		return time.Duration(min(repo.Timeout, most)) * time.Minute
	case r.Timeout > 0:
		return r.Timeout
	}
	return DefaultTimeout
}

// check refuses details without which nothing can be run.
func check(details *client.Context) error {
	missing := ""
	switch {
	case details == nil:
		missing = "nothing"
	case details.Build == nil:
		missing = "no build"
	case details.Repo == nil:
		missing = "no repository"
	case details.Stage == nil:
		missing = "no stage"
	}
	if missing != "" {
		return fmt.Errorf("get the details of the stage: the server's answer has %s", missing)
	}
	return nil
}

// fail reports how a stage ended that couldn't be run to its end: by the error, or by what ended
// its context. A stage that the server has ended already stays as it is.
func (l *life) fail(ctx context.Context, err error) error {
	if !rpc.Final(l.stage.Status) {
		l.stage.Status, l.stage.ExitCode, l.stage.Error = drone.StatusError, exitError, err.Error()
		if ctx.Err() != nil {
			verdict(&l.stage, context.Cause(ctx))
		}
		l.stage.Started, l.stage.Stopped = span(l.stage.Started, now())
	}
	for _, step := range l.stage.Steps {
		if !rpc.Final(step.Status) {
			step.Status, step.Started, step.Stopped = drone.StatusSkipped, l.stage.Stopped, l.stage.Stopped
		}
	}
	l.entry.Note(func(record *journal.Record) { record.Stage, record.Stage.Steps = l.stage, nil })
	put := protect("report the error of the stage", func() error { return l.runner.Client.Update(l.reportCtx, &l.stage) })
	if put == nil || errors.Is(put, client.ErrOptimisticLock) {
		l.told = true
		l.runner.counts(l.stage.Status)
		return nil
	}
	return fmt.Errorf("report it: %w", put)
}

// begun is a Remote that lets its life know the newest record, so that a stage whose end couldn't
// be reported in the usual way can still be failed, and that ends the watch before the server
// writes the end itself, which the watch would take for a cancel.
type begun struct {
	*Remote
	life     *life
	endWatch func()
}

// Begin is the Remote's. A lock error says that the server has ended the stage in the meantime, by
// a cancel; if it hasn't, the newest version is taken from it, so that the error that this is can
// be reported.
func (b *begun) Begin(ctx context.Context, stage drone.Stage) error {
	err := b.Remote.Begin(ctx, stage)
	if err == nil {
		b.life.stage = b.Remote.Stage()
		return nil
	}
	if !errors.Is(err, client.ErrOptimisticLock) {
		return err
	}
	details, derr := b.life.runner.Client.Detail(ctx, &stage)
	if derr == nil && check(details) == nil && !rpc.Final(details.Stage.Status) && details.Stage.Machine == stage.Machine {
		b.life.stage.Version = details.Stage.Version
		return err
	}
	b.life.told = true
	return fmt.Errorf("%w before it began", ErrCancelled)
}

// End is the Remote's.
func (b *begun) End(ctx context.Context, stage drone.Stage) error {
	b.endWatch()
	return b.Remote.End(ctx, stage)
}

// lingering is a context that outlives ctx by a grace, and ends at once when it is released.
func lingering(ctx context.Context, grace time.Duration) (context.Context, func()) {
	if grace <= 0 {
		grace = DefaultReportGrace
	}
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(fmt.Errorf("%w, %s ago", context.Cause(ctx), grace))
		case <-out.Done():
		}
	})
	return out, func() {
		stop()
		cancel(nil)
	}
}
