package engine

import (
	"context"
	"time"
)

// made has the daemon make something of the run, and is its answer. Whoever asks waits until ctx is over, and for limit at most. The call goes on without them: what the daemon has begun
// to make comes to be, whoever hangs up, and can't be removed before. So Destroy waits for the answer.
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
