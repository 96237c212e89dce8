package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// errHung is why a call was given up that has no deadline of its own.
var errHung = errors.New("the docker daemon hasn't answered")

// attend watches, during a call without a deadline, whether the daemon still answers. The context
// that it returns ends, with a cause that hung returns, when the daemon has answered nothing at all
// for Deadlines.Hang. rest ends the watch, and the context.
func (d *Docker) attend(ctx context.Context) (attended context.Context, rest func()) {
	limit := d.opts.Deadlines.Hang
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for pause.For(ctx, limit/6) == nil {
			if !d.answers(ctx, limit) && ctx.Err() == nil {
				cancel(fmt.Errorf("%w for %s: it hangs, or is gone", errHung, limit))
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		watching.Wait()
	}
}

// hung is why attend ended the context, or nil.
func hung(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errHung) {
		return cause
	}
	return nil
}

// answers waits until the daemon answers, for as long as limit; one that refuses connections may be
// on its way up.
func (d *Docker) answers(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if _, err := d.client.Ping(ctx); err == nil {
			return true
		}
		if pause.For(ctx, min(time.Second, limit/6)) != nil {
			return false
		}
	}
}

// pullAttended is pullImage, given up when the daemon hangs. Without that each try would last until
// the pull counts as stalled.
func (d *Docker) pullAttended(ctx context.Context, p pull, output io.Writer) error {
	ctx, rest := d.attend(ctx)
	defer rest()
	err := d.pullImage(ctx, p, output)
	if cause := hung(ctx); err != nil && cause != nil {
		return fmt.Errorf("pull image %s: %w", p.Image, cause)
	}
	return err
}

// late says of a call that has met its deadline what that means.
func late(err error, limit time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w within %s: it hangs, or has too much to do: %w", errHung, limit, err)
	}
	return err
}

// away reports whether a call failed because there is no daemon, or none that answers.
func away(err error) bool {
	return client.IsErrConnectionFailed(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF)
}
