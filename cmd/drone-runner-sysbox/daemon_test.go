//go:build !unit

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// runner is a daemon and the server that it works for.
type runner struct {
	*process
	server *rpctest.Server
	image  string
}

// runnerCall is a daemon for a server, with a name of its own; env comes last and so wins.
func runnerCall(t testing.TB, server *rpctest.Server, env ...string) call {
	t.Helper()
	name := unique("runner")
	leavesNothing(t, "io.drone.runner="+name)
	return call{env: append([]string{
		"DRONE_RPC_HOST=" + server.Host(),
		"DRONE_RPC_SECRET=" + server.Secret(),
		"DRONE_HTTP_BIND=127.0.0.1:0",
		"DRONE_RUNNER_SANDBOX=none",
		"DRONE_RUNNER_NAME=" + name,
		"DRONE_RUNNER_STATE=" + t.TempDir(),
		"DRONE_RUNNER_CLONE_IMAGE=" + standin.Image(t, "git"),
	}, env...)}
}

// newRunner starts a daemon that polls a server.
func newRunner(t testing.TB, env ...string) *runner {
	t.Helper()
	server := rpctest.NewServer(t)
	r := &runner{server: server, image: standin.Image(t, "busybox")}
	r.process = runnerCall(t, server, env...).start(t)
	r.stderr.await(t, "polling for builds")
	return r
}

// enqueue adds a build, in whose file IMAGE is one that is there. Steps don't clone unless the file
// says otherwise: see cloning.
func (r *runner) enqueue(b rpctest.Build) int64 {
	b.YAML = strings.ReplaceAll(b.YAML, "IMAGE", r.image)
	return r.server.Enqueue(b)
}

// build enqueues and waits.
func (r *runner) build(t testing.TB, b rpctest.Build) rpctest.Result {
	t.Helper()
	return r.await(t, r.enqueue(b))
}

// await waits for the end of a build.
func (r *runner) await(t testing.TB, id int64) rpctest.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := r.server.Wait(ctx, id)
	if err != nil {
		t.Fatalf("build %d doesn't end: %v\n%s", id, err, r.stderr)
	}
	return result
}

// until waits until the log of a step holds a text.
func (r *runner) until(t testing.TB, id int64, step, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := r.server.Until(ctx, id, func(result rpctest.Result) bool {
		s := result.Step(step)
		return s != nil && strings.Contains(s.Text(), text)
	})
	if err != nil {
		t.Fatalf("step %s of build %d never printed %q: %v\n%s", step, id, text, err, r.stderr)
	}
}

// drain sends SIGTERM and waits for a clean end.
func (r *runner) drain(t testing.TB) {
	t.Helper()
	r.signal(t, syscall.SIGTERM)
	r.wait(t).expect(t, 0)
}

// states are the outcomes of the stages and their steps, in order.
func states(result rpctest.Result) []string {
	var out []string
	for _, stage := range result.Stages {
		out = append(out, fmt.Sprintf("%s: %s %d", stage.Name, stage.Status, stage.ExitCode))
		for _, step := range stage.Steps {
			out = append(out, fmt.Sprintf("  %s: %s %d", step.Name, step.Status, step.ExitCode))
		}
	}
	return out
}

func expectStates(t testing.TB, result rpctest.Result, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, states(result)); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
		for _, stage := range result.Stages {
			if stage.Error != "" {
				t.Logf("stage %s: %s", stage.Name, stage.Error)
			}
			for _, step := range stage.Steps {
				t.Logf("%s: %s\n%s", step.Name, step.Error, step.Text())
			}
		}
	}
}

func TestDaemonRunsABuild(t *testing.T) {
	t.Parallel()
	r := newRunner(t, "DRONE_RUNNER_ENVIRON=FROM_OPERATOR:yes", "DRONE_RUNNER_SECRETS=shared:open-sesame")
	repo := gitServer(t, map[string]string{"tracked.txt": "from the repository\n"}, "mona", "s3cret-of-git")
	result := r.build(t, rpctest.Build{
		Secrets: map[string]string{"token": "hunter22"},
		Netrc:   &drone.Netrc{Machine: strings.Split(strings.TrimPrefix(repo.url, "http://"), ":")[0], Login: "mona", Password: "s3cret-of-git"},
		Repo:    func(repository *drone.Repo) { repository.HTTPURL = repo.url },
		Change:  func(build *drone.Build) { build.After = repo.commit },
		YAML: `
kind: pipeline
type: docker
name: default
services:
- name: web
  image: IMAGE
  commands:
  - mkdir -p /www && echo "hello from the service" >/www/index.html
  - exec httpd -f -p 8080 -h /www
steps:
- name: read
  image: IMAGE
  commands: [cat tracked.txt, echo written >output.txt, 'echo "$FROM_OPERATOR"']
- name: talk
  image: IMAGE
  environment: {TOKEN: {from_secret: token}, SHARED: {from_secret: shared}}
  commands:
  - until wget -qO- http://web:8080/; do sleep 0.2; done
  - echo "token $TOKEN, $SHARED"
- name: last
  image: IMAGE
  commands: [cat output.txt, printf 'no end of line']
`})
	expectStates(t, result, "default: success 0", "  clone: success 0", "  web: success 0", "  read: success 0", "  talk: success 0", "  last: success 0")
	for step, want := range map[string]string{
		"clone": "first", "read": "from the repository\n", "talk": "hello from the service\n", "last": "written\n",
	} {
		if text := result.Step(step).Text(); !strings.Contains(text, want) || !result.Step(step).Uploaded {
			t.Errorf("log of %s: %q, want %q in it, uploaded", step, text, want)
		}
	}
	if text := result.Step("talk").Text(); strings.Contains(text, "hunter22") || !strings.Contains(text, "token ******, ******\n") {
		t.Errorf("secrets are masked: %q", text)
	}
	if text := result.Step("last").Text(); !strings.HasSuffix(text, "no end of line") {
		t.Errorf("the log ends where the step ended: %q", text)
	}
	if text := result.Step("read").Text(); !strings.Contains(text, "yes\n") {
		t.Errorf("the operator's variables are there: %q", text)
	}
	for _, request := range r.server.Requests() {
		if strings.Contains(string(request.Body), "hunter22") || strings.Contains(string(request.Body), "s3cret-of-git") {
			t.Errorf("a secret left: %s", request)
		}
	}
	r.drain(t)
	if out := r.stderr.String(); strings.Contains(out, "hunter22") || strings.Contains(out, r.server.Secret()) {
		t.Errorf("a secret is in the operator's log:\n%s", out)
	}
}

func TestDaemonOutcomes(t *testing.T) {
	t.Parallel()
	r := newRunner(t, "DRONE_LIMIT_EVENTS=push,tag", "DRONE_RUNNER_CAPACITY=4")
	const head = "kind: pipeline\nclone: {disable: true}\nsteps:\n"
	for _, row := range []struct {
		name  string
		build rpctest.Build
		want  []string
		text  string // in the stage's error
	}{
		{"a step fails", rpctest.Build{YAML: head + "- {name: a, image: IMAGE, commands: [exit 3]}\n- {name: b, image: IMAGE, commands: [echo on]}\n- {name: c, image: IMAGE, commands: [echo on], when: {status: [failure]}}\n"},
			[]string{"default: failure 0", "  a: failure 3", "  b: skipped 0", "  c: success 0"}, ""},
		{"an ignored failure", rpctest.Build{YAML: head + "- {name: a, image: IMAGE, failure: ignore, commands: [exit 3]}\n"},
			[]string{"default: success 0", "  a: failure 3"}, ""},
		{"exit code 78", rpctest.Build{YAML: head + "- {name: a, image: IMAGE, commands: [exit 78]}\n- {name: b, image: IMAGE, commands: [echo on]}\n"},
			[]string{"default: success 0", "  a: success 78", "  b: skipped 0"}, ""},
		{"exit code 78, and what always runs", rpctest.Build{YAML: head + "- {name: a, image: IMAGE, commands: [exit 78]}\n- {name: b, image: IMAGE, commands: [echo on], when: {status: [success, failure]}}\n"},
			[]string{"default: success 0", "  a: success 78", "  b: success 0"}, ""},
		{"no steps", rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: []\n"}, []string{"default: success 0"}, ""},
		{"services alone", rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nservices: [{name: a, image: IMAGE, commands: [sleep 300]}]\n"},
			[]string{"default: success 0", "  a: success 0"}, ""},
		{"a mount of nothing", rpctest.Build{YAML: head + "- {name: first, image: IMAGE, commands: ['true']}\n- {name: a, image: IMAGE, commands: [test ! -e /v], volumes: [{name: v, path: /v}]}\n"},
			[]string{"default: success 0", "  first: success 0", "  a: success 0"}, ""},
		{"an unknown key", rpctest.Build{YAML: head + "- {name: a, image: IMAGE, commands: [exit 0], imaje: b}\n"},
			[]string{"default: success 0", "  a: success 0"}, ""},
		{"an image that isn't there", rpctest.Build{YAML: head + "- {name: a, image: 'standin/nothing:9', pull: never, commands: [x]}\n"},
			[]string{"default: error 255", "  a: error 255"}, "standin/nothing:9"},
		{"a file that the linter refuses", rpctest.Build{YAML: head + "- {name: a, image: IMAGE, privileged: true}\n- {name: a, image: IMAGE}\n"},
			[]string{"default: error 255"}, "privileged"},
		{"an event that isn't for this runner", rpctest.Build{Event: "promote", YAML: head + "- {name: a, image: IMAGE, commands: [echo on]}\n"},
			[]string{"default: error 255"}, "DRONE_LIMIT_EVENTS"},
		{"two stages", rpctest.Build{YAML: "kind: pipeline\nname: one\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: ['true']}]\n---\nkind: pipeline\nname: two\ndepends_on: [one]\nclone: {disable: true}\nsteps: [{name: b, image: IMAGE, commands: ['true']}]\n"},
			[]string{"one: success 0", "  a: success 0", "two: success 0", "  b: success 0"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			result := r.build(t, row.build)
			expectStates(t, result, row.want...)
			if got := result.Stages[0].Error; !strings.Contains(got, row.text) || row.text == "" && got != "" {
				t.Errorf("error of the stage: %q, want %q in it", got, row.text)
			}
			noted := map[string]string{"an unknown key": "imaje: unknown key, ignored (did you mean image?)", "a mount of nothing": `the volume "v" is not declared, and the mount is ignored`}
			if a := result.Step("a"); a != nil && !strings.Contains(a.Text(), noted[row.name]) {
				t.Errorf("the log of the step has no warning: %q", a.Text())
			}
		})
	}
	r.drain(t)
}

func TestDaemonCancel(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	id := r.enqueue(rpctest.Build{YAML: "clone: {disable: true}\n" + sleeper})
	r.until(t, id, "slow", "it runs")
	r.server.Cancel(id)
	result := r.await(t, id)
	if got := result.Stages[0].Status; got != drone.StatusKilled {
		t.Errorf("a cancelled stage is %s", got)
	}
	// What the build left is removed while the daemon goes on.
	name := regexp.MustCompile(`name=(\S+)`).FindStringSubmatch(r.stderr.String())[1]
	eventually(t, "the end of the build's containers", func() bool { return len(objects(t, "io.drone.runner="+name)) == 0 })
	r.drain(t)
}

func TestDaemonTwentyAtOnce(t *testing.T) {
	t.Parallel()
	const builds = 20
	shared := t.TempDir()
	r := newRunner(t, fmt.Sprint("DRONE_RUNNER_CAPACITY=", builds), "DRONE_RUNNER_VOLUMES="+shared+":/shared")
	var ids []int64
	for i := range builds {
		// Each waits for all the others, for as long as a slow daemon may need to find so many
		// subnets beside those of other tests; and not for ever, or none would be given back.
		ids = append(ids, r.enqueue(rpctest.Build{YAML: fmt.Sprintf(`
kind: pipeline
clone: {disable: true}
steps:
- name: meet
  image: IMAGE
  commands:
  - touch /shared/%d
  - for i in $(seq 300); do [ "$(ls /shared | wc -l)" -lt %d ] || break; sleep 0.5; done
- {name: part, image: IMAGE, commands: [echo bye from %d]}
`, i, builds, i)}))
	}
	for i, id := range ids {
		result := r.await(t, id)
		expectStates(t, result, "default: success 0", "  meet: success 0", "  part: success 0")
		if text := result.Step("part").Text(); !strings.HasSuffix(text, fmt.Sprintf("\nbye from %d\n", i)) {
			t.Errorf("log of build %d: %q", i, text)
		}
	}
	accepted := 0
	for _, request := range r.server.Requests(rpctest.CallAccept, rpctest.CallUpdate) {
		if request.Call == rpctest.CallAccept {
			accepted++
		} else if accepted < builds && strings.Contains(string(request.Body), `"status":"success","errignore"`) {
			t.Fatalf("a build ended when %d of %d had been accepted", accepted, builds)
		}
	}
	r.drain(t)
}

// waiter is a file whose step ends when there is a file "go" in the shared folder.
const waiter = `
kind: pipeline
clone: {disable: true}
steps: [{name: wait, image: IMAGE, commands: ["echo it runs", "until [ -e /shared/go ]; do sleep 0.1; done"]}]
`

func TestDaemonDrains(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	r := newRunner(t, "DRONE_RUNNER_VOLUMES="+shared+":/shared")
	id := r.enqueue(rpctest.Build{YAML: waiter})
	r.until(t, id, "wait", "it runs")
	r.signal(t, syscall.SIGTERM)
	// The daemon reads the signal when it gets to it; between two polls there is none either.
	eventually(t, "the end of the last poll", func() bool {
		return strings.Contains(r.stderr.String(), "no new builds") && !slices.ContainsFunc(r.server.Requests(rpctest.CallRequest), func(poll rpctest.Request) bool { return poll.Took == 0 })
	})
	late := r.enqueue(rpctest.Build{YAML: waiter})
	time.Sleep(time.Second)
	if !r.running() {
		t.Fatalf("the daemon didn't wait for its build: %s", r.stderr)
	}
	if err := os.WriteFile(filepath.Join(shared, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	expectStates(t, r.await(t, id), "default: success 0", "  wait: success 0")
	r.wait(t).expect(t, 0, "every build has ended")
	if got := r.server.Result(late).Stages[0].Status; got != drone.StatusPending {
		t.Errorf("a build that came after the signal is %s, want it left to others", got)
	}
}

func TestDaemonStopsBuilds(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		env    string
		signal bool
	}{
		{"at a second signal", "DRONE_RUNNER_DRAIN_TIMEOUT=1h", true},
		{"after the drain timeout", "DRONE_RUNNER_DRAIN_TIMEOUT=1s", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, row.env)
			id := r.enqueue(rpctest.Build{YAML: "clone: {disable: true}\n" + sleeper})
			r.until(t, id, "slow", "it runs")
			r.signal(t, syscall.SIGTERM)
			if row.signal {
				r.stderr.await(t, "no new builds")
				r.signal(t, syscall.SIGTERM)
			}
			r.wait(t).expect(t, 1, "builds were stopped before they had ended")
			result := r.await(t, id)
			if got := result.Stages[0]; got.Status != drone.StatusError || !strings.Contains(got.Error, "the runner was stopped") {
				t.Errorf("stage: %s %q, want an error that says why", got.Status, got.Error)
			}
		})
	}
}

func TestDaemonMaxProcs(t *testing.T) {
	t.Parallel()
	r := newRunner(t, "DRONE_RUNNER_MAX_PROCS=1")
	// Each fails if the other one runs.
	result := r.build(t, rpctest.Build{YAML: `
kind: pipeline
clone: {disable: true}
steps:
- {name: a, image: IMAGE, depends_on: [], commands: [mkdir lock, sleep 1, rmdir lock]}
- {name: b, image: IMAGE, depends_on: [], commands: [mkdir lock, sleep 1, rmdir lock]}
- {name: c, image: IMAGE, depends_on: [a, b], commands: [echo done]}
`})
	expectStates(t, result, "default: success 0", "  a: success 0", "  b: success 0", "  c: success 0")
	r.drain(t)
}

func TestDaemonLosesNoLine(t *testing.T) {
	t.Parallel()
	const lines = 200_000
	r := newRunner(t)
	result := r.build(t, rpctest.Build{YAML: fmt.Sprintf("kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: [seq %d]}]\n", lines)})
	expectStates(t, result, "default: success 0", "  a: success 0")
	var want strings.Builder
	fmt.Fprintf(&want, "+ seq %d\n", lines)
	for i := range lines {
		fmt.Fprintln(&want, i+1)
	}
	if got := result.Step("a").Text(); got != want.String() {
		t.Errorf("%d bytes of log, want %d; it ends with %q", len(got), want.Len(), got[max(0, len(got)-100):])
	}
	r.drain(t)
}
