package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// The pauses of a Poller.
const (
	// firstPause and mostPause follow failed polls. The longest, jittered by half, is short enough
	// that the poller is there within 5 s of the return of a server that was away.
	firstPause = 500 * time.Millisecond
	mostPause  = 2 * time.Second
	// refusedPause follows a poll whose secret the server refuses: only a person can change that.
	refusedPause = 30 * time.Second
	// quick is how fast an empty answer comes that no server has held. patience is how many of them
	// in a row are answered with a poll at once.
	quick    = 50 * time.Millisecond
	patience = 3
)

// Poller asks a Drone server for stages and hands them out. There is one poll at a time, and only
// while a slot is free, so that a stage that the server offers begins at once.
type Poller struct {
	Client interface {
		// Request waits for a stage; (nil, nil) says that there was none.
		Request(ctx context.Context, filter *client.Filter) (*drone.Stage, error)
	}
	// Wait returns when stages can be run here, before each poll; nil never waits. Its error ends
	// Run as the end of poll does.
	Wait func(ctx context.Context) error
	// Filter says what kind of stages this runner takes.
	Filter *client.Filter
	// Capacity is the number of slots, that is of stages at once; less than 1 is 1.
	Capacity int
	// Dispatch runs a stage and returns when it is over and reported. It calls free when the stage
	// no longer needs its slot; the slot is free in any case when it returns.
	Dispatch func(ctx context.Context, stage *drone.Stage, free func()) error
	// Heard, unless it is nil, is called after each poll: with its error, or with nil when the
	// server answered.
	Heard func(error)
	// Log is the operator's; nil is logrus's standard logger.
	Log logrus.FieldLogger
}

// Run polls until the context poll ends and then waits for the stages that it handed out, whose
// context is stages. Drain makes the two contexts.
//
// An empty answer is followed by the next poll at once, and an error by a pause, which ends as soon
// as poll does.
func (p *Poller) Run(poll, stages context.Context) {
	slots := semaphore.NewWeighted(int64(max(p.Capacity, 1)))
	var running sync.WaitGroup
	defer running.Wait()
	pace := newPace(orStandard(p.Log))
	for slots.Acquire(poll, 1) == nil {
		if p.Wait != nil {
			if err := p.Wait(poll); err != nil {
				slots.Release(1)
				return
			}
		}
		began := time.Now()
		var stage *drone.Stage
		err := protect("ask for a stage", func() (err error) {
			stage, err = p.Client.Request(poll, p.Filter)
			return err
		})
		if poll.Err() != nil {
			// The stage that may have come isn't accepted, so the server offers it again.
			slots.Release(1)
			return
		}
		if p.Heard != nil {
			p.Heard(err)
		}
		wait := pace.after(stage, err, time.Since(began))
		if stage == nil || err != nil {
			slots.Release(1)
			if pause.For(poll, wait) != nil {
				return
			}
			continue
		}
		running.Go(func() { p.dispatch(stages, stage, sync.OnceFunc(func() { slots.Release(1) })) })
	}
}

// dispatch runs a stage and gives its slot back.
func (p *Poller) dispatch(ctx context.Context, stage *drone.Stage, free func()) {
	defer free()
	log := orStandard(p.Log).WithField("stage.id", stage.ID)
	err := protect(fmt.Sprintf("run stage %d", stage.ID), func() error { return p.Dispatch(ctx, stage, free) })
	var panicked *PanicError
	switch {
	case errors.As(err, &panicked):
		log.WithError(err).WithField("stack", string(panicked.Stack)).Error("the run of a stage panicked")
	case err != nil:
		log.WithError(err).Warn("a stage didn't run as it should")
	}
}

// pace decides how long the poller waits before its next poll.
type pace struct {
	log           logrus.FieldLogger
	errors, empty *backoff.ExponentialBackOff
	inARow        int // quick empty answers
	reminder      pause.Reminder
}

// newPace returns the pace of a new poller.
func newPace(log logrus.FieldLogger) *pace {
	return &pace{log: log, errors: pause.Growing(firstPause, mostPause), empty: pause.Growing(firstPause/5, mostPause)}
}

// after returns the pause that follows a poll which took so long.
func (p *pace) after(stage *drone.Stage, err error, took time.Duration) time.Duration {
	if err != nil {
		return p.failed(err)
	}
	p.errors.Reset()
	p.reminder.Reset()
	if stage != nil || took >= quick {
		p.empty.Reset()
		p.inARow = 0
		return 0
	}
	if p.inARow++; p.inARow <= patience {
		return 0
	}
	return p.empty.NextBackOff()
}

// failed returns the pause that follows a failed poll, and logs the failure.
func (p *pace) failed(err error) time.Duration {
	wait := p.errors.NextBackOff()
	if errors.Is(err, rpc.ErrUnauthorized) {
		wait = refusedPause
	}
	const text = "no stage can be fetched"
	log := p.log.WithError(err).WithField("pause", wait.Round(time.Second/10).String())
	if p.reminder.Next() {
		log.Error(text)
	} else {
		log.Debug(text)
	}
	return wait
}
