package runtime

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/enginetest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

func image(name string) option { return func(s *spec.Step) { s.Image = name } }

// gate is a step that runs for a minute, in which the images of those behind it are fetched.
func gate() *spec.Step { return step("gate", image("gate")) }

var shut = enginetest.Script{Delay: time.Minute}

func fetchTakes(d time.Duration) enginetest.Script { return enginetest.Script{FetchDelay: d} }

// Images are fetched while steps run, in the graph's order, and no longer than they may be needed.
func TestFetchAhead(t *testing.T) {
	for _, row := range []struct {
		name     string
		steps    []*spec.Step
		scripts  scripts
		cancelAt time.Duration
		want     []string // the calls, in order
		not      []string // calls that aren't made
		status   string
	}{
		{
			name:    "the fifth while the first runs",
			steps:   chain(step("a", image("a")), step("b", image("b")), step("c", image("c")), step("d", image("d")), step("e", image("e"))),
			scripts: scripts{"a": {Delay: time.Minute}, "b": {FetchDelay: time.Second}, "c": {FetchDelay: 2 * time.Second}, "d": {FetchDelay: 5 * time.Second}, "e": {FetchDelay: 7 * time.Second}},
			want:    []string{"have b", "have c", "have d", "have e"},
			status:  drone.StatusPassing,
		},
		{
			name:    "three at once, those first that depend on least",
			steps:   []*spec.Step{step("d", image("d"), after("c")), step("c", image("c"), after("a", "b")), step("a", image("a"), after("gate")), step("b", image("b"), after("gate")), step("gate", image("gate"))},
			scripts: scripts{"gate": {FetchDelay: 500 * time.Millisecond, Delay: time.Hour}, "a": {FetchDelay: time.Second}, "b": {FetchDelay: 2 * time.Second}, "c": {FetchDelay: 3 * time.Second}, "d": {FetchDelay: time.Minute}},
			want:    []string{"fetch c", "have a", "fetch d", "have b", "have c", "have d"},
			status:  drone.StatusPassing,
		},
		{
			name:    "each image once",
			steps:   chain(gate(), step("a", image("x")), step("b", image("x")), step("c", image("x"))),
			scripts: scripts{"gate": shut},
			want:    []string{"fetch a", "have a"},
			not:     []string{"fetch b", "fetch c"},
			status:  drone.StatusPassing,
		},
		{
			name:    "none that never runs, or runs in failure alone",
			steps:   chain(gate(), step("a", image("a")), step("b", image("b"), policy(spec.RunNever)), step("c", image("c"), policy(spec.RunOnFailure))),
			scripts: scripts{"gate": shut},
			want:    []string{"fetch a", "have a"},
			not:     []string{"fetch b", "fetch c"},
			status:  drone.StatusPassing,
		},
		{
			name:    "a failure gives up what runs in success alone",
			steps:   chain(step("a", image("a")), step("b", image("b")), step("c", image("c"), policy(spec.RunAlways))),
			scripts: scripts{"a": {Delay: time.Second, Exit: spec.Exit{Code: 1}}, "b": fetchTakes(time.Hour), "c": {FetchDelay: 2 * time.Second, Delay: time.Minute}},
			want:    []string{"give up b", "have c"},
			status:  drone.StatusFailing,
		},
		{
			name:     "a cancel gives up everything",
			steps:    chain(step("a", image("a")), step("b", image("b"))),
			scripts:  scripts{"a": {Block: true}, "b": fetchTakes(time.Hour)},
			cancelAt: time.Second,
			want:     []string{"give up b"},
			status:   drone.StatusKilled,
		},
		{
			name:    "the end of the stage too",
			steps:   chain(step("a", image("a")), step("b", image("b"))),
			scripts: scripts{"a": shut, "b": fetchTakes(time.Hour)},
			want:    []string{"give up b"},
			status:  drone.StatusPassing,
		},
		{
			name:    "what fails, or panics, is left to the step",
			steps:   chain(gate(), step("a", image("a")), step("b", image("b"))),
			scripts: scripts{"gate": shut, "a": {FetchErr: errors.New("no such image")}, "b": {FetchPanic: "nil dereference"}},
			want:    []string{"have a"},
			status:  drone.StatusPassing,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := enginetest.New(t)
				for name, script := range row.scripts {
					e.Script(name, script)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if row.cancelAt > 0 {
					time.AfterFunc(row.cancelAt, func() { cancel(ErrCancelled) })
				}
				stage, err := (&Executor{Engine: e, Log: quiet()}).Run(ctx, Job{Spec: specOf(row.steps...), Reporter: newRecorder(t)})
				if err != nil || stage.Status != row.status {
					t.Errorf("got %s, %v", render(stage), err)
				}
				got := e.Fetches()
				at := 0
				for _, want := range row.want {
					i := slices.Index(got[at:], want)
					if i < 0 {
						t.Fatalf("%q, want %q in this order", got, row.want)
					}
					at += i + 1
				}
				for _, call := range row.not {
					if slices.Contains(got, call) {
						t.Errorf("%q, want no %q", got, call)
					}
				}
			})
		})
	}
}
