// Package pause waits and obeys a context while it does. All waits between two tries are made with
// it, so that none of them outlives what it waits for.
package pause

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// For waits for d, or until the context ends. It returns nil after d, and the cause of the
// context's end otherwise. A context that has ended already is always an error, whatever d is.
func For(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Growing returns pauses that double from first to most. Each is jittered by half of it, so that
// many who wait for one server don't come back to it at one moment.
func Growing(first, most time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = first, max(first, most)
	b.Multiplier, b.RandomizationFactor = 2, 0.5
	b.Reset()
	return b
}
