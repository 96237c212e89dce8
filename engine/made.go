package engine

import (
	"context"
	"time"
)

// made creates something of the stage in the daemon, and returns the daemon's answer. The caller
// waits until ctx ends, and for limit at most. The call goes on without it: what the daemon has
// begun to create is created even if the client hangs up, and can't be removed before. So Destroy
// waits for the answer.
func made[T any](ctx context.Context, r *run, limit time.Duration, call func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var nothing T
	done, err := r.begin()
	if err != nil {
		return nothing, err
	}
	answers := make(chan answer, 1)
	go func() {
		defer done()
		value, err := call(r.ctx)
		answers <- answer{value, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return nothing, ctx.Err()
	case <-timer.C:
		return nothing, late(context.DeadlineExceeded, limit)
	}
}
