package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// Watch waits, up to the server's 30 s, for the build to be cancelled: true when it was, false when
// not yet. After each false, read the stage by Detail before the next Watch: the server tells a
// cancel only to those who watch at that moment, so one that falls between two watches would be
// lost.
//
// A watch that breaks off is taken up again, with pauses that double. As soon as the server holds
// one again Watch returns false, so that the caller reads the stage at once and not 30 s later.
func (c *Client) Watch(ctx context.Context, build int64) (bool, error) {
	k := call{name: fmt.Sprintf("watch build %d", build), method: http.MethodPost, path: fmt.Sprintf("/build/%d/watch", build), poll: true}
	cancelled, last := c.watchOnce(ctx, k)
	pauses, reminder := c.pauses(), &pause.Reminder{}
	for tries := uint(1); last != nil && retryable(last); tries++ {
		if c.opts.Backoff.Tries > 0 && tries >= c.opts.Backoff.Tries {
			return false, last
		}
		wait := pauses.NextBackOff()
		c.again(reminder, last, wait)
		if err := pause.For(ctx, wait); err != nil {
			return false, fmt.Errorf("gave up: %w: %w", err, last)
		}
		var err error
		cancelled, err = c.watchFor(ctx, k, c.watch)
		if err != nil && ctx.Err() != nil {
			return false, fmt.Errorf("gave up: %w: %w", err, last)
		}
		last = err
	}
	return cancelled, last
}

// watchOnce makes one long poll.
func (c *Client) watchOnce(ctx context.Context, k call) (bool, error) {
	a, err := c.attempt(ctx, k)
	return err == nil && a.status != http.StatusNoContent, err
}

// errHeld ends a watch that stood long enough.
var errHeld = errors.New("the watch is held")

// watchFor is watchOnce that hangs up after a while, and then says false: the server does hold
// watches.
func (c *Client) watchFor(ctx context.Context, k call, long time.Duration) (bool, error) {
	ctx, stop := context.WithTimeoutCause(ctx, long, errHeld)
	defer stop()
	cancelled, err := c.watchOnce(ctx, k)
	if errors.Is(err, errHeld) {
		return false, nil
	}
	return cancelled, err
}
