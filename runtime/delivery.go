package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/go-units"
	"github.com/drone/drone-go/drone"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

// leastLog is the size in bytes below which a log isn't made shorter: a server that refuses so
// little refuses all logs.
const leastLog = 1 << 10

// delivery brings the whole log of a step to the server, or to the operator where the server
// refuses it.
type delivery struct {
	client Client
	// keep stores a log that the server refused for good; nil keeps none.
	keep LostLogs
	step drone.Step
	log  logrus.FieldLogger
}

// LostLogs stores the logs that a server refused for good.
type LostLogs interface {
	// Keep stores the log and returns the name by which the operator finds it.
	Keep(step drone.Step, log *livelog.Log) (name string, err error)
}

// LostLogError is a log that the server refused for good. It is shown on the build's page.
type LostLogError struct {
	Step string
	// Kept is the name under which the runner keeps the log; empty if it doesn't.
	Kept string
	Err  error
}

// Error says whose log it is, who has it and why the server doesn't.
func (e *LostLogError) Error() string {
	where := "the runner couldn't keep it"
	if e.Kept != "" {
		where = "the runner's operator has it: " + e.Kept
	}
	return fmt.Sprintf("the log of step %q is lost (%s): %v", e.Step, where, e.Err)
}

// Unwrap returns why the server doesn't have it.
func (e *LostLogError) Unwrap() error { return e.Err }

// deliver closes and uploads a log. One that is too large is made shorter until it fits. The error
// is a *LostLogError if the server refuses it for good, and otherwise says that another try may
// succeed.
func (d delivery) deliver(ctx context.Context, log *livelog.Log) error {
	if err := log.Wait(); err != nil {
		d.log.WithError(err).Warn("the log of a step is incomplete")
	}
	err := d.client.UploadFrom(ctx, d.step.ID, log.Open)
	for size := log.Size() / 2; errors.Is(err, rpc.ErrTooLarge) && size >= leastLog; size /= 2 {
		d.log.WithError(err).WithField("size", units.BytesSize(float64(size))).Warn("the log of a step is too large for the server and is shortened")
		err = d.client.UploadFrom(ctx, d.step.ID, log.Shortened(size, tooLarge(err, log.Size())))
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, rpc.ErrUnauthorized) {
		return err
	}
	if log.Lines() == 0 {
		d.log.WithError(err).Warn("the server refuses the log of a step, which is empty")
		return nil
	}
	return d.lose(log, err)
}

// tooLarge says in a log why it was shortened.
func tooLarge(err error, size int64) string {
	text := fmt.Sprintf("the whole log takes %s to send, which is too much for the server, or for a proxy before it", units.BytesSize(float64(size)))
	var status *rpc.StatusError
	if errors.As(err, &status) {
		text += fmt.Sprintf(" (status %d)", status.Status)
	}
	return text
}

// lose keeps a log that the server refused for good.
func (d delivery) lose(log *livelog.Log, err error) error {
	lost := &LostLogError{Step: d.step.Name, Err: err}
	logger := d.log.WithError(err)
	if d.keep != nil {
		var keepErr error
		if lost.Kept, keepErr = d.keep.Keep(d.step, log); keepErr != nil {
			d.log.WithError(keepErr).Error("a log that the server refuses can't be kept")
		}
		logger = logger.WithField("kept", lost.Kept)
	}
	logger.Error("the server refuses the log of a step for good")
	return lost
}
