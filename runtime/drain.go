package runtime

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Drain makes the contexts of a Poller that ends in two phases. The first signal ends poll: no new
// build begins, and those that run go on. The second one, or the end of timeout after the first (0
// waits without limit), ends builds, with the cause ErrStopped. ctx, when it ends, counts as the
// first signal.
//
// release frees what this holds, and ends both contexts. It is called when the Poller has returned.
func Drain(ctx context.Context, signals <-chan os.Signal, timeout time.Duration, log logrus.FieldLogger) (poll, builds context.Context, release func()) {
	log = orStandard(log)
	poll, endPoll := context.WithCancelCause(ctx)
	builds, endBuilds := context.WithCancelCause(context.WithoutCancel(ctx))
	over, end := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		select {
		case s := <-signals:
			endPoll(ErrStopped)
			log.Infof("%v: no new builds; waiting for those that run (once more stops them)", s)
		case <-ctx.Done():
			endPoll(ErrStopped)
			log.Info("no new builds; waiting for those that run")
		case <-over.Done():
			return
		}
		var late <-chan time.Time
		if timeout > 0 {
			timer := time.NewTimer(timeout)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case s := <-signals:
			log.Warnf("%v again: stopping the builds", s)
		case <-late:
			log.Warnf("builds still run after %s: stopping them", timeout)
		case <-over.Done():
			return
		}
		endBuilds(ErrStopped)
	})
	return poll, builds, func() {
		end()
		done.Wait()
		endPoll(nil)
		endBuilds(nil)
	}
}
