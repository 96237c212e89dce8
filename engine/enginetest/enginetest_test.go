package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

var _ runtime.Engine = (*Engine)(nil)

// TestEngineKeepsToTheScript shows what scripts do, on a clock that jumps.
func TestEngineKeepsToTheScript(t *testing.T) {
	rows := []struct {
		name     string
		script   Script
		cancelAt time.Duration
		prepare  string
		exit     spec.Exit
		err      error
		output   string
		took     time.Duration
		started  bool
	}{
		{name: "nothing", started: true},
		{name: "output and exit code", script: Script{PrepareOutput: "pull\n", Output: []string{"a", "b\n"}, Exit: spec.Exit{Code: 3}}, output: "pull\nab\n", exit: spec.Exit{Code: 3}, started: true},
		{name: "out of memory", script: Script{Exit: spec.Exit{OOMKilled: true}}, exit: spec.Exit{Code: 137, OOMKilled: true}, started: true},
		{name: "delays add up", script: Script{PrepareDelay: time.Second, StartDelay: time.Second, Delay: time.Second}, took: 3 * time.Second, started: true},
		{name: "prepare fails", script: Script{PrepareErr: errors.New("no image")}, prepare: "no image"},
		{name: "prepare is cancelled", script: Script{PrepareDelay: time.Hour}, cancelAt: time.Second, prepare: "context canceled", took: time.Second},
		{name: "run fails before the start", script: Script{RunErr: context.DeadlineExceeded}, err: context.DeadlineExceeded},
		{name: "a start that is cancelled", script: Script{StartDelay: time.Hour}, cancelAt: time.Second, err: context.Canceled, took: time.Second},
		{name: "a block that is cancelled", script: Script{Block: true, StopDelay: time.Second, StopOutput: "bye\n"}, cancelAt: time.Second, err: context.Canceled, output: "bye\n", took: 2 * time.Second, started: true},
		{name: "a function", script: Script{Do: doesNothing}, started: true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := New(t).Script("a", row.script)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if row.cancelAt > 0 {
					defer time.AfterFunc(row.cancelAt, cancel).Stop()
				}
				began := time.Now()
				s, step := &spec.Spec{ID: "s"}, &spec.Step{Name: "a", Env: map[string]string{"FOO": "bar"}}
				if err := e.Setup(ctx, s); err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				started := false
				c, err := e.Prepare(ctx, s, step, &out)
				if (row.prepare == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), row.prepare) {
					t.Fatalf("prepare: got %v, want %q", err, row.prepare)
				}
				if err == nil {
					exit, err := c.Run(ctx, &out, func() { started = true })
					if !errors.Is(err, row.err) || exit != row.exit {
						t.Errorf("run: got %+v, %v, want %+v, %v", exit, err, row.exit, row.err)
					}
				}
				if took := time.Since(began); took != row.took {
					t.Errorf("it took %s, want %s", took, row.took)
				}
				if out.String() != row.output || started != row.started || e.Started("a") != row.started {
					t.Errorf("output %q, started %v, want %q, %v", out.String(), started, row.output, row.started)
				}
				if e.Env("a")["FOO"] != "bar" {
					t.Errorf("environment %v", e.Env("a"))
				}
				if err := e.Destroy(t.Context(), s); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func doesNothing(context.Context, *spec.Step, io.Writer) error { return nil }

// TestEngineFindsViolations shows what is found, and that it fails the test.
func TestEngineFindsViolations(t *testing.T) {
	sp, step := &spec.Spec{ID: "s"}, &spec.Step{Name: "a"}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	rows := []struct {
		name string
		do   func(ctx context.Context, e *Engine)
		want string
	}{
		{"prepare before setup", func(ctx context.Context, e *Engine) { e.Prepare(ctx, sp, step, &bytes.Buffer{}) }, "before spec"},
		{"run before setup", func(ctx context.Context, e *Engine) {
			c, _ := e.Prepare(ctx, sp, step, &bytes.Buffer{})
			c.Run(ctx, &bytes.Buffer{}, nil)
		}, `"a" was run before`},
		{"two setups", func(ctx context.Context, e *Engine) { e.Setup(ctx, sp); e.Setup(ctx, sp) }, "set up twice"},
		{"no destroy", func(ctx context.Context, e *Engine) { e.Setup(ctx, sp) }, "never destroyed"},
		{"destroy without setup", func(ctx context.Context, e *Engine) { e.Destroy(ctx, sp) }, "never set up"},
		{"destroy with a context that is over", func(ctx context.Context, e *Engine) { e.Setup(ctx, sp); e.Destroy(over, sp) }, "a context that is over"},
		{"prepare twice", func(ctx context.Context, e *Engine) {
			e.Setup(ctx, sp)
			e.Prepare(ctx, sp, step, &bytes.Buffer{})
			e.Prepare(ctx, sp, step, &bytes.Buffer{})
			e.Destroy(ctx, sp)
		}, "prepared twice"},
		{"prepare after destroy", func(ctx context.Context, e *Engine) {
			e.Setup(ctx, sp)
			e.Destroy(ctx, sp)
			e.Prepare(ctx, sp, step, &bytes.Buffer{})
		}, "prepared after"},
		{"run twice", func(ctx context.Context, e *Engine) {
			e.Setup(ctx, sp)
			c, _ := e.Prepare(ctx, sp, step, &bytes.Buffer{})
			c.Run(ctx, &bytes.Buffer{}, nil)
			c.Run(ctx, &bytes.Buffer{}, nil)
			e.Destroy(ctx, sp)
		}, "run twice"},
		{"run after destroy", func(ctx context.Context, e *Engine) {
			e.Setup(ctx, sp)
			c, _ := e.Prepare(ctx, sp, step, &bytes.Buffer{})
			e.Destroy(ctx, sp)
			c.Run(ctx, &bytes.Buffer{}, nil)
		}, "run after"},
		{"destroy during a run", func(ctx context.Context, e *Engine) {
			e.Script("a", Script{Do: func(ctx context.Context, _ *spec.Step, _ io.Writer) error { return e.Destroy(ctx, sp) }})
			e.Setup(ctx, sp)
			c, _ := e.Prepare(ctx, sp, step, &bytes.Buffer{})
			c.Run(ctx, &bytes.Buffer{}, nil)
		}, "destroyed while a ran"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var failures failing
			e := New(&failures)
			row.do(t.Context(), e)
			failures.end()
			if !slices.ContainsFunc(failures.texts, func(s string) bool { return strings.Contains(s, row.want) }) {
				t.Errorf("got %q, want %q", failures.texts, row.want)
			}
		})
	}
}

// failing is a T that notes how it failed.
type failing struct {
	cleanups []func()
	texts    []string
}

func (f *failing) Helper()           {}
func (f *failing) Cleanup(do func()) { f.cleanups = append(f.cleanups, do) }
func (f *failing) Errorf(format string, args ...any) {
	f.texts = append(f.texts, fmt.Sprintf(format, args...))
}

func (f *failing) end() {
	for _, do := range f.cleanups {
		do()
	}
}
