package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// interruptedStage is a journal with the entry of a stage whose step a ran, and the server that
// knows of it.
func interruptedStage(t *testing.T) (*journal.Journal, *fake) {
	t.Helper()
	state := t.TempDir()
	j := journalIn(t, state)
	server := newFake(t)
	server.stage.Machine, server.stage.Status, server.stage.Started = "me", drone.StatusRunning, 1
	a := drone.Step{ID: 100, StageID: 1, Number: 1, Name: "a", Status: drone.StatusRunning, Started: 1, Version: 2}
	b := drone.Step{ID: 101, StageID: 1, Number: 2, Name: "b", Status: drone.StatusPending, Version: 1}
	server.steps[100], server.steps[101] = a, b
	e, err := j.Begin(copyStage(server.stage))
	if err != nil {
		t.Fatal(err)
	}
	log, err := livelog.New(livelog.Options{Dir: j.Logs()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := livelog.NewOutput(log, livelog.NewMask(nil)).Write([]byte("one\ntwo\n")); err != nil {
		t.Fatal(err)
	}
	a.Version = 1 // That is how the last telling was tried.
	e.Note(func(r *journal.Record) {
		r.Spec = "spec"
		r.Steps = []journal.Step{{State: a, Told: drone.StatusRunning, Spool: filepath.Base(log.Path())}, {State: b}}
	})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return journalIn(t, state), server
}

// TestRecovery tells a server of a stage that was interrupted, whatever it says to that.
func TestRecovery(t *testing.T) {
	status := func(code int, body string) error {
		server := rpctest.NewServer(t)
		server.Fault(rpctest.Fault{Status: code, Body: body, Times: -1})
		c := rpc.New(rpc.Options{Endpoint: server.URL(), Secret: server.Secret(), Backoff: rpc.Backoff{Tries: 1}})
		defer c.Close()
		_, err := c.Detail(t.Context(), &drone.Stage{ID: 1})
		return err
	}
	noRows, noBackend := status(http.StatusInternalServerError, `{"message":"sql: no rows in result set"}`), status(http.StatusNotFound, "404 page not found")
	const told = "a:error/255 b:skipped => error/255"
	rows := []struct {
		name   string
		server func(*fake)
		want   string
		log    string
		// after is how long it took at least.
		after time.Duration
		never []string
	}{
		{name: "a server that is there", want: told, log: "one\ntwo\nstopped: the runner stopped while this ran\n"},
		{name: "a server that never heard that the step runs", want: told, log: "one\ntwo\nstopped: the runner stopped while this ran\n",
			server: func(f *fake) {
				step := f.steps[100]
				step.Status, step.Version = drone.StatusPending, 1
				f.steps[100] = step
			}},
		{name: "a server that is away for a day", want: told, log: "one\ntwo\nstopped: the runner stopped while this ran\n", after: 24 * time.Hour,
			server: func(f *fake) {
				began := time.Now()
				f.before = func(context.Context, string) error {
					if time.Since(began) < 24*time.Hour {
						return errors.New("connection refused")
					}
					return nil
				}
			}},
		{name: "a server that refuses the end for a while", want: told, log: "one\ntwo\nstopped: the runner stopped while this ran\n", after: 3 * time.Second,
			server: func(f *fake) {
				left := 3
				f.before = func(_ context.Context, call string) error {
					if call != "update error" || left == 0 {
						return nil
					}
					left--
					return errors.New("403 Forbidden")
				}
			}},
		{name: "a server that panics the client", want: told, log: "one\ntwo\nstopped: the runner stopped while this ran\n", after: 100 * time.Millisecond,
			server: func(f *fake) {
				left := 1
				f.before = func(context.Context, string) error {
					if left--; left == 0 {
						panic("nil dereference")
					}
					return nil
				}
			}},
		{name: "a log and a step that are refused", want: "a:running b:skipped => error/255",
			server: func(f *fake) {
				f.before = on(errors.New("413 Request Entity Too Large"), "upload a", "update step a running", "update step a error")
			}},
		{name: "a stage that was cancelled", want: "a:killed/137 b:skipped => killed/137", log: "one\ntwo\nstopped: the runner stopped while this ran\n",
			server: func(f *fake) {
				f.stage.Status, f.stage.ExitCode = drone.StatusKilled, 137
				f.steps[100] = drone.Step{ID: 100, StageID: 1, Number: 1, Name: "a", Status: drone.StatusKilled, ExitCode: 137, Version: 3}
				f.steps[101] = drone.Step{ID: 101, StageID: 1, Number: 2, Name: "b", Status: drone.StatusSkipped, Version: 2}
			}, never: []string{"update error", "update step a error"}},
		{name: "a stage that somebody else has", want: "a:running b:pending => running",
			server: func(f *fake) { f.stage.Machine = "other" }, never: []string{"update error", "upload a"}},
		{name: "a stage that the server has forgotten", want: "a:running b:pending => running",
			server: func(f *fake) {
				f.before = on(noRows, "detail")
			}, never: []string{"update error", "upload a"}},
		{name: "a proxy that knows no server for a while", want: told, log: "one\ntwo\nstopped: the runner stopped while this ran\n",
			server: func(f *fake) {
				left := 3
				f.before = func(context.Context, string) error {
					if left--; left > 0 {
						return noBackend
					}
					return nil
				}
			}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j, server := interruptedStage(t)
				if row.server != nil {
					row.server(server)
				}
				swept := 0
				r := &Recovery{Journal: j, Client: server, Log: quiet(), Sweep: func(context.Context, string) error {
					swept++
					return errors.New("in use")
				}}
				ctx, cancel := context.WithCancel(t.Context())
				r.SweepAll(ctx)
				var running sync.WaitGroup
				began := time.Now()
				running.Go(func() { r.Run(ctx) })
				for len(j.Orphans()) > 0 && time.Since(began) < 48*time.Hour {
					time.Sleep(50 * time.Millisecond)
				}
				cancel()
				running.Wait()
				if n := len(j.Orphans()); n != 0 || swept != 1 {
					t.Errorf("%d orphans are left, swept %d times", n, swept)
				}
				if took := time.Since(began); took < row.after || took > row.after+10*time.Minute {
					t.Errorf("it took %s, want a bit more than %s", took, row.after)
				}
				got := server.final()
				got.Steps = nil
				for _, id := range []int64{100, 101} {
					got.Steps = append(got.Steps, new(server.steps[id]))
				}
				if render(got) != row.want {
					t.Errorf("got  %s\nwant %s", render(got), row.want)
				}
				if text := server.log("a"); text != row.log {
					t.Errorf("log: %q, want %q", text, row.log)
				}
				for _, unwanted := range row.never {
					if slices.Contains(server.calls, unwanted) {
						t.Errorf("calls %q, with %q among them", server.calls, unwanted)
					}
				}
				left(t, filepath.Dir(j.Logs()))
			})
		})
	}
}

// A recovery that is told to end leaves what it couldn't tell to the next start.
func TestRecoveryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, server := interruptedStage(t)
		server.before = func(ctx context.Context, call string) error {
			if call != "upload a" {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		(&Recovery{Journal: j, Client: server, Log: quiet()}).Run(ctx)
		orphans := j.Orphans()
		if len(orphans) != 1 {
			t.Fatalf("%d orphans are left", len(orphans))
		}
		if _, err := os.Stat(orphans[0].Spool(orphans[0].Record().Steps[0])); err != nil {
			t.Errorf("its log: %v", err)
		}
	})
}

// A stage whose log and end the server refused, not knowing the runner's secret any more, is told
// of later, by the same runner.
func TestRecoveryOfThisLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		j := journalIn(t, state)
		server := newFake(t)
		refusals := 2 // the end, and the one more
		server.before = func(_ context.Context, call string) error {
			switch {
			case refusals == 0 || call != "upload a" && call != "update step a success" && call != "update success":
				return nil
			case call == "update success":
				refusals--
			}
			return rpc.ErrUnauthorized
		}
		var swept []string
		recovery := &Recovery{Journal: j, Client: server, Log: quiet(), Sweep: func(_ context.Context, s string) error {
			swept = append(swept, s)
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { recovery.Run(ctx) })
		synctest.Wait()
		r := &Runner{
			Client: server, Machine: "me", Log: quiet(), Journal: j, Logs: LogOptions{Dir: j.Logs()},
			Compile:  func(context.Context, *client.Context) (*spec.Spec, error) { return specOf(step("a")), nil },
			Executor: &Executor{Engine: enginetest.New(t).Script("a", enginetest.Script{Output: []string{"one\n"}}), Log: quiet()},
		}
		if err := r.Run(t.Context(), &drone.Stage{ID: 1, BuildID: 3, Number: 1, Name: "default", Status: drone.StatusPending, Version: 1}, func() {}); err == nil {
			t.Error("the refusal is no error")
		}
		synctest.Wait()
		cancel()
		running.Wait()
		if got := server.final(); got.Status != drone.StatusPassing || !slices.Equal(swept, []string{"spec"}) || j.Running() != 0 {
			t.Errorf("got %s, swept %q", got.Status, swept)
		}
		if text := server.log("a"); text != "one\n" {
			t.Errorf("the log is %q", text)
		}
		left(t, state)
	})
}

// A stage that can't be written down is left to others; one that can't be from the moment on when
// there would be something to clean up has failed.
func TestRunnerWithoutRoom(t *testing.T) {
	for _, row := range []struct {
		when, want, fails string
		took              time.Duration
	}{
		{"accept", "=> pending", "left to other runners", noRoomPause},
		{"compile", "=> error/255", "no room to keep account", 0},
	} {
		t.Run(row.when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				state := t.TempDir()
				j := journalIn(t, state)
				full := func() {
					if err := os.Rename(filepath.Join(state, "journal"), filepath.Join(state, "away")); err != nil {
						t.Error(err)
					}
				}
				server, e := newFake(t), enginetest.New(t)
				r := &Runner{
					Client: server, Machine: "me", Log: quiet(), Journal: j, Logs: LogOptions{Dir: j.Logs()}, Executor: &Executor{Engine: e, Log: quiet()},
					Compile: func(context.Context, *client.Context) (*spec.Spec, error) {
						full()
						return specOf(step("a")), nil
					},
				}
				if row.when == "accept" {
					full()
				}
				began := time.Now()
				err := r.Run(t.Context(), &drone.Stage{ID: 1, BuildID: 3, Number: 1, Name: "default", Status: drone.StatusPending, Version: 1}, func() {})
				if err == nil || !strings.Contains(err.Error(), row.fails) || time.Since(began) != row.took {
					t.Errorf("after %s: %v", time.Since(began), err)
				}
				if got := render(server.final()); got != row.want || len(e.Events()) > 0 {
					t.Errorf("got %s; the engine was called: %q", got, e.Events())
				}
			})
		})
	}
}

// Many stages are told of at once, and not all at once.
func TestRecoveryOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		j := journalIn(t, state)
		for id := range int64(20) {
			if _, err := j.Begin(drone.Stage{ID: id + 1, Version: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = journalIn(t, state)
		server := newFake(t)
		server.before = func(ctx context.Context, call string) error {
			if call == "detail" {
				return pause.For(ctx, time.Minute)
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var running sync.WaitGroup
		running.Go(func() { (&Recovery{Journal: j, Client: server, Log: quiet()}).Run(ctx) })
		for len(j.Orphans()) > 0 {
			time.Sleep(time.Second)
		}
		cancel()
		running.Wait()
		if took := time.Since(began).Round(time.Minute); took != 20/recoveriesAtOnce*time.Minute {
			t.Errorf("it took %s: %s", took, fmt.Sprint(len(server.calls)))
		}
	})
}
