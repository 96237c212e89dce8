//go:build !unit

package runtime

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	dockerclient "github.com/docker/docker/client"
	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// shell is a step that runs a script.
func shell(script string) option {
	return func(s *spec.Step) {
		s.Pull, s.Entrypoint, s.Command = spec.PullNever, []string{"/bin/sh", "-c"}, []string{script}
	}
}

// TestDocker runs the main scenarios in the machine's daemon, and looks at what is left there.
func TestDocker(t *testing.T) {
	image := standin.Image(t, "busybox")
	daemon, err := engine.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	// The daemon's news that memory ran out may be late by more than a build would wait.
	docker := engine.New(daemon, engine.Options{StopGrace: 100 * time.Millisecond, Deadlines: engine.Deadlines{OOM: testPatience}, Log: quiet()})

	rows := []struct {
		name string
		// steps find a file in /ended for each step that has ended.
		steps []*spec.Step
		// cancelOn ends the stage, for the cause, when this text is in the log of any step.
		cancelOn string
		cause    error
		want     string
		// wantError is in the stage's error.
		wantError     string
		logs, notLogs map[string]string
	}{
		{name: "steps share a workspace and run in order",
			steps: chain(step("a", shell("echo hello > /shared/file")), step("b", shell("cat /shared/file"))),
			want:  "a:success b:success => success", logs: map[string]string{"b": "hello\n"}},
		{name: "a failure skips the rest but for the step that waits for one",
			steps: chain(step("a", shell("exit 3")), step("b", shell("true")), step("c", policy(spec.RunOnFailure), shell("echo $DRONE_STAGE_STATUS $DRONE_FAILED_STEPS"))),
			want:  "a:failure/3 b:skipped c:success => failure", logs: map[string]string{"c": "failure a\n"}},
		{name: "failure: ignore", steps: chain(step("a", onError(spec.ErrIgnore), shell("exit 1")), step("b", shell("true"))),
			want: "a:failure/1 b:success => success"},
		{name: "failure: fast", steps: []*spec.Step{step("a", onError(spec.ErrFailFast), shell("sleep 1; exit 1")), step("b", shell("sleep 600"))},
			want: "a:failure/1 b:killed/137 => failure"},
		{name: "exit 78", steps: chain(step("a", shell("exit 78")), step("b", shell("true"))), want: "a:success/78 b:skipped => success"},
		{name: "out of memory", steps: chain(step("a", shell("x=0123456789; while true; do x=$x$x; done"), func(s *spec.Step) { s.Limits.Memory = 8 << 20 })),
			want: "a:failure/137 => failure", logs: map[string]string{"a": "out of memory"}},
		{name: "an image that isn't there", steps: chain(step("a", shell("true"), func(s *spec.Step) { s.Image = "standin/nosuch:1" }), step("b", shell("true"))),
			want: "a:error/255 b:skipped => error/255", wantError: "standin/nosuch:1"},
		{name: "an entrypoint that isn't there", steps: chain(step("a", shell("true"), func(s *spec.Step) { s.Entrypoint = []string{"/nope"} })),
			want: "a:error/255 => error/255", wantError: "/nope"},
		{name: "a service is found by its name, and killed at the end",
			steps: chain(step("web", service, shell("while true; do echo hi | nc -l -p 8000; done")),
				step("a", shell("until nc web 8000 </dev/null | grep hi; do sleep 0.2; done"))),
			want: "web:success a:success => success", logs: map[string]string{"a": "hi\n"}},
		{name: "a service that fails warns the step that follows", steps: chain(step("db", service, shell("echo no disk; exit 4")), step("a", shell("until [ -e /ended/db ]; do sleep 0.1; done; sleep 1"))),
			want: "db:success a:success => success", logs: map[string]string{"db": "no disk\n", "a": `warning: service "db" has failed: exit code 4`}},
		{name: "a timeout", steps: chain(step("a", shell("echo begun; sleep 600")), step("b", shell("true"))), cancelOn: "begun", cause: &TimeoutError{Limit: time.Minute},
			want: "a:killed/137 b:skipped => killed/137", wantError: "ran longer than 1m0s", logs: map[string]string{"a": "begun\n"}},
		{name: "a cancel", steps: chain(step("db", service, shell("sleep 600")), step("a", shell("echo begun; sleep 600")), step("b", shell("true"))), cancelOn: "begun", cause: ErrCancelled,
			want: "db:killed/137 a:killed/137 b:skipped => killed/137"},
		{name: "a secret is masked", steps: chain(step("a", withSecret("TOKEN", "s3cr3tvalue"), shell(`printf s3cr3t; sleep 0.2; echo "value and $TOKEN"`))),
			want: "a:success => success", logs: map[string]string{"a": "****** and ******\n"}, notLogs: map[string]string{"a": "s3cr3t"}},
		{name: "every line arrives", steps: chain(step("a", shell("seq 1 20000; printf end"))),
			want: "a:success => success", logs: map[string]string{"a": "\n19999\n20000\nend"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			sp := specOf(row.steps...)
			sp.ID = "runtime-test-" + strings.ToLower(rand.Text()[:12])
			sp.Network.Name = sp.ID
			ended := t.TempDir()
			sp.Volumes = []*spec.Volume{{Name: "_workspace", ID: sp.ID + "-workspace", Kind: spec.VolumeTemp}, {Name: "ended", Path: ended, Kind: spec.VolumeBind}}
			for _, s := range sp.Steps {
				s.ID = sp.ID + "-" + s.Name
				s.Mounts = []spec.Mount{{Volume: "_workspace", Path: "/shared"}, {Volume: "ended", Path: "/ended"}}
				if !strings.HasPrefix(s.Image, "standin/") {
					s.Image = image
				}
			}
			patient, end := context.WithTimeout(t.Context(), testPatience)
			defer end()
			ctx, cancel := context.WithCancelCause(patient)
			defer cancel(nil)
			reports := newRecorder(t)
			job := Job{Spec: sp, Stage: &drone.Stage{ID: 1}, Reporter: &trigger{recorder: reports, on: row.cancelOn, do: func() { cancel(row.cause) }, ended: ended}}
			stage, err := (&Executor{Engine: docker, Log: quiet()}).Run(ctx, job)
			if err != nil {
				t.Fatal(err)
			}
			if got := render(stage); got != row.want {
				t.Errorf("got  %s (%s)\nwant %s", got, stage.Error, row.want)
			}
			if !strings.Contains(stage.Error, row.wantError) || (row.wantError == "") != (stage.Error == "") {
				t.Errorf("the stage's error is %q, want %q", stage.Error, row.wantError)
			}
			for name, want := range row.logs {
				if text := reports.text(name); !strings.Contains(text, want) {
					t.Errorf("the log of %q is %q, want %q in it", name, text[max(0, len(text)-500):], want)
				}
			}
			for name, unwanted := range row.notLogs {
				if text := reports.text(name); strings.Contains(text, unwanted) {
					t.Errorf("the log of %q is %q, with %q in it", name, text, unwanted)
				}
			}
			if left := leftovers(t, daemon, sp.ID); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// leftovers are the objects of a spec that the daemon has.
func leftovers(t *testing.T, daemon *dockerclient.Client, s string) []string {
	t.Helper()
	label := filters.NewArgs(filters.Arg("label", spec.LabelSpec+"="+s))
	var out []string
	containers, err := daemon.ContainerList(t.Context(), container.ListOptions{All: true, Filters: label})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		out = append(out, "container "+c.ID)
	}
	networks, err := daemon.NetworkList(t.Context(), network.ListOptions{Filters: label})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		out = append(out, "network "+n.Name)
	}
	volumes, err := daemon.VolumeList(t.Context(), volume.ListOptions{Filters: label})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Volumes {
		out = append(out, "volume "+v.Name)
	}
	return out
}

// trigger is a recorder that does something once a text, unless it is "", is in a log, and makes a
// file in the folder ended for each step that has ended.
type trigger struct {
	*recorder
	on    string
	do    func()
	ended string
}

func (r *trigger) StepStarted(ctx context.Context, step drone.Step) Log {
	return &triggerLog{Log: r.recorder.StepStarted(ctx, step), trigger: r}
}

func (r *trigger) StepFinished(ctx context.Context, step drone.Step, card *drone.CardInput) {
	r.recorder.StepFinished(ctx, step, card)
	if err := os.WriteFile(filepath.Join(r.ended, step.Name), nil, 0o644); err != nil {
		r.t.Error(err)
	}
}

type triggerLog struct {
	Log
	trigger *trigger
}

func (l *triggerLog) Line(text []byte) {
	if l.trigger.on != "" && strings.Contains(string(text), l.trigger.on) {
		l.trigger.do()
	}
	l.Log.Line(text)
}
