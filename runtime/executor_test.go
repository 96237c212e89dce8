package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/semaphore"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/enginetest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

type scripts map[string]enginetest.Script

func exits(code int) enginetest.Script        { return enginetest.Script{Exit: spec.Exit{Code: code}} }
func takes(d time.Duration) enginetest.Script { return enginetest.Script{Delay: d} }

var blocks = enginetest.Script{Block: true}

// panicsLater is a step that panics after a second.
func panicsLater(context.Context, *spec.Step, io.Writer) error {
	time.Sleep(time.Second)
	panic("nil dereference")
}

// TestExecutor runs stages in memory, on a clock that jumps: what becomes of them, step by step.
func TestExecutor(t *testing.T) {
	noImage := errors.New(`pull image "nosuch/image:1.0": not found`)
	rows := []struct {
		name    string
		steps   []*spec.Step
		scripts scripts
		engine  func(*enginetest.Engine)
		timeout time.Duration
		// stepTimeout is the executor's.
		stepTimeout time.Duration
		// cancelled after that long, for the cause.
		cancelAt time.Duration
		cause    error
		procs    int64
		want     string
		// wantError is the text of the stage's error.
		wantError string
		// logs have these fragments, notLogs don't.
		logs, notLogs map[string]string
		// order has these events in this order, among others; never has those that don't occur.
		order, never []string
		// took is how long it lasted.
		took time.Duration
	}{
		{name: "one step passes", steps: chain(step("a")),
			want: "a:success => success", order: []string{"setup", "prepare a", "start a", "end a", "destroy"}},
		{name: "a serial pipeline runs in order", steps: chain(step("clone"), step("build"), step("test")),
			want:  "clone:success build:success test:success => success",
			order: []string{"end clone", "prepare build", "end build", "prepare test"}},
		{name: "a stage without steps passes", want: " => success"},
		{name: "a failing step fails the stage and the rest is skipped", steps: chain(step("a"), step("b"), step("c")), scripts: scripts{"a": exits(3)},
			want: "a:failure/3 b:skipped c:skipped => failure", never: []string{"prepare b", "prepare c"}},
		{name: "all ready steps run at once", steps: []*spec.Step{step("clone"), step("a", after("clone")), step("b", after("clone")), step("c", after("a", "b"))},
			scripts: scripts{"a": takes(time.Minute), "b": takes(time.Minute)}, took: time.Minute,
			want: "clone:success a:success b:success c:success => success"},
		{name: "a failure in one branch skips what is still to come in another", steps: []*spec.Step{step("a"), step("b"), step("c", after("b"))},
			scripts: scripts{"a": {Delay: time.Second, Exit: spec.Exit{Code: 1}}, "b": takes(time.Minute)},
			want:    "a:failure/1 b:success c:skipped => failure"},
		{name: "a step for failures runs after one", steps: chain(step("a"), step("notify", policy(spec.RunOnFailure))), scripts: scripts{"a": exits(1)},
			want: "a:failure/1 notify:success => failure"},
		{name: "a step for failures is skipped without one", steps: chain(step("a"), step("notify", policy(spec.RunOnFailure))),
			want: "a:success notify:skipped => success"},
		{name: "a step for both runs after a failure", steps: chain(step("a"), step("b"), step("notify", policy(spec.RunAlways))), scripts: scripts{"a": exits(1)},
			want: "a:failure/1 b:skipped notify:success => failure"},
		{name: "a step for both runs after a success", steps: chain(step("a"), step("notify", policy(spec.RunAlways))),
			want: "a:success notify:success => success"},
		{name: "a step that never runs is reported to nobody and holds nobody up", steps: chain(step("a"), step("b", policy(spec.RunNever)), step("c")),
			want: "a:success c:success => success", order: []string{"end a", "prepare c"}, never: []string{"prepare b"}},
		{name: "an ignored failure fails nothing", steps: chain(step("a", onError(spec.ErrIgnore)), step("b")), scripts: scripts{"a": exits(1)},
			want: "a:failure/1 b:success => success"},
		{name: "an image that can't be had is an error, ignored or not", steps: chain(step("a", onError(spec.ErrIgnore)), step("b")),
			scripts: scripts{"a": {PrepareErr: noImage}},
			want:    "a:error/255 b:skipped => error/255", wantError: noImage.Error()},
		{name: "exit 78 passes the stage and skips the rest, but for what always runs", steps: chain(step("a"), step("b"), step("c", policy(spec.RunAlways)), step("d"), step("e", policy(spec.RunOnFailure))),
			scripts: scripts{"a": exits(78)}, want: "a:success/78 b:skipped c:success d:skipped e:skipped => success"},
		{name: "exit 78, then a failure of what always runs", steps: chain(step("a"), step("b", policy(spec.RunAlways)), step("c", policy(spec.RunOnFailure)), step("d", policy(spec.RunAlways))),
			scripts: scripts{"a": exits(78), "b": exits(1)}, want: "a:success/78 b:failure/1 c:skipped d:success => failure"},
		{name: "no steps at all", want: "=> success"},
		{name: "exit 78 lets parallel steps end", steps: []*spec.Step{step("a"), step("b"), step("c", after("b"))},
			scripts: scripts{"a": {Delay: time.Second, Exit: spec.Exit{Code: 78}}, "b": takes(time.Minute)},
			want:    "a:success/78 b:success c:skipped => success"},
		{name: "a step that is out of memory fails with 137", steps: chain(step("a")), scripts: scripts{"a": {Exit: spec.Exit{OOMKilled: true}}},
			want: "a:failure/137 => failure", logs: map[string]string{"a": "out of memory"}},
		{name: "an image that isn't there is the step's error and the stage's", steps: chain(step("a"), step("b")), scripts: scripts{"a": {PrepareErr: noImage}},
			want: "a:error/255 b:skipped => error/255", wantError: noImage.Error()},
		{name: "an entrypoint that isn't there is the same", steps: chain(step("a"), step("b")), scripts: scripts{"a": {RunErr: errors.New(`start container "a": exec: "/nope": not found`)}},
			want: "a:error/255 b:skipped => error/255", wantError: `"/nope": not found`},
		{name: "an error counts more than a failure", steps: []*spec.Step{step("a"), step("b")},
			scripts: scripts{"a": {Delay: time.Second, Exit: spec.Exit{Code: 1}}, "b": {PrepareDelay: time.Minute, PrepareErr: noImage}},
			want:    "a:failure/1 b:error/255 => error/255", wantError: noImage.Error()},
		{name: "a timeout kills what runs and skips the rest", steps: chain(step("a"), step("b", policy(spec.RunAlways))), scripts: scripts{"a": blocks}, timeout: time.Hour, took: time.Hour,
			want: "a:killed/137 b:skipped => killed/137", wantError: "ran longer than 1h0m0s", logs: map[string]string{"a": "stopped: the build ran longer than 1h0m0s"}},
		{name: "a step that ends before the timeout is none", steps: chain(step("a")), scripts: scripts{"a": takes(59 * time.Minute)}, timeout: time.Hour,
			want: "a:success => success"},
		{name: "a step that takes too long is stopped and has failed", steps: chain(step("a"), step("b"), step("c", policy(spec.RunOnFailure))), scripts: scripts{"a": blocks}, stepTimeout: time.Minute, took: time.Minute,
			want: "a:killed/137 b:skipped c:success => failure", logs: map[string]string{"a": "stopped: the step ran longer than 1m0s, the timeout of this runner's steps"}},
		{name: "a step that takes too long and fails fast stops the others", steps: []*spec.Step{step("a", onError(spec.ErrFailFast)), step("b")},
			scripts: scripts{"a": blocks, "b": {PrepareDelay: time.Hour}}, stepTimeout: time.Minute, took: time.Minute,
			want: "a:killed/137 b:killed/137 => failure"},
		{name: "a pull and a service may take longer than a step", steps: chain(step("db", service), step("a"), step("b")), stepTimeout: time.Minute, took: time.Hour + 100*time.Second,
			scripts: scripts{"db": blocks, "a": {PrepareDelay: time.Hour, Delay: 50 * time.Second}, "b": {Delay: 50 * time.Second}}, want: "db:success a:success b:success => success"},
		{name: "a stage may time out before its step does", steps: chain(step("a")), scripts: scripts{"a": blocks}, stepTimeout: 2 * time.Hour, timeout: time.Hour, took: time.Hour,
			want: "a:killed/137 => killed/137", wantError: "the build ran longer than 1h0m0s"},
		{name: "a timeout while an image is pulled", steps: chain(step("a"), step("b")), scripts: scripts{"a": {PrepareDelay: 2 * time.Hour}}, timeout: time.Hour, took: time.Hour,
			want: "a:killed/137 b:skipped => killed/137", wantError: "ran longer"},
		{name: "a timeout in setup", steps: chain(step("a")), engine: func(e *enginetest.Engine) { e.SetupDelay = 2 * time.Hour }, timeout: time.Hour, took: time.Hour,
			want: "a:skipped => killed/137", wantError: "ran longer", order: []string{"setup", "destroy"}},
		{name: "a cancel kills what runs, services too, and skips the rest", steps: chain(step("svc", service), step("sleeper"), step("after")),
			scripts: scripts{"svc": blocks, "sleeper": blocks}, cancelAt: time.Second, cause: ErrCancelled, took: time.Second,
			want: "svc:killed/137 sleeper:killed/137 after:skipped => killed/137", notLogs: map[string]string{"sleeper": "stopped"}},
		{name: "a cancel awaits the last words of a step", steps: chain(step("a")), scripts: scripts{"a": {Block: true, StopDelay: time.Second, StopOutput: "bye\n"}},
			cancelAt: time.Second, cause: ErrCancelled, took: 2 * time.Second,
			want: "a:killed/137 => killed/137", logs: map[string]string{"a": "bye\n"}},
		{name: "a cancel in setup starts no step", steps: chain(step("a")), engine: func(e *enginetest.Engine) { e.SetupDelay = time.Hour }, cancelAt: time.Second, cause: ErrCancelled, took: time.Second,
			want: "a:skipped => killed/137", never: []string{"prepare a"}, order: []string{"setup", "destroy"}},
		{name: "a cancel of a context without a cause is a cancel", steps: chain(step("a")), scripts: scripts{"a": blocks}, cancelAt: time.Second,
			want: "a:killed/137 => killed/137"},
		{name: "a runner that stops makes it an error that says so", steps: chain(step("a"), step("b")), scripts: scripts{"a": blocks}, cancelAt: time.Second, cause: ErrStopped,
			want: "a:killed/137 b:skipped => error/255", wantError: "the runner was stopped", logs: map[string]string{"a": "the runner was stopped"}},
		{name: "a cancel while steps wait for a slot", steps: []*spec.Step{step("a"), step("b"), step("c")}, procs: 1,
			scripts: scripts{"a": blocks, "b": blocks, "c": blocks}, cancelAt: time.Second, cause: ErrCancelled, took: time.Second,
			want: "one of three"},
		{name: "a setup that fails is the stage's error", steps: chain(step("a"), step("b")), engine: func(e *enginetest.Engine) { e.SetupErr = errors.New("create network: no room") },
			want: "a:skipped b:skipped => error/255", wantError: "create network: no room", order: []string{"setup", "destroy"}, never: []string{"prepare a"}},
		{name: "a clean-up that fails changes nothing", steps: chain(step("a")), engine: func(e *enginetest.Engine) { e.DestroyErr = errors.New("network has endpoints") },
			want: "a:success => success"},
		{name: "a clean-up that hangs is given up", steps: chain(step("a")), engine: func(e *enginetest.Engine) { e.DestroyDelay = 24 * time.Hour }, took: DefaultDestroyTimeout,
			want: "a:success => success"},
		{name: "failure: fast kills what runs at once", steps: []*spec.Step{step("a", onError(spec.ErrFailFast)), step("b"), step("c", after("b"))},
			scripts: scripts{"a": {Delay: time.Second, Exit: spec.Exit{Code: 2}}, "b": blocks}, took: time.Second,
			want: "a:failure/2 b:killed/137 c:skipped => failure", logs: map[string]string{"b": "stopped: a step that fails fast has failed"}},
		{name: "failure: fast with an image that isn't there", steps: []*spec.Step{step("a", onError(spec.ErrFailFast)), step("b")},
			scripts: scripts{"a": {PrepareDelay: time.Second, PrepareErr: noImage}, "b": blocks}, took: time.Second,
			want: "a:error/255 b:killed/137 => error/255", wantError: noImage.Error()},
		{name: "failure: fast of a step that passes", steps: []*spec.Step{step("a", onError(spec.ErrFailFast)), step("b")}, scripts: scripts{"b": takes(time.Second)},
			want: "a:success b:success => success"},
		{name: "failure: fast with a when that doesn't match", steps: chain(step("a", onError(spec.ErrFailFast), policy(spec.RunNever)), step("b")),
			want: "b:success => success"},
		{name: "failure: fast with a status that isn't met", steps: chain(step("a", onError(spec.ErrFailFast), policy(spec.RunOnFailure)), step("b")),
			want: "a:skipped b:success => success"},
		{name: "a service runs beside the steps and is stopped at the end", steps: chain(step("db", service), step("a"), step("b")),
			scripts: scripts{"db": {Block: true, StopDelay: time.Second, StopOutput: "shut down\n"}, "a": takes(time.Minute)}, took: time.Minute + time.Second,
			want: "db:success a:success b:success => success", logs: map[string]string{"db": "shut down\n"}, order: []string{"start db", "prepare a", "end b", "end db", "destroy"}},
		{name: "steps wait until a service has started", steps: chain(step("db", service), step("a")),
			scripts: scripts{"db": {PrepareDelay: time.Minute, StartDelay: time.Minute, Block: true}}, took: 2 * time.Minute,
			want: "db:success a:success => success", order: []string{"prepare db", "start db", "prepare a"}},
		{name: "a service that fails warns the step that follows", steps: chain(step("db", service), step("a"), step("b")),
			scripts: scripts{"db": exits(1), "a": takes(time.Second)},
			want:    "db:success a:success b:success => success",
			logs:    map[string]string{"a": `warning: service "db" has failed: exit code 1`}, notLogs: map[string]string{"b": "warning"}},
		{name: "a service without an image warns as well", steps: chain(step("db", service), step("a")), scripts: scripts{"db": {PrepareErr: noImage}},
			want: "db:success a:success => success", logs: map[string]string{"db": "error: " + noImage.Error(), "a": `warning: service "db" has failed: ` + noImage.Error()}},
		{name: "a service that can't be started holds nobody up", steps: chain(step("db", service), step("a")), scripts: scripts{"db": {RunErr: errors.New("no such entrypoint")}},
			want: "db:success a:success => success", logs: map[string]string{"a": "no such entrypoint"}},
		{name: "a service that is out of memory", steps: chain(step("db", service), step("a")), scripts: scripts{"db": {Exit: spec.Exit{OOMKilled: true}}, "a": takes(time.Second)},
			want: "db:success a:success => success", logs: map[string]string{"a": "out of memory"}},
		{name: "steps wait until a service is healthy", steps: chain(step("db", service), step("cache", detach), step("a")), procs: 1,
			scripts: scripts{"db": {Block: true, ReadyDelay: 20 * time.Second}, "cache": {Block: true, ReadyDelay: 30 * time.Second}}, took: 50 * time.Second,
			want: "db:success cache:success a:success => success", notLogs: map[string]string{"a": "warning"}},
		{name: "a service that waits for its health holds nobody up but those that need it", procs: 1, took: 40 * time.Second,
			steps:   []*spec.Step{step("db", service), step("gate", detach), step("a", after("db")), step("b", after("gate"))},
			scripts: scripts{"db": {Block: true, ReadyDelay: 40 * time.Second}, "gate": {Block: true, ReadyDelay: time.Second}, "b": takes(30 * time.Second)},
			want:    "db:success gate:success a:success b:success => success"},
		{name: "a service that is never healthy", steps: chain(step("db", service, withSecret("TOKEN", "s3cr3tvalue")), step("a"), step("b")), took: time.Minute,
			scripts: scripts{"db": {Output: []string{"one\n", "no table s3cr3t", "value\nopen"}, Block: true, ReadyErr: errors.New("its check says s3cr3tvalue")}},
			want:    "db:success a:success b:success => success", notLogs: map[string]string{"b": "warning"},
			logs: map[string]string{"a": `warning: service "db" isn't healthy after 1m0s, which is how long this runner's steps wait (DRONE_RUNNER_SERVICE_WAIT); the stage goes on: its check says ******` +
				"\n  db: one\n  db: no table ******\n  db: open\n"}},
		{name: "a service that dies before it is healthy", steps: chain(step("db", service), step("a")), took: time.Second,
			scripts: scripts{"db": {Output: []string{"bad option\n"}, Delay: time.Second, Exit: spec.Exit{Code: 2}, ReadyErr: spec.ErrEnded}},
			want:    "db:success a:success => success", logs: map[string]string{"a": "warning: service \"db\" has failed: exit code 2 (the stage goes on; see its log)\n  db: bad option\n"}},
		{name: "a cancel while a service gets healthy", steps: chain(step("db", service), step("a")), cancelAt: time.Second, cause: ErrCancelled, took: time.Second,
			scripts: scripts{"db": {Block: true, ReadyDelay: 30 * time.Second}}, want: "db:killed/137 a:skipped => killed/137"},
		{name: "a service that ends well", steps: chain(step("seed", service), step("a")), scripts: scripts{"seed": {Output: []string{"done\n"}}, "a": takes(time.Second)},
			logs: map[string]string{"a": "note: service \"seed\" has ended, with exit code 0 (the stage goes on without it)\n  seed: done\n"},
			want: "seed:success a:success => success", notLogs: map[string]string{"a": "warning"}},
		{name: "a detached step that fails doesn't fail the stage", steps: chain(step("bg", detach), step("a")), scripts: scripts{"bg": exits(9), "a": takes(time.Second)},
			want: "bg:success a:success => success", logs: map[string]string{"a": `warning: detached step "bg" has failed: exit code 9`}},
		{name: "a service for failures", steps: chain(step("a"), step("svc", service, policy(spec.RunOnFailure)), step("b", policy(spec.RunOnFailure))), scripts: scripts{"a": exits(1), "svc": blocks},
			want: "a:failure/1 svc:success b:success => failure"},
		{name: "failure: fast kills services", steps: chain(step("db", service), step("a", onError(spec.ErrFailFast))), scripts: scripts{"db": blocks, "a": exits(1)},
			want: "db:killed/137 a:failure/1 => failure"},
		{name: "one slot, many steps", steps: []*spec.Step{step("a"), step("b"), step("c")}, procs: 1, took: 3 * time.Minute,
			scripts: scripts{"a": takes(time.Minute), "b": takes(time.Minute), "c": takes(time.Minute)},
			want:    "a:success b:success c:success => success"},
		{name: "a service doesn't keep its slot", steps: chain(step("db", service), step("a")), procs: 1, scripts: scripts{"db": blocks, "a": takes(time.Minute)}, took: time.Minute,
			want: "db:success a:success => success"},
		{name: "a panic of the engine in prepare is the step's error", steps: chain(step("a"), step("b")), scripts: scripts{"a": {PreparePanic: "index out of range"}},
			want: "a:error/255 b:skipped => error/255", wantError: "the runner panicked: index out of range"},
		{name: "a panic of the engine in run, with one slot, is no green step", steps: chain(step("a"), step("b")), procs: 1, scripts: scripts{"a": {RunPanic: "nil dereference"}},
			want: "a:error/255 b:skipped => error/255", wantError: `run step "a": the runner panicked: nil dereference`},
		{name: "a panic of the engine in a service is an error, too", steps: chain(step("db", service), step("a")), scripts: scripts{"db": {Do: panicsLater}, "a": takes(time.Minute)},
			want: "db:error/255 a:success => error/255", wantError: "nil dereference"},
		{name: "a panic of the engine in setup", steps: chain(step("a")), engine: func(e *enginetest.Engine) { e.SetupPanic = "oh" },
			want: "a:skipped => error/255", wantError: "set up the stage: the runner panicked: oh", order: []string{"setup", "destroy"}},
		{name: "what the runner has to say opens the log", steps: chain(step("a", notes("privileged: runs without"))), scripts: scripts{"a": {PrepareOutput: "pulling\n", Output: []string{"hello\n"}}},
			want: "a:success => success", logs: map[string]string{"a": "privileged: runs without\npulling\nhello\n"}},
		{name: "secrets of any step are masked in every log", steps: chain(step("a", withSecret("TOKEN", "s3cr3tvalue")), step("b")),
			scripts: scripts{"b": {Output: []string{"the token is s3cr3", "tvalue\n"}, PrepareOutput: "s3cr3tvalue\n"}},
			want:    "a:success b:success => success", logs: map[string]string{"b": "******\nthe token is ******\n"}, notLogs: map[string]string{"b": "s3cr3tvalue"}},
		{name: "secrets are masked in errors", steps: chain(step("a", withSecret("TOKEN", "s3cr3tvalue"))), scripts: scripts{"a": {PrepareErr: errors.New("no variable s3cr3tvalue")}},
			want: "a:error/255 => error/255", wantError: "no variable ******"},
		{name: "two steps of one name are refused", steps: []*spec.Step{step("a"), step("a")}, want: " => error/255", wantError: `two steps are called "a"`, never: []string{"setup"}},
		{name: "a circle is refused, not waited for", steps: []*spec.Step{step("a", after("b")), step("b", after("a"))}, want: " => error/255", wantError: "in a circle: a -> b -> a", never: []string{"setup"}},
		{name: "a dependency on nothing is refused", steps: []*spec.Step{step("a", after("b"))}, want: " => error/255", wantError: `depends on "b"`, never: []string{"setup"}},
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
				x := &Executor{Engine: e, StepTimeout: row.stepTimeout, ServiceWait: time.Minute, Log: quiet()}
				if row.procs > 0 {
					x.Procs = semaphore.NewWeighted(row.procs)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if row.cancelAt > 0 {
					defer time.AfterFunc(row.cancelAt, func() { cancel(row.cause) }).Stop()
				}
				reports := newRecorder(t)
				began := time.Now()
				ended := ""
				stage, err := x.Run(ctx, Job{Spec: specOf(row.steps...), Stage: &drone.Stage{ID: 1}, Timeout: row.timeout, Reporter: reports, Ended: func(stage drone.Stage) {
					ended += render(stage)
					if slices.Contains(e.Events(), "destroy") {
						t.Error("its end is told after the clean-up")
					}
				}})
				if err != nil {
					t.Fatal(err)
				}
				if ended != render(stage) {
					t.Errorf("its end was told as %q", ended)
				}
				if row.took > 0 && time.Since(began) != row.took {
					t.Errorf("it took %s, want %s", time.Since(began), row.took)
				}
				got := render(stage)
				if row.want == "one of three" {
					if strings.Count(got, "killed/137") != 2 || strings.Count(got, "skipped") != 2 {
						t.Errorf("got %s, want one step killed, two skipped, the stage killed", got)
					}
				} else if got != strings.TrimSpace(row.want) {
					t.Errorf("got  %s\nwant %s", got, row.want)
				}
				if !strings.Contains(stage.Error, row.wantError) || (row.wantError == "") != (stage.Error == "") {
					t.Errorf("the stage's error is %q, want %q", stage.Error, row.wantError)
				}
				for name, want := range row.logs {
					if text := reports.text(name); !strings.Contains(text, want) {
						t.Errorf("the log of %q is %q, want %q in it", name, text, want)
					}
				}
				for name, unwanted := range row.notLogs {
					if text := reports.text(name); strings.Contains(text, unwanted) {
						t.Errorf("the log of %q is %q, with %q in it", name, text, unwanted)
					}
				}
				events := e.Events()
				at := 0
				for _, want := range row.order {
					i := slices.Index(events[at:], want)
					if i < 0 {
						t.Errorf("events %q, want %q in this order", events, row.order)
						break
					}
					at += i + 1
				}
				for _, unwanted := range row.never {
					if slices.Contains(events, unwanted) {
						t.Errorf("events %q, with %q among them", events, unwanted)
					}
				}
				if reports.ended == nil || render(*reports.ended) != got {
					t.Error("the reporter was told another end")
				}
			})
		})
	}
}

// TestExecutorReporterPanics shows that no panic of a reporter ends the runner, or leaves a step
// green that nobody was told of. TestExecutorDetachedFailures holds that the reason why a detached
// step failed is in each log once, and in none where the reporter shows all of them in one place.
func TestExecutorDetachedFailures(t *testing.T) {
	run := func(t *testing.T, failed func(step, why string)) *recorder {
		e := enginetest.New(t).Script("gone", enginetest.Script{PrepareErr: errNoSuchImage}).Script("dies", enginetest.Script{RunErr: errNoProgram})
		reports := newRecorder(t)
		steps := chain(step("gone", service), step("dies", detach), step("a", notes("hello")))
		job := Job{Spec: specOf(steps...), Stage: &drone.Stage{ID: 1}, Reporter: reports, DetachedFailed: failed}
		if _, err := (&Executor{Engine: e, Log: quiet()}).Run(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		return reports
	}
	t.Run("logs apart", func(t *testing.T) {
		reports := run(t, nil)
		for _, name := range []string{"gone", "a"} {
			if text := reports.text(name); strings.Count(text, errNoSuchImage.Error()) != 1 {
				t.Errorf("the log of %q: %q", name, text)
			}
		}
	})
	t.Run("one screen", func(t *testing.T) {
		var mu sync.Mutex
		got := map[string]string{}
		reports := run(t, func(step, why string) {
			mu.Lock()
			defer mu.Unlock()
			got[step] = why
		})
		if diff := cmp.Diff(map[string]string{"gone": errNoSuchImage.Error(), "dies": errNoProgram.Error()}, got); diff != "" {
			t.Error(diff)
		}
		for _, name := range []string{"gone", "dies", "a"} {
			if text := reports.text(name); strings.Contains(text, errNoSuchImage.Error()) || strings.Contains(text, errNoProgram.Error()) {
				t.Errorf("the log of %q: %q", name, text)
			}
		}
		if text := reports.text("a"); !strings.Contains(text, `warning: service "gone" has failed (the stage goes on)`) {
			t.Errorf("the log of the step that follows: %q", text)
		}
	})
}

var (
	errNoSuchImage = errors.New("pull image: it is not there")
	errNoProgram   = errors.New("there is no such program")
)

func TestExecutorReporterPanics(t *testing.T) {
	rows := []struct{ on, want string }{
		{"StepStarted a", "a:error/255 b:skipped => error/255"},
		{"Write a", "a:error/255 b:skipped => error/255"},
		{"Close a", "a:error/255 b:skipped => error/255"},
		{"StepFinished a", "a:error/255 b:skipped => error/255"},
		{"StepFinished b", "a:success b:error/255 => error/255"},
		{"Write db", "db:error/255 a:success => error/255"},
		{"StepFinished db", "db:error/255 a:success => error/255"},
	}
	for _, row := range rows {
		t.Run(row.on, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := enginetest.New(t).Script("a", enginetest.Script{Output: []string{"x\n"}, Delay: time.Minute})
				e.Script("db", enginetest.Script{Do: func(ctx context.Context, _ *spec.Step, w io.Writer) error {
					time.Sleep(time.Second)
					io.WriteString(w, "x\n")
					<-ctx.Done()
					return ctx.Err()
				}})
				steps := chain(step("a"), step("b"))
				if strings.HasSuffix(row.on, "db") {
					steps = chain(step("db", service), step("a"))
				}
				reports := newRecorder(t)
				reports.panicOn = row.on
				stage, err := (&Executor{Engine: e, Log: quiet(), Procs: semaphore.NewWeighted(1)}).Run(t.Context(), Job{Spec: specOf(steps...), Reporter: reports})
				if err != nil {
					t.Fatal(err)
				}
				if got := render(stage); got != row.want {
					t.Errorf("got  %s\nwant %s", got, row.want)
				}
			})
		})
	}
	for _, on := range []string{"Begin", "End"} {
		t.Run(on, func(t *testing.T) {
			reports := newRecorder(t)
			reports.panicOn = on
			_, err := (&Executor{Engine: enginetest.New(t), Log: quiet()}).Run(t.Context(), Job{Spec: specOf(step("a")), Reporter: reports})
			if !isPanic(err) {
				t.Errorf("got the error %v, want that of a panic", err)
			}
		})
	}
}

// TestExecutorBeginFails shows that a stage which can't be reported isn't run.
func TestExecutorBeginFails(t *testing.T) {
	reports := newRecorder(t)
	reports.beginErr = errors.New("conflict")
	e := enginetest.New(t)
	_, err := (&Executor{Engine: e, Log: quiet()}).Run(t.Context(), Job{Spec: specOf(step("a")), Reporter: reports})
	if !errors.Is(err, reports.beginErr) {
		t.Errorf("got %v", err)
	}
	if events := e.Events(); len(events) > 0 {
		t.Errorf("the engine was called: %q", events)
	}
}

// TestExecutorLogsFail shows that a log which takes nothing changes nothing for its step.
func TestExecutorLogsFail(t *testing.T) {
	for name, change := range map[string]func(*recorder){
		"a reporter without logs":  func(r *recorder) { r.noLogs = true },
		"a log that can't be kept": func(r *recorder) { r.closeErr = errors.New("no space left on device") },
	} {
		t.Run(name, func(t *testing.T) {
			reports := newRecorder(t)
			change(reports)
			e := enginetest.New(t).Script("a", enginetest.Script{Output: []string{"one\n", "two\n"}})
			stage, err := (&Executor{Engine: e, Log: quiet()}).Run(t.Context(), Job{Spec: specOf(step("a")), Reporter: reports})
			if err != nil || render(stage) != "a:success => success" {
				t.Errorf("got %s, %v", render(stage), err)
			}
		})
	}
}

// TestExecutorCards shows that cards arrive, from steps that fail or break as well, and leave
// nothing in the log.
func TestExecutorCards(t *testing.T) {
	const card = "before\n\x1b]1338;eyJzY2hlbWEiOiJodHRwczovL2V4YW1wbGUuY29tL2NhcmQuanNvbiIsImRhdGEiOnsiYSI6MX19\x1b]0m\nafter\n"
	for name, row := range map[string]struct {
		script enginetest.Script
		want   string
	}{
		"a step that passes":                   {enginetest.Script{Output: []string{card}}, "a:success => success"},
		"a step that fails":                    {enginetest.Script{Output: []string{card}, Exit: spec.Exit{Code: 1}}, "a:failure/1 => failure"},
		"a step that ends in an engine error":  {enginetest.Script{PrepareOutput: card, PrepareErr: errors.New("daemon gone")}, "a:error/255 => error/255"},
		"a step that ends in an engine panic":  {enginetest.Script{Output: []string{card}, RunPanic: "oh"}, "a:error/255 => error/255"},
		"a step whose output comes byte after": {enginetest.Script{Output: strings.Split(card, "")}, "a:success => success"},
	} {
		t.Run(name, func(t *testing.T) {
			reports := newRecorder(t)
			stage, err := (&Executor{Engine: enginetest.New(t).Script("a", row.script), Log: quiet()}).Run(t.Context(), Job{Spec: specOf(step("a")), Reporter: reports})
			if got := render(stage); err != nil || got != row.want {
				t.Errorf("got %s, %v, want %s", got, err, row.want)
			}
			if card := reports.cards["a"]; card == nil || card.Schema != "https://example.com/card.json" || string(card.Data) != `{"a":1}` {
				t.Errorf("got the card %+v", card)
			}
			if text := reports.text("a"); text != "before\nafter\n" {
				t.Errorf("got the log %q", text)
			}
		})
	}
}

// TestExecutorEnvironment shows what a step sees of those before it.
func TestExecutorEnvironment(t *testing.T) {
	e := enginetest.New(t).Script("b", exits(1)).Script("ignored", exits(1))
	steps := chain(step("a", env("FOO", "bar", "DRONE_DEPLOY_TO", "of the pipeline", "EMPTY", "")), step("ignored", onError(spec.ErrIgnore)), step("b"), step("c", policy(spec.RunAlways)))
	build := &drone.Build{ID: 7, Number: 42, Status: drone.StatusRunning, Target: "main", Stages: []*drone.Stage{nil, {Name: "other", Status: drone.StatusRunning}}}
	job := Job{Spec: specOf(steps...), Build: build, Stage: &drone.Stage{ID: 1, Name: "default", Number: 1}, Reporter: newRecorder(t)}
	if _, err := (&Executor{Engine: e, Log: quiet()}).Run(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	rows := []struct{ step, name, want string }{
		{"a", "FOO", "bar"},
		{"a", "DRONE_BRANCH", "main"},
		{"a", "DRONE_BUILD_NUMBER", "42"},
		{"a", "DRONE_BUILD_STATUS", "success"},
		{"a", "DRONE_STAGE_STATUS", "success"},
		{"a", "DRONE_FAILED_STEPS", ""},
		{"a", "DRONE_STEP_NAME", "a"},
		{"a", "DRONE_STEP_NUMBER", "1"},
		{"b", "DRONE_BUILD_STATUS", "success"},
		{"b", "DRONE_STAGE_STATUS", "success"},
		{"c", "DRONE_BUILD_STATUS", "failure"},
		{"c", "DRONE_STAGE_STATUS", "failure"},
		{"c", "DRONE_FAILED_STEPS", "b"},
		{"c", "DRONE_STEP_NUMBER", "4"},
	}
	for _, row := range rows {
		if got := e.Env(row.step)[row.name]; got != row.want {
			t.Errorf("%s in step %q is %q, want %q", row.name, row.step, got, row.want)
		}
	}
	// As on Drone's runner: unset, not empty. What the pipeline leaves empty stays.
	for name, want := range map[string]bool{"DRONE_DEPLOY_TO": false, "DRONE_FAILED_STEPS": false, "EMPTY": true} {
		if _, set := e.Env("a")[name]; set != want {
			t.Errorf("%s in step a is set: %t, want %t", name, set, want)
		}
	}
	if build.Status != drone.StatusRunning || len(steps[0].Env) != 3 {
		t.Error("the caller's records were changed")
	}
}

// TestExecutorReportsDependencies shows that the server is told of no step that it doesn't know.
func TestExecutorReportsDependencies(t *testing.T) {
	reports := newRecorder(t)
	never := policy(spec.RunNever)
	steps := []*spec.Step{step("clone"), step("x", never, after("clone")), step("y", never, after("x")), step("a", after("x", "y")), step("svc", service, after("clone"))}
	_, err := (&Executor{Engine: enginetest.New(t), Log: quiet()}).Run(t.Context(), Job{Spec: specOf(steps...), Stage: &drone.Stage{ID: 5}, Reporter: reports})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range reports.began.Steps {
		got = append(got, fmt.Sprintf("%d %s %v %v stage %d", s.Number, s.Name, s.DependsOn, s.Detached, s.StageID))
	}
	want := []string{"1 clone [] false stage 5", "2 a [clone] false stage 5", "3 svc [clone] true stage 5"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestExecutorManyStages runs 20 stages at once that share an engine and its slots; with -race it
// finds what they share besides.
func TestExecutorManyStages(t *testing.T) {
	e := enginetest.New(t)
	e.Script("work", enginetest.Script{Output: []string{"one\n", "two\n"}, Delay: time.Millisecond})
	e.Script("db", blocks)
	e.Script("broken", exits(1))
	x := &Executor{Engine: e, Log: quiet(), Procs: semaphore.NewWeighted(6)}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			steps := []*spec.Step{step("clone"), step("db", service, after("clone")), step("work", after("db")), step("more", after("db")), step("broken", after("work", "more")), step("last", after("broken"), policy(spec.RunAlways))}
			s := specOf(steps...)
			s.ID = fmt.Sprintf("spec-%d", i)
			reports := newRecorder(t)
			stage, err := x.Run(t.Context(), Job{Spec: s, Stage: &drone.Stage{ID: int64(i)}, Reporter: reports, Timeout: time.Hour})
			const want = "clone:success db:success work:success more:success broken:failure/1 last:success => failure"
			if got := render(stage); err != nil || got != want {
				t.Errorf("stage %d: got %s, %v", i, got, err)
			}
			if got := reports.text("work"); got != "one\ntwo\n" {
				t.Errorf("stage %d: got the log %q", i, got)
			}
		})
	}
	wg.Wait()
	// Services hold no slot, so more than the limit may run; the steps proper never do.
	if e.MaxRunning() > 20+6 {
		t.Errorf("%d containers ran at once", e.MaxRunning())
	}
}

// TestExecutorProcs shows the limit over several stages.
func TestExecutorProcs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.New(t).Script("a", takes(time.Second)).Script("b", takes(time.Second))
		x := &Executor{Engine: e, Log: quiet(), Procs: semaphore.NewWeighted(3)}
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				s := specOf(step("a"), step("b"))
				s.ID = fmt.Sprint(i)
				if stage, err := x.Run(t.Context(), Job{Spec: s, Reporter: newRecorder(t)}); err != nil || stage.Status != drone.StatusPassing {
					t.Errorf("got %s, %v", render(stage), err)
				}
			})
		}
		wg.Wait()
		if e.MaxRunning() != 3 {
			t.Errorf("%d steps ran at once, want 3", e.MaxRunning())
		}
	})
}

// TestExecutorLateOutput shows that an engine which writes after Run, or from two sides, does no
// harm.
func TestExecutorLateOutput(t *testing.T) {
	var late io.Writer
	e := enginetest.New(t).Script("a", enginetest.Script{Do: func(_ context.Context, _ *spec.Step, w io.Writer) error {
		late = w
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					io.WriteString(w, "line\n")
				}
			})
		}
		wg.Wait()
		return nil
	}})
	reports := newRecorder(t)
	if _, err := (&Executor{Engine: e, Log: quiet()}).Run(t.Context(), Job{Spec: specOf(step("a")), Reporter: reports}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(late, "too late\n")
	if got := reports.text("a"); got != strings.Repeat("line\n", 200) {
		t.Errorf("got a log of %d bytes: %.60q", len(got), got)
	}
}

// The report of a stage's end doesn't wait for the clean-up, nor the clean-up for the report.
func TestTheLastReportAndTheCleanUpGoOnAtOnce(t *testing.T) {
	for _, row := range []struct {
		name            string
		destroy, report time.Duration
	}{
		{name: "a slow daemon", destroy: time.Minute, report: time.Second},
		{name: "a slow server", destroy: time.Second, report: time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := enginetest.New(t)
				e.DestroyDelay = row.destroy
				began := time.Now()
				var cleaned time.Duration
				reports := &slowEnd{recorder: newRecorder(t), delay: row.report}
				_, err := (&Executor{Engine: e, Log: quiet()}).Run(t.Context(), Job{
					Spec: specOf(step("a")), Reporter: reports, Cleaned: func() { cleaned = time.Since(began) },
				})
				if err != nil {
					t.Fatal(err)
				}
				if cleaned != row.destroy || reports.reported.Sub(began) != row.report {
					t.Errorf("cleaned after %s and reported after %s, want %s and %s", cleaned, reports.reported.Sub(began), row.destroy, row.report)
				}
				if took := time.Since(began); took != max(row.destroy, row.report) {
					t.Errorf("Run returned after %s, want both to be done", took)
				}
			})
		})
	}
}

// slowEnd is a reporter whose server takes its time for the end of a stage.
type slowEnd struct {
	*recorder
	delay    time.Duration
	reported time.Time
}

func (s *slowEnd) End(ctx context.Context, stage drone.Stage) error {
	err := pause.For(ctx, s.delay)
	s.reported = time.Now()
	return errors.Join(err, s.recorder.End(ctx, stage))
}
