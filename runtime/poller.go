package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// The pauses of a Poller.
const (
	firstPause = 500 * time.Millisecond
	mostPause  = 30 * time.Second
	// quick is how fast an empty answer comes that no server has held; patience is how many of them in a row are answered with a poll at once.
	quick    = 50 * time.Millisecond
	patience = 3
)

// Poller asks a Drone server for stages and hands them out. There is one poll at a time, and only while there is a free slot, so a stage that was asked for is lived at once.
type Poller struct {
	Client interface {
		// Request waits for a stage; (nil, nil) says that there was none.
		Request(ctx context.Context, filter *client.Filter) (*drone.Stage, error)
	}
	// Wait returns when stages can be run here, before each poll; nil never waits. Its error ends Run as
	// the end of poll does.
	Wait func(ctx context.Context) error
	// Filter tells what kind of stages this runner lives.
	Filter *client.Filter
	// Capacity is the number of slots, that is of stages at once; less than 1 is 1.
	Capacity int
	// Dispatch lives a stage; it returns when that is over.
	Dispatch func(ctx context.Context, stage *drone.Stage) error
	// Log is the operator's; nil is logrus's standard logger.
	Log logrus.FieldLogger
}

// Run polls until poll is over and then waits for the stages that it handed out, which live in the context builds. Drain makes the two contexts.
//
// An empty answer is followed by the next poll at once. After an error comes a pause, from half a second to thirty, doubled each time and jittered, and over as
// soon as poll is; a secret that the server refuses is asked about every half minute.
func (p *Poller) Run(poll, builds context.Context) {
	log := orStandard(p.Log)
	capacity := int64(max(p.Capacity, 1))
	slots := semaphore.NewWeighted(capacity)
	var stages sync.WaitGroup
	defer stages.Wait()

	errorPauses, emptyPauses := pause.Growing(firstPause, mostPause), pause.Growing(firstPause/5, 2*time.Second)
	empty := 0
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
		wait := time.Duration(0)
		switch {
		case poll.Err() != nil:
			// Whatever came is not ours: it wasn't accepted, so the server offers it again.
			slots.Release(1)
			return
		case err != nil:
			wait = errorPauses.NextBackOff()
			if errors.Is(err, rpc.ErrUnauthorized) {
				wait = mostPause
			}
			log.WithError(err).Errorf("no stage can be fetched; next try in %s", wait.Round(time.Second/10))
		case stage == nil && time.Since(began) < quick:
			errorPauses.Reset()
			if empty++; empty > patience {
				wait = emptyPauses.NextBackOff()
			}
		default:
			errorPauses.Reset()
			emptyPauses.Reset()
			empty = 0
		}
		if stage == nil || err != nil {
			slots.Release(1)
			if wait > 0 && pause.For(poll, wait) != nil {
				return
			}
			continue
		}
		stages.Go(func() {
			defer slots.Release(1)
			err := protect(fmt.Sprintf("run stage %d", stage.ID), func() error { return p.Dispatch(builds, stage) })
			var panicked *PanicError
			switch {
			case errors.As(err, &panicked):
				log.WithField("stack", string(panicked.Stack)).Error(err)
			case err != nil:
				log.Warn(err)
			}
		})
	}
}
