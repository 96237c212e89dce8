package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
)

// Client is the Drone server: runner-go's interface, and an upload of logs that needn't be in
// memory. It repeats by itself what can be repeated, until its context ends (Request and Batch
// excepted).
type Client interface {
	client.Client
	// UploadFrom stores the whole log of a step, a JSON array of lines, from what open gives; open
	// may be called again for another attempt.
	UploadFrom(ctx context.Context, step int64, open func() (io.ReadCloser, error)) error
}

// LogOptions say how the logs of steps are kept until the server has them.
type LogOptions struct {
	// Dir is the folder for logs that aren't delivered yet; "" is the system's folder for temporary
	// files.
	Dir string
	// Limit is how many bytes of a log are kept; 0 is livelog's default.
	Limit int64
	// Lost stores the logs that the server refuses for good; nil keeps none.
	Lost LostLogs
	// Interval between live batches; 0 is livelog's default.
	Interval time.Duration
}

// Remote reports one stage to a Drone server. Each step has a courier of its own, a goroutine that
// delivers in order what there is to tell of the step: that it runs, its log while it grows, the
// whole log, its card, how it ended. The stage waits for the server at its begin and end alone.
type Remote struct {
	client Client
	logs   LogOptions
	log    logrus.FieldLogger
	// entry is the stage's in the journal; nil if there is no journal.
	entry *journal.Entry

	// ctx is that of all deliveries but Begin; cancel gives up what isn't delivered.
	ctx    context.Context //nolint:containedctx // deliveries outlive the calls that ask for them
	cancel context.CancelFunc

	mu       sync.Mutex
	stage    drone.Stage
	couriers map[int]*courier // by the number of the step
	lost     []error          // the logs that the server refused
	running  sync.WaitGroup
}

var _ Reporter = (*Remote)(nil)

// NewRemote makes a reporter whose deliveries go on until End returns, Close is called or ctx is
// over. ctx isn't the stage's: a cancelled stage has to be reported as well. A nil log is logrus's
// standard logger.
func NewRemote(ctx context.Context, c Client, logs LogOptions, log logrus.FieldLogger) *Remote {
	ctx, cancel := context.WithCancel(ctx)
	return &Remote{client: c, logs: logs, log: orStandard(log), ctx: ctx, cancel: cancel, couriers: map[int]*courier{}}
}

// Begin tells the server that the stage runs and which steps it has, and learns their ids.
func (r *Remote) Begin(ctx context.Context, stage drone.Stage) error {
	stage = copyStage(stage)
	if err := r.client.Update(ctx, &stage); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stage = stage
	for _, step := range stage.Steps {
		if step == nil {
			continue
		}
		if step.ID == 0 {
			return fmt.Errorf("update stage %d: the server gave step %q no id", stage.ID, step.Name)
		}
		r.couriers[step.Number] = newCourier(r, *step)
	}
	r.entry.Note(func(record *journal.Record) {
		record.Stage, record.Stage.Steps = stage, nil
		for _, step := range stage.Steps {
			if step != nil {
				record.Steps = append(record.Steps, journal.Step{State: *step})
			}
		}
	})
	return nil
}

// StepStarted tells the server that the step runs, and is its log.
func (r *Remote) StepStarted(_ context.Context, step drone.Step) Log {
	c := r.courier(step)
	if c == nil {
		return nil
	}
	log := c.open()
	r.running.Go(func() { c.guard(func() { c.deliver(step) }) })
	return log
}

// StepFinished tells the server how the step ended, after its log.
func (r *Remote) StepFinished(_ context.Context, step drone.Step, card *drone.CardInput) {
	c := r.courier(step)
	if c == nil {
		return
	}
	select {
	case c.end <- ending{step: step, card: card}:
	default:
		c.log.Error("a step was reported to have ended twice")
		return
	}
	if !c.started {
		r.running.Go(func() { c.guard(c.finish) })
	}
}

// End waits until everything about the steps has been delivered, and then tells the server how the
// stage ended.
func (r *Remote) End(ctx context.Context, stage drone.Stage) error {
	defer r.cancel()
	defer context.AfterFunc(ctx, r.cancel)()
	r.running.Wait()

	r.mu.Lock()
	stage = copyStage(stage)
	stage.Version, stage.Updated = r.stage.Version, r.stage.Updated
	for _, step := range stage.Steps {
		if c := r.couriers[step.Number]; c != nil {
			c.stamp(step)
		}
	}
	if len(r.lost) > 0 && stage.Error == "" {
		stage.Error = errors.Join(r.lost...).Error()
	}
	r.mu.Unlock()

	err := r.client.Update(r.ctx, &stage)
	if errors.Is(err, client.ErrOptimisticLock) {
		// The server has ended the stage itself: it was cancelled.
		r.log.WithField("stage.id", stage.ID).Debug("the server has ended the stage already")
		return nil
	}
	return err
}

// lose notes a log that the server refused for good, for the report of the stage.
func (r *Remote) lose(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, err)
}

// Stage is the newest record that the server has confirmed.
func (r *Remote) Stage() drone.Stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return copyStage(r.stage)
}

// Close gives up what isn't delivered and waits for the couriers. After End it does nothing.
func (r *Remote) Close() {
	r.cancel()
	r.running.Wait()
}

// courier is that of the step, or nil.
func (r *Remote) courier(step drone.Step) *courier {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.couriers[step.Number]
	if c == nil {
		r.log.WithField("step", step.Name).Warn("the server was never told of this step: it isn't reported")
	}
	return c
}
