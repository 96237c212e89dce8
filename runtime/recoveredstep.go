package runtime

import (
	"context"
	"errors"
	"os"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

// recovered is a step of a stage that was interrupted.
//
// The server doesn't tell the versions of steps. But nothing else changes those of a running stage,
// and each telling was written down before it was tried, so the version is the one that was written
// down, or one more if that telling arrived.
type recovered struct {
	*Recovery
	journal.Step
	// path of its spool, "" if it has none.
	path string
	log  logrus.FieldLogger
}

// tell brings the server up to date about the step. If the server has ended the stage there is but
// the log to be delivered. What can't be delivered is lost, and changes nothing for the stage, as
// it wouldn't have if the runner had lived on.
//
// The error is a *LostLogError, for the report of the stage.
func (s *recovered) tell(ctx context.Context, stage drone.Stage, at int64, ended bool) error {
	if s.Told == drone.StatusRunning && !ended {
		s.resume(ctx)
	}
	ran := interrupt(&s.State, stage, at)
	lost := s.upload(ctx, ran)
	if ended || ctx.Err() != nil {
		return lost
	}
	if lost != nil && s.State.Error == "" {
		s.State.Error = lost.Error()
	}
	if s.Card != nil && s.Told == drone.StatusRunning {
		if err := s.Client.UploadCard(ctx, s.State.ID, s.Card); err != nil {
			s.log.WithError(err).Warn("the card of a step is lost")
		} else {
			s.State.Schema = s.Card.Schema
		}
	}
	if err := s.Client.UpdateStep(ctx, &s.State); err != nil && !errors.Is(err, client.ErrOptimisticLock) {
		s.log.WithError(err).WithField("status", s.State.Status).Warn("the state of a step couldn't be reported")
	}
	return lost
}

// resume tells once more that the step runs, as it did when it was last told: a log is taken of
// such steps alone. Whether this arrives or the first telling did decides the version.
func (s *recovered) resume(ctx context.Context) {
	running := s.State
	running.Status, running.ExitCode, running.Error, running.Stopped = drone.StatusRunning, 0, "", 0
	err := s.Client.UpdateStep(ctx, &running)
	switch {
	case err == nil:
		s.State.Version = running.Version
	case errors.Is(err, client.ErrOptimisticLock):
		s.State.Version++
	default:
		s.log.WithError(err).Warnf("the server couldn't be told that a step was %q", running.Status)
	}
}

// interrupt ends the state of a step as the crash did, and reports whether it was running then. One
// that had ended stays as it was.
func interrupt(step *drone.Step, stage drone.Stage, at int64) (ran bool) {
	switch {
	case rpc.Final(step.Status):
		return false
	case step.Status == drone.StatusRunning:
		step.Status, step.ExitCode, step.Error, ran = drone.StatusError, exitError, ErrInterrupted.Error(), true
	default:
		step.Status = drone.StatusSkipped
	}
	step.Stopped = at
	if rpc.Final(stage.Status) {
		step.Stopped = stage.Stopped
	}
	step.Started, step.Stopped = span(step.Started, step.Stopped)
	return ran
}

// upload delivers the log of the step, if that was still to be done. The log of one that was
// interrupted ends with a line that says so. The error, a *LostLogError, says that the server
// refused it for good.
func (s *recovered) upload(ctx context.Context, interrupted bool) error {
	if s.path == "" || ctx.Err() != nil {
		return nil
	}
	notice := ""
	if interrupted {
		notice = "stopped: " + ErrInterrupted.Error()
	}
	spool, err := livelog.Recover(s.path, s.Logs.Limit, notice)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was delivered
	}
	if err == nil {
		err = delivery{client: s.Client, keep: s.Logs.Lost, step: s.State, log: s.log}.deliver(ctx, spool)
	}
	if ctx.Err() != nil {
		return nil
	}
	var lost *LostLogError
	if err != nil && !errors.As(err, &lost) {
		s.log.WithError(err).Warn("the log of an interrupted step couldn't be uploaded: the server has what it got live")
	}
	if err := os.RemoveAll(s.path); err != nil {
		s.log.WithError(err).Warn("the spool of a log couldn't be removed")
	}
	if lost != nil {
		return lost
	}
	return nil
}
