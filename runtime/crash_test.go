package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/enginetest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// severed is the server as a runner sees it that is killed at its n-th call, before that arrives or
// before its answer does. From then on it says and hears nothing.
type severed struct {
	*fake
	at    int
	after bool
	// crash is called at that moment.
	crash func()

	mu    sync.Mutex
	calls int
	dead  bool
	// told is what arrived, in order.
	told []string
}

// through makes a call, unless the runner is dead.
func (s *severed) through(ctx context.Context, name string, call func() error) error {
	s.mu.Lock()
	s.calls++
	mine := s.calls == s.at
	if mine && !s.after {
		s.die()
	}
	dead := s.dead
	s.mu.Unlock()
	if dead {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	err := call()
	s.mu.Lock()
	if s.dead && !mine {
		s.mu.Unlock()
		<-ctx.Done()
		return context.Cause(ctx)
	}
	s.told = append(s.told, name)
	if mine && s.after {
		s.die()
		s.mu.Unlock()
		<-ctx.Done()
		return context.Cause(ctx)
	}
	s.mu.Unlock()
	return err
}

func (s *severed) die() {
	s.dead = true
	s.crash()
}

func (s *severed) Accept(ctx context.Context, stage *drone.Stage) error {
	return s.through(ctx, "accept", func() error { return s.fake.Accept(ctx, stage) })
}

func (s *severed) Detail(ctx context.Context, stage *drone.Stage) (d *client.Context, err error) {
	err = s.through(ctx, "detail", func() (err error) {
		d, err = s.fake.Detail(ctx, stage)
		return err
	})
	return d, err
}

func (s *severed) Update(ctx context.Context, stage *drone.Stage) error {
	return s.through(ctx, "update "+stage.Status, func() error { return s.fake.Update(ctx, stage) })
}

func (s *severed) UpdateStep(ctx context.Context, step *drone.Step) error {
	return s.through(ctx, "update step "+step.Name+" "+step.Status, func() error { return s.fake.UpdateStep(ctx, step) })
}

func (s *severed) Watch(ctx context.Context, build int64) (bool, error) {
	return s.fake.Watch(ctx, build)
}

func (s *severed) Batch(ctx context.Context, step int64, lines []*drone.Line) error {
	return s.through(ctx, "batch "+s.name(step), func() error { return s.fake.Batch(ctx, step, lines) })
}

func (s *severed) UploadFrom(ctx context.Context, step int64, open func() (io.ReadCloser, error)) error {
	return s.through(ctx, "upload "+s.name(step), func() error { return s.fake.UploadFrom(ctx, step, open) })
}

func (s *severed) UploadCard(ctx context.Context, step int64, card *drone.CardInput) error {
	return s.through(ctx, "card "+s.name(step), func() error { return s.fake.UploadCard(ctx, step, card) })
}

// survivor is the server for the next life: it has a log already, or takes it.
type survivor struct{ *fake }

func (s *survivor) UploadFrom(ctx context.Context, step int64, open func() (io.ReadCloser, error)) error {
	s.mu.Lock()
	_, there := s.logs[step]
	s.mu.Unlock()
	if there {
		return nil // as rpc.Client takes the server's complaint
	}
	return s.fake.UploadFrom(ctx, step, open)
}

// journalIn opens the journal of a state folder.
func journalIn(t *testing.T, state string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), state, "me", quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// TestCrashAtEveryCall kills a runner at each of its calls to the server, just before and just
// after the server has done what was asked, and starts it again: whenever it was, the server ends
// up with a final record that is right, whole logs, and nothing is left.
func TestCrashAtEveryCall(t *testing.T) {
	crashes := map[string]int{}
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			whole := false
			t.Run(fmt.Sprintf("at %d %t", at, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { whole = crashOnce(t, at, after, crashes) })
			})
			if whole || t.Failed() {
				break
			}
		}
	}
	if len(crashes) < 3 {
		t.Errorf("stages ended as %v: the crashes don't cover enough", crashes)
	}
}

// crashOnce is one crash, and reports whether the runner's life was over before it.
func crashOnce(t *testing.T, at int, after bool, crashes map[string]int) (whole bool) {
	state, copied := t.TempDir(), t.TempDir()
	e := enginetest.New(t)
	e.Script("db", enginetest.Script{Output: []string{"ready\n"}, Block: true})
	e.Script("a", enginetest.Script{Output: []string{"one\n", "two\n"}, Delay: 5 * time.Second})
	e.Script("b", enginetest.Script{Output: []string{"three\n\x1b]1338;eyJzY2hlbWEiOiJzIiwiZGF0YSI6e319\x1b]0m"}, Delay: 5 * time.Second, Exit: spec.Exit{Code: 3}})
	server := newFake(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	s := &severed{fake: server, at: at, after: after}
	s.crash = func() {
		snapshot(t, state, copied)
		cancel(ErrStopped)
	}
	j := journalIn(t, state)
	r := &Runner{
		Client: s, Machine: "me", Log: quiet(), Journal: j, ReportGrace: time.Second,
		Compile: func(context.Context, *client.Context) (*spec.Spec, error) {
			return specOf(chain(step("db", service), step("a"), step("b"), step("c"))...), nil
		},
		Executor: &Executor{Engine: e, Log: quiet()},
		Logs:     LogOptions{Dir: j.Logs()},
	}
	offered := drone.Stage{ID: 1, BuildID: 3, Number: 1, Name: "default", Status: drone.StatusPending, Version: 1}
	err := r.Run(ctx, &offered, func() {})
	const truth = "db:success a:success b:failure/3 c:skipped => failure"
	if !s.dead {
		if err != nil || render(server.final()) != truth || len(j.Orphans()) > 0 || j.Running() > 0 {
			t.Errorf("a life without a crash: %v, %s, %d orphans", err, render(server.final()), len(j.Orphans()))
		}
		left(t, state)
		return true
	}
	before := server.final()

	// The next life.
	next := journalIn(t, copied)
	var swept []string
	recovery := &Recovery{Journal: next, Client: &survivor{fake: server}, Log: quiet(), Sweep: func(_ context.Context, sp string) error {
		swept = append(swept, sp)
		return nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	recovery.SweepAll(ctx)
	var running sync.WaitGroup
	running.Go(func() { recovery.Run(ctx) })
	synctest.Wait()
	stop()
	running.Wait()
	if n := len(next.Orphans()); n > 0 {
		t.Errorf("%d orphans are left", n)
	}
	left(t, copied)

	got := server.final()
	outcome := fmt.Sprintf("%s after %q", render(got), s.told)
	crashes[got.Status]++
	switch {
	case before.Machine == "":
		if got.Status != drone.StatusPending {
			t.Errorf("a stage that was never accepted: %s", outcome)
		}
		return false
	case !rpc.Final(got.Status) || got.Status == drone.StatusError && (got.Error != ErrInterrupted.Error() || got.ExitCode != exitError):
		t.Errorf("%s: %s", got.Error, outcome)
	case got.Status != drone.StatusError && got.Status != drone.StatusFailing:
		t.Error(outcome)
	}
	if before.Status != drone.StatusPending && !slices.Equal(swept, []string{"spec"}) {
		t.Errorf("swept %q: %s", swept, outcome)
	}
	printed := map[string]string{"db": "ready\n", "a": "one\ntwo\n", "b": "three\n"}
	server.mu.Lock()
	steps := server.steps
	server.mu.Unlock()
	for id, step := range steps {
		switch {
		case after && slices.Index(s.told, "update running") == len(s.told)-1:
			continue // its id was in the answer that got lost: nobody can speak of it any more
		case !rpc.Final(step.Status):
			t.Errorf("step %s is %s: %s", step.Name, step.Status, outcome)
		case step.Status == drone.StatusError && step.Error != ErrInterrupted.Error():
			t.Errorf("step %s: %q: %s", step.Name, step.Error, outcome)
		case step.Status == drone.StatusFailing && step.ExitCode != 3, step.Name == "c" && step.Status != drone.StatusSkipped:
			t.Errorf("step %s: %s %d: %s", step.Name, step.Status, step.ExitCode, outcome)
		}
		text := server.log(step.Name)
		ended := slices.Contains(s.told, "upload "+step.Name)
		if !strings.HasPrefix(printed[step.Name], strings.TrimSuffix(text, "stopped: "+ErrInterrupted.Error()+"\n")) || ended && text != printed[step.Name] {
			t.Errorf("log of step %s (%d): %q: %s", step.Name, id, text, outcome)
		}
	}
	return false
}

// snapshot copies a folder while others write to it. What goes meanwhile isn't copied.
func snapshot(t *testing.T, from, to string) {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Error(err)
	}
}

// left fails the test if the state folder holds more than its lock.
func left(t *testing.T, state string) {
	t.Helper()
	for _, dir := range []string{"journal", "logs"} {
		found, err := os.ReadDir(state + "/" + dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("%s/%s is left", dir, f.Name())
		}
	}
}
