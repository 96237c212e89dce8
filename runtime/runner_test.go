package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/enginetest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// on fails the named calls.
func on(err error, calls ...string) func(context.Context, string) error {
	return func(_ context.Context, call string) error {
		if slices.Contains(calls, call) {
			return err
		}
		return nil
	}
}

// compilesForever makes a runner whose compiler waits for a plugin that never answers.
func compilesForever(r *Runner) {
	r.Compile = func(ctx context.Context, _ *client.Context) (*spec.Spec, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("ask the secret plugin: %w", ctx.Err())
	}
}

// TestRunner lives stages against a server in memory: what the server has in the end, whatever goes
// wrong on the way.
func TestRunner(t *testing.T) {
	refused := errors.New("400 Bad Request")
	rows := []struct {
		name    string
		steps   []*spec.Step
		scripts scripts
		server  func(*fake)
		runner  func(*Runner)
		engine  func(*enginetest.Engine)
		// stopAt is when the context of the builds ends, for ErrStopped.
		stopAt time.Duration
		want   string
		// wantError is in the stage's error; fails is in what Run returns, "" for none.
		wantError, fails string
		// order has these calls in this order, never those that aren't made.
		order, never []string
		logs         map[string]string
		took         time.Duration
	}{
		{name: "a stage is accepted, run and reported", steps: chain(step("a"), step("b")), scripts: scripts{"a": {Output: []string{"hello\n"}, Delay: 5 * time.Second}},
			want:  "a:success b:success => success",
			order: []string{"accept me", "detail", "update running", "update step a running", "batch a", "upload a", "update step a success", "update success"},
			logs:  map[string]string{"a": "hello\n"}},
		{name: "skipped steps are reported", steps: chain(step("a"), step("b")), scripts: scripts{"a": exits(1)},
			want: "a:failure/1 b:skipped => failure", order: []string{"update step b skipped", "update failure"}, never: []string{"upload b", "update step b running"}},
		{name: "a stage that somebody else has is dropped silently", server: func(f *fake) { f.before = on(client.ErrOptimisticLock, "accept me") },
			want: "=> pending", never: []string{"detail", "update error"}},
		{name: "an accept that fails is for the log alone", server: func(f *fake) { f.before = on(refused, "accept me") },
			want: "=> pending", fails: "accept stage 1: 400", never: []string{"detail"}},
		{name: "details that can't be had are the stage's error", server: func(f *fake) { f.before = on(refused, "detail") },
			want: "=> error/255", wantError: "details", fails: "400"},
		{name: "details without a build", server: func(f *fake) { f.details.Build = nil }, want: "=> error/255", wantError: "no build", fails: "no build"},
		{name: "details without a repository", server: func(f *fake) { f.details.Repo = nil }, want: "=> error/255", wantError: "no repository", fails: "no repository"},
		{name: "details without a stage", server: func(f *fake) { f.details.Stage = nil }, want: "=> error/255", wantError: "no stage", fails: "no stage"},
		{name: "no details at all", server: func(f *fake) { f.details = nil }, want: "=> error/255", wantError: "has nothing", fails: "nothing"},
		{name: "a build that the limits exclude", runner: func(r *Runner) {
			r.Permit = func(repo *drone.Repo, build *drone.Build) error {
				return fmt.Errorf("this runner doesn't run %s of %s", build.Event, repo.Slug)
			}
		}, want: "=> error/255", wantError: "this runner doesn't run push of octo/lab", fails: "doesn't run", never: []string{"update running"}},
		{name: "a pipeline that can't be compiled", runner: func(r *Runner) {
			r.Compile = func(context.Context, *client.Context) (*spec.Spec, error) {
				return nil, errors.New(".drone.yml:3: image is missing")
			}
		}, want: "=> error/255", wantError: ".drone.yml:3: image is missing", fails: "image is missing", never: []string{"update running"}},
		{name: "a compiler that gives nothing", runner: func(r *Runner) {
			r.Compile = func(context.Context, *client.Context) (*spec.Spec, error) { return nil, nil }
		}, want: "=> error/255", wantError: "no spec", fails: "no spec"},
		{name: "a compiler that panics", runner: func(r *Runner) {
			r.Compile = func(context.Context, *client.Context) (*spec.Spec, error) { panic("nil dereference") }
		}, want: "=> error/255", wantError: "the runner panicked: nil dereference", fails: "panicked"},
		{name: "a permit that panics", runner: func(r *Runner) { r.Permit = func(*drone.Repo, *drone.Build) error { panic("oh") } },
			want: "=> error/255", wantError: "panicked: oh", fails: "panicked"},
		{name: "a runner without an executor's engine", runner: func(r *Runner) { r.Executor.Engine = nil }, steps: chain(step("a")),
			want: "a:skipped => error/255", wantError: "set up the stage: the runner panicked"},
		{name: "a begin that the server refuses", steps: chain(step("a")), server: func(f *fake) { f.before = on(refused, "update running") },
			want: "=> error/255", wantError: "begin of the stage: 400", fails: "400", never: []string{"update step a running"}},
		{name: "a stage that was cancelled before it began", steps: chain(step("a")), server: func(f *fake) {
			f.before = func(_ context.Context, call string) error {
				if call != "update running" {
					return nil
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				f.stage.Status = drone.StatusKilled
				return client.ErrOptimisticLock
			}
		}, want: "=> killed", never: []string{"update error", "update step a running"}},
		{name: "a stage that was cancelled before its details were read", steps: chain(step("a")), server: func(f *fake) {
			f.before = func(_ context.Context, call string) error {
				if call == "detail" {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.stage.Status = drone.StatusSkipped
					f.stage.Version++
				}
				return nil
			}
		}, want: "=> skipped", never: []string{"update running", "update error", "watch"}},
		{name: "a begin that is stale for no known reason", steps: chain(step("a")), server: func(f *fake) {
			f.before = func(_ context.Context, call string) error {
				if call != "update running" {
					return nil
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				f.stage.Version++
				return client.ErrOptimisticLock
			}
		}, want: "=> error/255", wantError: "begin of the stage", fails: "begin of the stage"},
		{name: "a begin that panics in the client", steps: chain(step("a")), server: func(f *fake) {
			f.before = func(_ context.Context, call string) error {
				if call == "update running" {
					panic("oh")
				}
				return nil
			}
		}, want: "=> error/255", wantError: "panicked: oh", fails: "panicked"},
		{name: "steps that the server refuses to hear of change nothing", steps: chain(step("a"), step("b")),
			server: func(f *fake) {
				f.before = on(refused, "update step a running", "update step a success", "upload b", "batch b")
			},
			want: "a:success b:success => success"},
		{name: "a client that panics on steps and logs changes nothing", steps: chain(step("a"), step("b")), scripts: scripts{"a": {Output: []string{"x\n"}}, "b": {Output: []string{"x\n"}}}, server: func(f *fake) {
			f.before = func(_ context.Context, call string) error {
				if slices.Contains([]string{"update step a running", "batch b", "upload b"}, call) {
					panic("oh")
				}
				return nil
			}
		}, want: "a:success b:success => success"},
		{name: "a log that the server refuses changes nothing for its step", steps: chain(step("a")), scripts: scripts{"a": {Output: []string{"x\n"}}},
			server: func(f *fake) { f.before = on(errors.New("413 Request Entity Too Large"), "upload a") },
			want:   "a:success => success", wantError: `the log of step "a" is lost (the runner couldn't keep it): 413`},
		{name: "a log that there is no place for", steps: chain(step("a")), scripts: scripts{"a": {Output: []string{"x\n"}}},
			runner: func(r *Runner) { r.Logs.Dir = "/dev/null/spool" },
			want:   "a:success => success", logs: map[string]string{"a": "the log of this step is lost"}},
		{name: "a step that the server has killed already", steps: chain(step("a")), server: func(f *fake) { f.before = on(client.ErrOptimisticLock, "update step a success") },
			want: "a:success => success"},
		{name: "an end that the server refuses once", steps: chain(step("a")), scripts: scripts{"a": exits(1)}, server: func(f *fake) {
			left := 1
			f.before = func(_ context.Context, call string) error {
				if call == "update failure" && left > 0 {
					left--
					return refused
				}
				return nil
			}
		}, want: "=> failure", fails: "400"},
		{name: "an end after the server's own is ignored", steps: chain(step("a")), server: func(f *fake) { f.before = on(client.ErrOptimisticLock, "update success") },
			want: "a:pending => running"},
		{name: "a cancel", steps: chain(step("a"), step("b")), scripts: scripts{"a": blocks}, took: 10 * time.Second, server: func(f *fake) {
			f.before = func(ctx context.Context, call string) error {
				if call == "watch" {
					if err := pause.For(ctx, 10*time.Second); err != nil {
						return err
					}
					f.mu.Lock()
					f.stage.Status = drone.StatusKilled
					f.stage.Version++
					f.mu.Unlock()
				}
				return nil
			}
		}, want: "a:pending b:pending => killed", order: []string{"update step a killed", "update killed"}},
		{name: "the repository's timeout", steps: chain(step("a"), step("b")), scripts: scripts{"a": blocks}, took: 60 * time.Minute,
			want: "a:killed/137 b:skipped => killed/137", wantError: "ran longer than 1h0m0s"},
		{name: "a repository without a timeout", steps: chain(step("a")), scripts: scripts{"a": blocks}, server: func(f *fake) { f.details.Repo.Timeout = 0 }, took: DefaultTimeout,
			want: "a:killed/137 => killed/137", wantError: "ran longer than 1h0m0s"},
		{name: "a timeout beyond all measure", steps: chain(step("a")), server: func(f *fake) { f.details.Repo.Timeout = 1 << 62 }, want: "a:success => success"},
		{name: "a runner that stops", steps: chain(step("a"), step("b")), scripts: scripts{"a": blocks}, stopAt: time.Minute, took: time.Minute,
			want: "a:killed/137 b:skipped => error/255", wantError: "the runner was stopped"},
		{name: "a runner that stops while it compiles", stopAt: time.Minute, took: time.Minute, runner: compilesForever, want: "=> error/255", wantError: "the runner was stopped", fails: "secret plugin"},
		{name: "a cancel while it compiles", took: 10 * time.Second, server: func(f *fake) {
			f.before = func(ctx context.Context, call string) error {
				if call != "watch" {
					return nil
				}
				if err := pause.For(ctx, 10*time.Second); err != nil {
					return err
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				f.stage.Status = drone.StatusKilled
				f.stage.Version++
				return nil
			}
		}, runner: compilesForever, want: "=> killed", fails: "secret plugin", never: []string{"update running"}},
		{name: "a timeout while it compiles", took: time.Hour, runner: compilesForever,
			want: "=> killed/137", wantError: "ran longer than 1h0m0s", fails: "secret plugin", never: []string{"update running"}},
		{name: "a runner that stops while the server is away waits a while and no longer", steps: chain(step("a")), scripts: scripts{"a": blocks}, stopAt: time.Minute, took: time.Minute + DefaultReportGrace,
			server: func(f *fake) {
				f.before = func(ctx context.Context, call string) error {
					if call != "update step a killed" && call != "update error" {
						return nil
					}
					<-ctx.Done()
					return context.Cause(ctx)
				}
			}, want: "a:pending => running", fails: "the runner was stopped"},
		{name: "a server that is away for a day holds nothing up but the end", steps: chain(step("a"), step("b")), scripts: scripts{"a": {Output: []string{"x\n"}}}, took: 24 * time.Hour,
			server: func(f *fake) {
				began := time.Now()
				f.before = func(ctx context.Context, call string) error {
					if strings.HasPrefix(call, "update step") {
						return pause.For(ctx, 24*time.Hour-time.Since(began))
					}
					return nil
				}
			}, want: "a:success b:success => success", logs: map[string]string{"a": "x\n"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := enginetest.New(t)
				for name, s := range row.scripts {
					e.Script(name, s)
				}
				if row.engine != nil {
					row.engine(e)
				}
				server := newFake(t)
				if row.server != nil {
					row.server(server)
				}
				r := &Runner{
					Client: server, Machine: "me", Log: quiet(),
					Compile:  func(context.Context, *client.Context) (*spec.Spec, error) { return specOf(row.steps...), nil },
					Executor: &Executor{Engine: e, Log: quiet()},
					Logs:     LogOptions{Dir: t.TempDir()},
				}
				if row.runner != nil {
					row.runner(r)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if row.stopAt > 0 {
					defer time.AfterFunc(row.stopAt, func() { cancel(ErrStopped) }).Stop()
				}
				began := time.Now()
				offered := drone.Stage{ID: 1, BuildID: 3, Number: 1, Name: "default", Status: drone.StatusPending, Version: 1}
				err := r.Run(ctx, &offered, func() {})
				if (err == nil) != (row.fails == "") || err != nil && !strings.Contains(err.Error(), row.fails) {
					t.Errorf("got the error %v, want %q", err, row.fails)
				}
				if row.took > 0 && time.Since(began) != row.took {
					t.Errorf("it took %s, want %s", time.Since(began), row.took)
				}
				got := server.final()
				if render(got) != row.want {
					t.Errorf("got  %s\nwant %s", render(got), row.want)
				}
				if !strings.Contains(got.Error, row.wantError) || (row.wantError == "") != (got.Error == "") {
					t.Errorf("the stage's error is %q, want %q", got.Error, row.wantError)
				}
				at := 0
				for _, want := range row.order {
					i := slices.Index(server.calls[at:], want)
					if i < 0 {
						t.Errorf("calls %q, want %q in this order", server.calls, row.order)
						break
					}
					at += i + 1
				}
				for _, unwanted := range row.never {
					if slices.Contains(server.calls, unwanted) {
						t.Errorf("calls %q, with %q among them", server.calls, unwanted)
					}
				}
				for name, want := range row.logs {
					if text := server.log(name); !strings.Contains(text, want) {
						t.Errorf("the log of %q is %q, want %q in it", name, text, want)
					}
				}
			})
		})
	}
}
