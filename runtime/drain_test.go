package runtime

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestDrain(t *testing.T) {
	const never = 100 * time.Hour
	rows := []struct {
		name    string
		timeout time.Duration
		// signals come at these times; ctx ends at over.
		signals      []time.Duration
		over         time.Duration
		poll, builds time.Duration
	}{
		{name: "no signal", poll: never, builds: never},
		{name: "one signal lets builds end", signals: []time.Duration{time.Minute}, poll: time.Minute, builds: never},
		{name: "a second signal stops them", signals: []time.Duration{time.Minute, time.Hour}, poll: time.Minute, builds: time.Hour},
		{name: "the timeout stops them", timeout: time.Hour, signals: []time.Duration{time.Minute}, poll: time.Minute, builds: time.Hour + time.Minute},
		{name: "a second signal before the timeout", timeout: time.Hour, signals: []time.Duration{time.Minute, 2 * time.Minute}, poll: time.Minute, builds: 2 * time.Minute},
		{name: "a context that ends is the first signal", over: time.Second, signals: []time.Duration{time.Minute}, poll: time.Second, builds: time.Minute},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if row.over > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, row.over)
					defer cancel()
				}
				signals := make(chan os.Signal, 2)
				for _, at := range row.signals {
					defer time.AfterFunc(at, func() { signals <- syscall.SIGTERM }).Stop()
				}
				began := time.Now()
				poll, builds, release := Drain(ctx, signals, row.timeout, quiet())
				end := time.AfterFunc(never, release)
				defer end.Stop()
				<-poll.Done()
				if at := time.Since(began); at != row.poll {
					t.Errorf("polls ended after %s, want %s", at, row.poll)
				}
				<-builds.Done()
				if at := time.Since(began); at != row.builds {
					t.Errorf("builds ended after %s, want %s", at, row.builds)
				}
				if stopped := errors.Is(context.Cause(builds), ErrStopped); stopped != (row.builds < never) {
					t.Errorf("the cause is %v", context.Cause(builds))
				}
				release()
			})
		})
	}
}
