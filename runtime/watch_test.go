package runtime

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// watched is a server that tells of a cancel only those who watch at that moment.
type watched struct {
	// cancelAt is when the build is cancelled, from the start; 0 is never.
	cancelAt time.Duration
	// hold is how long a watch is held; latency is how long a watch takes to get there.
	hold, latency time.Duration
	watchErr      error
	watchErrUntil time.Duration // 0 is for ever
	detailErr     error
	buildOnly     bool
	panics        bool

	began            time.Time
	watches, details atomic.Int32
}

func (w *watched) over() bool { return w.cancelAt > 0 && time.Since(w.began) >= w.cancelAt }

func (w *watched) Watch(ctx context.Context, _ int64) (bool, error) {
	w.watches.Add(1)
	if w.panics {
		panic("nil dereference")
	}
	if err := pause.For(ctx, w.latency); err != nil {
		return false, err
	}
	if w.watchErr != nil && (w.watchErrUntil == 0 || time.Since(w.began) < w.watchErrUntil) {
		return false, w.watchErr
	}
	held := w.hold
	told := false
	if left := w.cancelAt - time.Since(w.began); w.cancelAt > 0 && left > 0 && left < held {
		held, told = left, true
	}
	return told, pause.For(ctx, held)
}

func (w *watched) Detail(_ context.Context, stage *drone.Stage) (*client.Context, error) {
	w.details.Add(1)
	if w.detailErr != nil {
		return nil, w.detailErr
	}
	d := &client.Context{Build: &drone.Build{Status: drone.StatusRunning}, Stage: &drone.Stage{ID: stage.ID, Status: drone.StatusRunning}}
	if w.over() {
		d.Build.Status = drone.StatusKilled
		if !w.buildOnly {
			d.Stage.Status = drone.StatusKilled
		}
	}
	return d, nil
}

func TestWatch(t *testing.T) {
	const s = time.Second
	rows := []struct {
		name   string
		server *watched
		// earliest and latest tell when the cancel is to be noticed; 0 is not within ten minutes.
		earliest, latest time.Duration
		watches, details int32
	}{
		{name: "no cancel", server: &watched{hold: 30 * s}, watches: 21, details: 21},
		{name: "a cancel during a watch", server: &watched{hold: 30 * s, cancelAt: 10 * s}, earliest: 10 * s, latest: 10 * s, watches: 1, details: 1},
		{name: "a cancel during the third watch", server: &watched{hold: 30 * s, cancelAt: 70 * s}, earliest: 70 * s, latest: 70 * s, watches: 3, details: 3},
		{name: "a cancel before the first watch", server: &watched{hold: 30 * s, latency: s / 10, cancelAt: s / 20}, earliest: s, latest: s, watches: 1, details: 1},
		{name: "a cancel between two watches", server: &watched{hold: 30 * s, latency: s / 10, cancelAt: 30*s + s/10 + s/20}, earliest: 31 * s, latest: 32 * s, watches: 2, details: 2},
		{name: "a cancel of the build that the stage doesn't show", server: &watched{hold: 30 * s, latency: s / 10, cancelAt: s / 20, buildOnly: true}, earliest: s, latest: s},
		{name: "a server that answers at once doesn't make it spin", server: &watched{}, watches: 600, details: 600},
		{name: "a server that can't be watched doesn't either", server: &watched{watchErr: errors.New("away")}, watches: 30, details: 50},
		{name: "an error of the watch doesn't switch cancellation off", server: &watched{hold: 30 * s, watchErr: errors.New("away"), watchErrUntil: 20 * s, cancelAt: 120 * s}, earliest: 120 * s, latest: 120 * s},
		{name: "a cancel while the server can't be watched", server: &watched{hold: 30 * s, watchErr: errors.New("away"), cancelAt: 30 * s}, earliest: 30 * s, latest: 80 * s},
		{name: "a server whose details can't be read", server: &watched{hold: 30 * s, detailErr: errors.New("500"), cancelAt: 45 * s}, earliest: 45 * s, latest: 45 * s},
		{name: "a watch that panics ends, and nothing else does", server: &watched{panics: true}, watches: 1},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				row.server.began = time.Now()
				var at atomic.Int64
				end := watch(t.Context(), row.server, &drone.Stage{ID: 1}, 1, quiet(), func() { at.Store(int64(time.Since(row.server.began))) })
				time.Sleep(10 * time.Minute)
				end()
				end()
				if got := time.Duration(at.Load()); got < row.earliest || got > row.latest {
					t.Errorf("the cancel was noticed after %s, want %s to %s", got, row.earliest, row.latest)
				}
				if n := row.server.watches.Load(); row.watches > 0 && (n > row.watches+1 || n < row.watches/2) {
					t.Errorf("%d watches, want %d", n, row.watches)
				}
				if n := row.server.details.Load(); row.details > 0 && n > row.details+1 {
					t.Errorf("%d looks at the details, want %d", n, row.details)
				}
			})
		})
	}
}

func TestWatchEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		end := watch(t.Context(), &watched{hold: 30 * time.Second, began: began}, &drone.Stage{}, 1, quiet(), func() { t.Error("there was no cancel") })
		time.Sleep(5 * time.Second)
		end()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
