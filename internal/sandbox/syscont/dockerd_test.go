package syscont

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
)

// script is a stand-in for dockerd where the way that a process lives and dies is the point; the
// real one is in the tests of the system container. It "answers" once it has made the file that
// ping looks for.
func script(t *testing.T, body string) *Daemon {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "dockerd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nup="+dir+"/up\nrm -f $up\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &Daemon{
		Program: program,
		Ping: func(context.Context) error {
			_, err := os.Stat(dir + "/up")
			return err
		},
		Log: log,
	}
}

// run runs the daemon until the test ends, and gives what Run returned.
func run(t *testing.T, d *Daemon) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestDaemonStartsAndStops(t *testing.T) {
	d := script(t, "trap 'exit 0' TERM; touch $up; while :; do sleep 0.02; done")
	var pid int
	d.OnUp = func(_ context.Context, p int) error { pid = p; return nil }
	stop := run(t, d)
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("pid %d: %v", pid, err)
	}
	if err := d.Stopped(); err != nil {
		t.Errorf("a daemon that is up is said to have stopped: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("a stop on request: %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("pid %d is still there: %v", pid, err)
	}
	if err := d.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("waiting for a daemon that was stopped for good: %v", err)
	}
}

func TestDaemonComesBack(t *testing.T) {
	d := script(t, "touch $up; while :; do sleep 0.02; done")
	pids := make(chan int, 2)
	d.OnUp = func(_ context.Context, p int) error { pids <- p; return nil }
	stop := run(t, d)
	first := <-pids
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if second := <-pids; second == first {
		t.Errorf("the same pid %d again", second)
	}
	if err := d.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDaemonThatKeepsDyingSaysWhy(t *testing.T) {
	d := script(t, `echo 'time="2026-01-01T00:00:00Z" level=error msg="no space left on device"' >&2; exit 3`)
	run(t, d)
	var stopped *StoppedError
	for !errors.As(d.Stopped(), &stopped) {
		time.Sleep(5 * time.Millisecond)
	}
	for _, want := range []string{"exit status 3", "no space left on device"} {
		if !strings.Contains(stopped.Report(), want) {
			t.Errorf("%q doesn't say %q", stopped, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := d.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "exit status 3") || strings.Contains(err.Error(), "no space left") {
		t.Errorf("waiting for it: %v", err)
	}
}

func TestDaemonThatNeverAnswersIsStartedAgain(t *testing.T) {
	d := script(t, "echo hello; while :; do sleep 0.02; done")
	d.StartTimeout, d.StopTimeout = 50*time.Millisecond, 50*time.Millisecond
	run(t, d)
	var stopped *StoppedError
	for !errors.As(d.Stopped(), &stopped) {
		time.Sleep(5 * time.Millisecond)
	}
	if !strings.Contains(stopped.Error(), "didn't answer") {
		t.Error(stopped)
	}
}

func TestDaemonThatIsRefusedIsStopped(t *testing.T) {
	d := script(t, "trap 'exit 0' TERM; touch $up; while :; do sleep 0.02; done")
	var pid int
	d.OnUp = func(_ context.Context, p int) error { pid = p; return errors.New("not in here") }
	if err := d.Run(t.Context()); err == nil || err.Error() != "not in here" {
		t.Errorf("Run: %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("pid %d is still there: %v", pid, err)
	}
	if err := d.Ready(t.Context()); err == nil || err.Error() != "not in here" {
		t.Errorf("Ready: %v", err)
	}
}

// A containerd-shim that outlives its dockerd holds the daemon's log open: the end of the process
// counts, not the end of its log.
func TestDaemonsDeathIsSeenThroughItsChildren(t *testing.T) {
	d := script(t, "sleep 30 & echo $! > $up.new; mv $up.new $up; wait")
	pids := make(chan int, 2)
	d.OnUp = func(_ context.Context, p int) error { pids <- p; return nil }
	stop := run(t, d)
	first := <-pids
	child, err := os.ReadFile(filepath.Dir(d.Program) + "/up")
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(child), &pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := <-pids
	t.Cleanup(func() { _ = syscall.Kill(-second, syscall.SIGKILL) })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDaemonWithoutAProgram(t *testing.T) {
	d := &Daemon{Program: "no-such-dockerd", Log: logrus.New()}
	if err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no-such-dockerd") {
		t.Errorf("Run: %v", err)
	}
}

func TestRemoveStale(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Base(exe)
	tests := []struct {
		name, content, program string
		refused                bool
	}{
		{"a dead process", "999999", "dockerd", false},
		{"somebody else's number", fmt.Sprint(os.Getpid()), "dockerd", false},
		{"the program itself", fmt.Sprint(os.Getpid()), self, true},
		{"no number", "garbage", "dockerd", false},
		{"nothing", "", "dockerd", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "docker.pid")
			if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			err := removeStale(file, test.program)
			if (err != nil) != test.refused {
				t.Errorf("error %v, want one: %v", err, test.refused)
			}
			if _, statErr := os.Stat(file); os.IsNotExist(statErr) == test.refused {
				t.Errorf("the file is there: %v", statErr == nil)
			}
		})
	}
	if err := removeStale(filepath.Join(t.TempDir(), "none"), "dockerd"); err != nil {
		t.Errorf("no file: %v", err)
	}
}

func TestDaemonLogLevels(t *testing.T) {
	tests := []struct {
		name, line string
		level      logrus.Level
		message    string
	}{
		{"info is our debug", `time="2026-11-21T11:56:03Z" level=info msg="Loading containers: done."`, logrus.DebugLevel, "Loading containers: done."},
		{"warning", `time="x" level=warning msg="Not using native diff" storage-driver=overlay2`, logrus.WarnLevel, "Not using native diff (storage-driver=overlay2)"},
		{"a warning that every build causes", `time="x" level=warning msg="cleaning up after shim disconnected" id=1`, logrus.DebugLevel, "cleaning up after shim disconnected (id=1)"},
		{"error with quotes", `time="x" level=error msg="open \"x\": denied"`, logrus.ErrorLevel, `open "x": denied`},
		{"fatal is an error", `time="x" level=fatal msg=bye`, logrus.ErrorLevel, "bye"},
		{"a panic", "panic: runtime error", logrus.WarnLevel, "panic: runtime error"},
		{"another form", "time=x hello", logrus.WarnLevel, "time=x hello"},
		{"a level of its own", `time="x" level=loud msg=hello`, logrus.WarnLevel, `time="x" level=loud msg=hello`},
	}
	for _, row := range tests {
		t.Run(row.name, func(t *testing.T) {
			log, hook := test.NewNullLogger()
			log.SetLevel(logrus.TraceLevel)
			d := &Daemon{Log: log}
			d.relay(strings.NewReader(row.line))
			got := hook.LastEntry()
			if got == nil || got.Level != row.level || got.Message != row.message {
				t.Errorf("logged %+v", got)
			}
		})
	}
}
