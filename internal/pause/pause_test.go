package pause

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	cause := errors.New("over")
	for _, tc := range []struct {
		name   string
		d      time.Duration
		ends   time.Duration // of the context; less than 0 is before the call
		waited time.Duration
		want   error
	}{
		{"the time passes", time.Hour, 2 * time.Hour, time.Hour, nil},
		{"the context ends first", time.Hour, time.Minute, time.Minute, cause},
		{"the context has ended", time.Hour, -1, 0, cause},
		{"no time, and the context has ended", 0, -1, 0, cause},
		{"no time", 0, time.Hour, 0, nil},
		{"less than no time", -time.Second, time.Hour, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if tc.ends < 0 {
					cancel(cause)
				} else {
					defer time.AfterFunc(tc.ends, func() { cancel(cause) }).Stop()
				}
				began := time.Now()
				if err := For(ctx, tc.d); !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
				if waited := time.Since(began); waited != tc.waited {
					t.Errorf("waited %s, want %s", waited, tc.waited)
				}
			})
		})
	}
}

func TestGrowing(t *testing.T) {
	for range 100 {
		pauses := Growing(time.Second, 5*time.Second)
		for i, middle := range []time.Duration{1, 2, 4, 5, 5} {
			middle *= time.Second
			if got := pauses.NextBackOff(); got < middle/2 || got > middle*3/2+1 {
				t.Fatalf("pause %d is %s, want %s ± half of it", i, got, middle)
			}
		}
	}
	if got := Growing(time.Minute, time.Second).MaxInterval; got != time.Minute {
		t.Errorf("the longest pause is %s, less than the first", got)
	}
}

func TestReminder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Reminder
		warnings := func(d time.Duration) (n int) {
			for began := time.Now(); time.Since(began) < d; time.Sleep(time.Second) {
				if r.Next() {
					n++
				}
			}
			return n
		}
		if n := warnings(time.Hour); n < 60 || n > 64 {
			t.Errorf("%d warnings in an hour, want one a minute and three at its begin", n)
		}
		r.Reset()
		if n := warnings(10 * time.Second); n != 3 {
			t.Errorf("%d warnings in ten seconds, want 3", n)
		}
	})
}
