package runtime

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

// courier delivers the reports of one step.
type courier struct {
	remote *Remote
	log    logrus.FieldLogger
	// id of the step, and of its stage; number of it in the stage.
	id, stage int64
	number    int
	name      string
	// end takes one ending, and never blocks its sender.
	end chan ending
	// ready is closed when the server knows that the step runs, or won't be told: live lines make
	// sense then.
	ready chan struct{}
	// started is set before the courier sets off. spool is the step's log, nil if there is none;
	// lost is why a step that ran has none.
	started bool
	spool   *livelog.Log
	lost    error

	// mu guards the server's view of the step, and that it is told one thing at a time.
	mu   sync.Mutex
	step drone.Step
	// reopened is set when the live log was opened a second time, mute when that didn't help.
	reopened, mute bool
}

// ending is the last that happens to a step.
type ending struct {
	step drone.Step
	card *drone.CardInput
}

// newCourier is a courier for a step as the server knows it.
func newCourier(r *Remote, step drone.Step) *courier {
	return &courier{
		remote: r,
		id:     step.ID,
		stage:  step.StageID,
		number: step.Number,
		name:   step.Name,
		log:    r.log.WithFields(logrus.Fields{"step.id": step.ID, "step": step.Name}),
		end:    make(chan ending, 1),
		ready:  make(chan struct{}),
		step:   step,
	}
}

// open makes the step's log. Without one, because of the disk, the step runs and is reported all
// the same.
func (c *courier) open() Log {
	c.started = true
	spool, err := livelog.New(livelog.Options{
		Dir:      c.remote.logs.Dir,
		Limit:    c.remote.logs.Limit,
		Interval: c.remote.logs.Interval,
		Send: func(ctx context.Context, lines []*drone.Line) error {
			err := protect("send the live log of a step", func() error { return c.batch(ctx, lines) })
			c.logPanic(err)
			return err
		},
	})
	if err != nil {
		c.log.WithError(err).Error("there is no place for the log of a step: it is lost")
		c.lost = err
		return nil
	}
	c.spool = spool
	return spool
}

// guard makes deliveries in a goroutine of their own, where nobody else catches a panic. What a
// panic leaves untold about the step comes with the stage's end.
func (c *courier) guard(deliver func()) {
	err := protect("deliver the reports of a step", func() error {
		deliver()
		return nil
	})
	if err == nil {
		return
	}
	c.logPanic(err)
	if c.spool != nil {
		_ = c.spool.Remove() // The panic is what there is to tell.
	}
}

// logPanic writes a panic's stack to the runner's log.
func (c *courier) logPanic(err error) {
	var panicked *PanicError
	if errors.As(err, &panicked) {
		c.log.WithField("stack", string(panicked.Stack)).Error(panicked.Error())
	}
}

// deliver tells the server of a step that ran, from its start to its end.
func (c *courier) deliver(step drone.Step) {
	c.update(step)
	close(c.ready)
	c.finish()
}

// finish tells of the step's end, once it has come.
func (c *courier) finish() {
	var end ending
	select {
	case end = <-c.end:
		if c.started {
			c.note(func(step *journal.Step) {
				step.State, step.Card = c.versioned(end.step, step.State.Version), end.card
			})
		}
	case <-c.remote.ctx.Done():
		// The stage was given up.
	}
	lost := c.upload()
	if end.step.Status == "" {
		return
	}
	if lost != nil {
		c.remote.lose(lost)
		if end.step.Error == "" {
			end.step.Error = lost.Error()
		}
	}
	if end.card != nil {
		if err := c.remote.client.UploadCard(c.remote.ctx, c.id, end.card); err != nil {
			c.log.WithError(err).Warn("the card of a step is lost")
		} else {
			end.step.Schema = end.card.Schema
		}
	}
	c.update(end.step)
}

// upload delivers the whole log, if there is one, and forgets it. A log that can't be delivered
// doesn't change the outcome of the step: the error, a *LostLogError, says that the server refused
// it for good.
func (c *courier) upload() error {
	ctx, remote := c.remote.ctx, c.remote
	var err error
	switch {
	case c.spool == nil && c.lost != nil:
		line := &drone.Line{Message: fmt.Sprintf("the log of this step is lost: the runner had no place for it: %v\n", c.lost)}
		err = remote.client.Upload(ctx, c.id, []*drone.Line{line})
	case c.spool == nil:
		return nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = delivery{client: remote.client, keep: remote.logs.Lost, step: drone.Step{ID: c.id, StageID: c.stage, Number: c.number, Name: c.name}, log: c.log}.deliver(ctx, c.spool)
	}
	var lost *LostLogError
	if err != nil && !errors.As(err, &lost) {
		c.log.WithError(err).Warn("the log of a step couldn't be uploaded: the server has what it got live")
	}
	if c.spool != nil {
		c.forget(err)
	}
	if lost != nil {
		return lost
	}
	return nil
}

// forget closes or removes the spool after its upload.
func (c *courier) forget(upload error) {
	var err error
	if (c.remote.ctx.Err() != nil || errors.Is(upload, rpc.ErrUnauthorized)) && c.remote.entry != nil {
		// The journal knows of it: another try comes, since the end of the stage can't be reported
		// either, and the spool goes with the journal's entry.
		err = c.spool.Wait()
	} else {
		err = c.spool.Remove()
	}
	if err != nil {
		c.log.WithError(err).Warn("the spool of a log couldn't be closed or removed")
	}
}

// note writes down how the step stands.
func (c *courier) note(change func(*journal.Step)) {
	c.remote.entry.Note(func(record *journal.Record) {
		if step := record.Step(c.number); step != nil {
			change(step)
		}
	})
}

// versioned is the step under the id that the server gave it, with a version.
func (c *courier) versioned(step drone.Step, version int64) drone.Step {
	step.ID, step.StageID, step.Version = c.id, c.stage, version
	return step
}

// update tells the server the state of the step. That the server knows better, after a cancel, is
// no trouble.
func (c *courier) update(step drone.Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(step)
}

// put is update for one who holds the lock.
func (c *courier) put(step drone.Step) {
	step = c.versioned(step, c.step.Version)
	if c.remote.ctx.Err() != nil {
		return // It was given up, and the journal shall not say that it may have arrived.
	}
	c.note(func(noted *journal.Step) {
		noted.Told = step.Status
		if rpc.Final(noted.State.Status) && !rpc.Final(step.Status) {
			noted.State.Version = step.Version // It has ended in the meantime.
		} else {
			noted.State = step
		}
		if c.spool != nil {
			noted.Spool = filepath.Base(c.spool.Path())
		}
	})
	err := c.remote.client.UpdateStep(c.remote.ctx, &step)
	switch {
	case err == nil:
		c.step = step
	case errors.Is(err, client.ErrOptimisticLock):
		c.log.WithError(err).Debug("the server has another state for the step")
	default:
		c.log.WithError(err).Warnf("the server couldn't be told that a step is %q", step.Status)
	}
}

// batch shows lines to those who watch the step. A server that has lost the stream, by a restart,
// gets the state of the step once more, which opens it anew; if it still doesn't want the lines
// they come with the upload.
func (c *courier) batch(ctx context.Context, lines []*drone.Line) error {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mute {
		return nil
	}
	err := c.remote.client.Batch(ctx, c.id, lines)
	if !errors.Is(err, rpc.ErrStreamNotFound) {
		return err
	}
	if !c.reopened {
		c.reopened = true
		c.put(c.step)
		if err = c.remote.client.Batch(ctx, c.id, lines); !errors.Is(err, rpc.ErrStreamNotFound) {
			return err
		}
	}
	c.mute = true
	c.log.Info("the server has lost the live log of a step: its lines come with the upload")
	return nil
}

// stamp gives the record the id and the version that the server knows the step by, and the schema
// of its card.
func (c *courier) stamp(step *drone.Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	step.ID, step.StageID, step.Version, step.Schema = c.step.ID, c.step.StageID, c.step.Version, c.step.Schema
	if step.Error == "" {
		step.Error = c.step.Error
	}
}
