package syscont

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// probed is a stand-in that lives, with a probe that the test decides about.
func probed(t *testing.T) (d *Daemon, broken *atomic.Pointer[error], pids chan int) {
	t.Helper()
	d = script(t, "touch $up; while :; do sleep 0.02; done")
	broken = &atomic.Pointer[error]{}
	pids = make(chan int, 16)
	d.OnUp = func(_ context.Context, pid int) error { pids <- pid; return nil }
	d.Probe = func(context.Context) error {
		if err := broken.Load(); err != nil {
			return *err
		}
		return nil
	}
	d.ProbeInterval, d.ProbeTimeout, d.StopTimeout = 5*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	return d, broken, pids
}

func TestDaemonThatFailsAProbeIsNotUp(t *testing.T) {
	d, broken, pids := probed(t)
	run(t, d)
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no answer")
	broken.Store(&failure)
	for d.Stopped() == nil {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := d.Ready(ctx); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("it is ready: %v", err)
	}
	broken.Store(nil)
	if err := d.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := d.Stopped(); err != nil {
		t.Errorf("it works again: %v", err)
	}
	if n, _ := d.Deaths(); n != 0 || len(pids) != 1 {
		t.Errorf("%d deaths and %d starts: it was to be left alone", n, len(pids))
	}
}

// TestDaemonThatHangsIsStartedAgain stops a process for good, as SIGSTOP does: it answers no probe
// and dies of SIGKILL alone.
func TestDaemonThatHangsIsStartedAgain(t *testing.T) {
	d, _, pids := probed(t)
	d.Patience = 60 * time.Millisecond
	stopped := 0
	d.Probe = func(ctx context.Context) error {
		if stopped == 0 || syscall.Kill(stopped, 0) != nil {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	d.OnUp = func(_ context.Context, pid int) error {
		if len(pids) == 0 {
			stopped = pid
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				return err
			}
		}
		pids <- pid
		return nil
	}
	run(t, d)
	first := <-pids
	pids <- first // so that the next one isn't stopped
	<-pids
	if second := <-pids; second == first {
		t.Error("it wasn't started again")
	}
	if err := d.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if n, last := d.Deaths(); n != 1 || !strings.Contains(last.Error(), "didn't answer") {
		t.Errorf("%d deaths, the last: %v", n, last)
	}
}

// TestDaemonInABrokenPlaceIsNotStartedAgain holds that a place which stays broken ends Run with the
// advice.
func TestDaemonInABrokenPlaceIsNotStartedAgain(t *testing.T) {
	d, broken, pids := probed(t)
	d.Patience = 20 * time.Millisecond
	var failure error = &PlaceError{Err: errors.New("mount a file system: function not implemented"), Fix: fixFilesystems}
	broken.Store(&failure)
	err := d.Run(t.Context())
	var place *PlaceError
	if !errors.As(err, &place) || !strings.Contains(err.Error(), "restart Sysbox on the host") {
		t.Errorf("Run: %v", err)
	}
	if len(pids) != 1 {
		t.Errorf("%d starts", len(pids))
	}
}

func TestPlace(t *testing.T) {
	good := newPlace(t.TempDir(), false)
	for range 3 {
		if err := good.check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	var place *PlaceError
	if err := newPlace("/proc/no/such", false).check(t.Context()); !errors.As(err, &place) {
		t.Errorf("a folder that can't be: %v", err)
	}
	busy := newPlace(t.TempDir(), false)
	busy.slot <- struct{}{}
	if err := busy.check(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("beside a probe that hangs: %v", err)
	}
}
