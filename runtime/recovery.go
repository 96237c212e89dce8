package runtime

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// ErrInterrupted is how a stage ended that ran when the runner was killed, and so is each of its
// steps that ran.
var ErrInterrupted = errors.New("the runner stopped while this ran")

// The pauses between two attempts at telling the server of a stage, and how many stages are told of
// at once.
const (
	firstRecoveryPause = time.Second
	mostRecoveryPause  = 5 * time.Minute
	recoveriesAtOnce   = 4
)

// Recovery ends what the journal's orphans speak of: stages that an earlier process of the runner
// was killed in, and those of this one whose end couldn't be told.
//
//  1. Sweep, once, before anything new is accepted: what they left in the daemon is removed.
//  2. Run, until its context ends: the server is told of each, and then its entry goes.
type Recovery struct {
	Journal *journal.Journal
	Client  Client
	// Sweep removes the containers, networks and volumes of the spec of that id.
	Sweep func(ctx context.Context, spec string) error
	// Logs are the options of the stages' logs.
	Logs LogOptions
	// SweepTimeout limits the removal for one stage; 0 is DefaultDestroyTimeout.
	SweepTimeout time.Duration
	// Ended, unless it is nil, is called with the status of each stage whose end the server knows
	// by this.
	Ended func(status string)
	// Log is the operator's; nil is logrus's standard logger.
	Log logrus.FieldLogger
}

// SweepAll removes what the stages of the orphans left. What can't be removed is for the operator's
// log, and for the reaper.
func (r *Recovery) SweepAll(ctx context.Context) {
	atOnce(r.Journal.Orphans(), func(e *journal.Entry) { r.sweep(ctx, e) })
}

// sweep removes what one stage left.
func (r *Recovery) sweep(ctx context.Context, e *journal.Entry) {
	record := e.Record()
	log := r.about(record)
	if record.Spec == "" {
		return
	}
	limit := r.SweepTimeout
	if limit <= 0 {
		limit = DefaultDestroyTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := protect("remove what a stage left", func() error { return r.Sweep(ctx, record.Spec) }); err != nil {
		log.WithError(err).Error("a stage left something behind in the daemon")
		return
	}
	log.Info("what an interrupted stage left is removed")
}

// Run tells the server of every orphan, those that come while it runs included, until the context
// ends. One that can't be told of is tried again, with growing pauses; what is left then is there
// at the next start.
func (r *Recovery) Run(ctx context.Context) {
	var telling sync.WaitGroup
	defer telling.Wait()
	slots := make(chan struct{}, recoveriesAtOnce)
	begun := map[*journal.Entry]bool{}
	first := true
	for {
		for _, e := range r.Journal.Orphans() {
			if begun[e] {
				continue
			}
			begun[e] = true
			sweep := !first // SweepAll has done the first ones.
			telling.Go(func() {
				if sweep {
					r.sweep(ctx, e)
				}
				r.persist(ctx, e, slots)
			})
		}
		first = false
		select {
		case <-r.Journal.Abandoned():
		case <-ctx.Done():
			return
		}
	}
}

// persist tells of one stage until it is told.
func (r *Recovery) persist(ctx context.Context, e *journal.Entry, slots chan struct{}) {
	log := r.about(e.Record())
	pauses := pause.Growing(firstRecoveryPause, mostRecoveryPause)
	for ctx.Err() == nil {
		var err error
		select {
		case slots <- struct{}{}:
			err = protect("tell the server of an interrupted stage", func() error { return r.tell(ctx, e, log) })
			<-slots
		case <-ctx.Done():
			return
		}
		if err == nil {
			e.Remove()
			return
		}
		if ctx.Err() != nil {
			return
		}
		wait := pauses.NextBackOff()
		log.WithError(err).Warnf("the server doesn't know yet how a stage ended; next try in %s", wait.Round(time.Second/10))
		if pause.For(ctx, wait) != nil {
			return
		}
	}
}

// tell brings the server up to date about one stage. Its error says that another try makes sense.
func (r *Recovery) tell(ctx context.Context, e *journal.Entry, log logrus.FieldLogger) error {
	record := e.Record()
	details, err := r.Client.Detail(ctx, &record.Stage)
	if forgotten(err) {
		log.Info("the server has forgotten a stage that was interrupted")
		return nil
	}
	if err != nil {
		return err
	}
	if details == nil || details.Stage == nil {
		return errors.New("the server's answer has no stage")
	}
	there := copyStage(*details.Stage)
	there.Steps = nil
	if there.Machine != record.Runner || r.Journal.Lives(there.ID) {
		// The accept never arrived; whoever has it now tells of it.
		return nil
	}
	ended := rpc.Final(there.Status) // by a cancel, or by the last that the earlier process said
	if !ended && there.Status != drone.StatusRunning {
		record.Steps = nil // it never began
	}
	at := now()
	var lost []error
	for i := range record.Steps {
		s := &recovered{Recovery: r, Step: record.Steps[i], path: e.Spool(record.Steps[i]), log: log.WithField("step", record.Steps[i].State.Name)}
		lost = append(lost, s.tell(ctx, record.Stage, at, ended))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if ended {
		return nil
	}
	conclude(&there, record.Stage, at)
	if err := errors.Join(lost...); err != nil && there.Error == "" {
		there.Error = err.Error()
	}
	err = r.Client.Update(ctx, &there)
	if err != nil && !errors.Is(err, client.ErrOptimisticLock) && !forgotten(err) {
		return err
	}
	if r.Ended != nil && err == nil {
		r.Ended(there.Status)
	}
	log.WithField("status", there.Status).Info("the server knows how an interrupted stage ended")
	return nil
}

// forgotten reports whether the server itself says that there is no such stage. A proxy whose
// server is away may say 404.
func forgotten(err error) bool {
	var status *rpc.StatusError
	return errors.Is(err, rpc.ErrNotFound) && errors.As(err, &status) && status.Status == http.StatusInternalServerError
}

// conclude ends the server's record of a stage: as it ended here, if it did, or as the crash ended
// it.
func conclude(there *drone.Stage, here drone.Stage, at int64) {
	there.Started = here.Started
	if rpc.Final(here.Status) {
		there.Status, there.ExitCode, there.Error, there.Stopped = here.Status, here.ExitCode, here.Error, here.Stopped
	} else {
		there.Status, there.ExitCode, there.Error, there.Stopped = drone.StatusError, exitError, ErrInterrupted.Error(), at
	}
	there.Started, there.Stopped = span(there.Started, there.Stopped)
}

// about is the operator's log for a stage.
func (r *Recovery) about(record journal.Record) logrus.FieldLogger {
	return orStandard(r.Log).WithFields(logrus.Fields{"stage.id": record.Stage.ID, "stage.name": record.Stage.Name, "repo": record.Repo, "build.number": record.Build, "spec": record.Spec})
}

// atOnce calls f for each entry, a few at a time, and waits.
func atOnce(entries []*journal.Entry, f func(*journal.Entry)) {
	var all sync.WaitGroup
	slots := make(chan struct{}, recoveriesAtOnce)
	for _, e := range entries {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			f(e)
		})
	}
	all.Wait()
}
