//go:build !unit

package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// mortal is a runner that is killed and started again, as the same one.
type mortal struct {
	*runner
	again       call
	name, state string
}

func newMortal(t testing.TB, server *rpctest.Server, env ...string) *mortal {
	t.Helper()
	m := &mortal{runner: &runner{server: server, image: standin.Image(t, "busybox")}, again: runnerCall(t, server, append([]string{"DRONE_RUNNER_REAP_INTERVAL=1s"}, env...)...)}
	for _, entry := range m.again.env {
		switch key, value, _ := strings.Cut(entry, "="); key {
		case "DRONE_RUNNER_NAME":
			m.name = value
		case "DRONE_RUNNER_STATE":
			m.state = value
		}
	}
	m.start(t)
	return m
}

// start is the next life.
func (m *mortal) start(t testing.TB) {
	t.Helper()
	m.process = m.again.start(t)
	m.stderr.await(t, "polling for builds")
}

// kill ends the life as a power cut would.
func (m *mortal) kill(t testing.TB) {
	t.Helper()
	m.signal(t, syscall.SIGKILL)
	<-m.ended
}

// settle waits until the server knows all that the journal does.
func (m *mortal) settle(t testing.TB) {
	t.Helper()
	eventually(t, "an empty journal", func() bool {
		records, err := journal.Records(m.state)
		return err == nil && len(records) == 0
	})
}

// clean fails the test if anything of a build is left, in the daemon or in the state folder.
func (m *mortal) clean(t testing.TB) {
	t.Helper()
	m.settle(t)
	// What the docker daemon was making for the runner when that was killed may come to be after
	// the sweep. The reaper gets it.
	eventually(t, "the end of what builds left", func() bool { return len(objects(t, spec.LabelRunner+"="+m.name)) == 0 })
	for _, dir := range []string{"journal", "logs"} {
		if found, err := os.ReadDir(filepath.Join(m.state, dir)); err != nil || len(found) > 0 {
			t.Errorf("%s holds %v (%v)", dir, found, err)
		}
	}
}

// silent is a server, at an address of this machine, that accepts connections and never answers.
func silent(t *testing.T, host string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

const interrupted = "the runner stopped while this ran"

// pages is a file whose first step prints three lines in 0.3 s and doesn't end.
const pages = `
kind: pipeline
clone: {disable: true}
services: [{name: web, image: IMAGE, commands: [echo served, sleep 300]}]
steps:
- {name: done, image: IMAGE, commands: [echo before]}
- {name: slow, image: IMAGE, commands: [echo one, sleep 0.3, echo two, sleep 0.3, echo it runs, sleep 300]}
- {name: next, image: IMAGE, commands: [echo on]}
`

func TestCrashDuringAStep(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		down bool
	}{{"the server is there", false}, {"the server is away when the runner is back", true}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := newMortal(t, rpctest.NewServer(t))
			id := m.enqueue(rpctest.Build{YAML: pages})
			m.until(t, id, "slow", "\nit runs\n")
			m.until(t, id, "web", "served\n")
			if len(objects(t, spec.LabelRunner+"="+m.name)) < 5 {
				t.Error("two containers, a network and a volume run")
			}
			if row.down {
				m.server.Down()
			}
			m.kill(t)
			if row.down {
				m.process = m.again.start(t)
				m.stderr.await(t, "the drone server can't be reached")
				if left := objects(t, spec.LabelRunner+"="+m.name); len(left) > 0 {
					t.Errorf("before the server is back there is left: %q", left)
				}
				m.server.Up()
				m.stderr.await(t, "polling for builds")
			} else {
				m.start(t)
			}
			result := m.await(t, id)
			expectStates(t, result, "default: error 255", "  web: error 255", "  done: success 0", "  slow: error 255", "  next: skipped 0")
			if got := result.Stages[0].Error; got != interrupted || result.Step("slow").Error != interrupted {
				t.Errorf("errors: %q, %q", got, result.Step("slow").Error)
			}
			for step, want := range map[string]string{
				"done": "+ echo before\nbefore\n",
				"slow": "+ echo one\none\n+ sleep 0.3\n+ echo two\ntwo\n+ sleep 0.3\n+ echo it runs\nit runs\n+ sleep 300\nstopped: " + interrupted + "\n",
				"web":  "+ echo served\nserved\n+ sleep 300\nstopped: " + interrupted + "\n",
			} {
				got := result.Step(step)
				// Whether the line about the sleep was printed before the end is chance.
				if text := got.Text(); !got.Uploaded || text != want && text != strings.Replace(want, "+ sleep 300\n", "", 1) {
					t.Errorf("log of %s: %q, want %q, uploaded", step, text, want)
				}
			}
			// It is as good as new.
			expectStates(t, m.build(t, rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: ['true']}]\n"}), "default: success 0", "  a: success 0")
			m.clean(t)
			m.drain(t)
		})
	}
}

func TestCrashDuringAPullAndAClone(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, step, host string
		build            func(address string) rpctest.Build
	}{
		// A registry without TLS is one on loopback; a container finds the machine at its bridge.
		{"a pull", "a", "127.0.0.1", func(address string) rpctest.Build {
			return rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: '" + address + "/octo/lab:1', pull: always, commands: ['true']}]\n"}
		}},
		{"a clone", "clone", gateway(t), func(address string) rpctest.Build {
			return rpctest.Build{YAML: "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: ['true']}]\n",
				Repo: func(repo *drone.Repo) { repo.HTTPURL = "http://" + address + "/octo/lab.git" }}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := newMortal(t, rpctest.NewServer(t))
			id := m.enqueue(row.build(silent(t, row.host)))
			eventually(t, "the start of the step", func() bool {
				step := m.server.Result(id).Step(row.step)
				return step != nil && step.Status == drone.StatusRunning && len(objects(t, spec.LabelRunner+"="+m.name)) > 0
			})
			m.kill(t)
			m.start(t)
			result := m.await(t, id)
			if step := result.Step(row.step); result.Stages[0].Status != drone.StatusError || result.Stages[0].Error != interrupted || step.Status != drone.StatusError || step.Error != interrupted {
				t.Errorf("stage: %s %q; step: %s %q", result.Stages[0].Status, result.Stages[0].Error, step.Status, step.Error)
			}
			m.clean(t)
			m.drain(t)
		})
	}
}

// A runner that is killed between the accept and the first report has nothing running yet, and the
// server still hears of it.
func TestCrashAroundTheAccept(t *testing.T) {
	t.Parallel()
	const quick = "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: ['true']}]\n"
	for _, row := range []struct {
		name  string
		fault rpctest.Fault
		want  []string
	}{
		// The server never saw it, and offers the stage again.
		{"before the accept arrives", rpctest.Fault{Call: rpctest.CallAccept, Delay: time.Hour}, []string{"default: success 0", "  a: success 0"}},
		{"after the accept", rpctest.Fault{Call: rpctest.CallDetail, Delay: time.Hour}, []string{"default: error 255"}},
		{"before the begin arrives", rpctest.Fault{Call: rpctest.CallUpdate, Delay: time.Hour}, []string{"default: error 255"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := newMortal(t, rpctest.NewServer(t))
			m.server.Fault(row.fault)
			id := m.enqueue(rpctest.Build{YAML: quick})
			eventually(t, "the call that hangs", func() bool { return m.server.Faulted() == 1 })
			m.kill(t)
			m.start(t)
			result := m.await(t, id)
			expectStates(t, result, row.want...)
			if got := result.Stages[0]; got.Status == drone.StatusError && got.Error != interrupted {
				t.Errorf("error: %q", got.Error)
			}
			m.clean(t)
			m.drain(t)
		})
	}
}

// A build that had ended when the runner was killed ends on the server as it did here.
func TestCrashDuringTheUpload(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, command string
		want          []string
	}{
		{"of a step that passed", "seq 1000", []string{"default: success 0", "  a: success 0"}},
		{"of a step that failed", "seq 1000; exit 7", []string{"default: failure 0", "  a: failure 7"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := newMortal(t, rpctest.NewServer(t))
			m.server.Fault(rpctest.Fault{Call: rpctest.CallUpload, Delay: time.Hour})
			id := m.enqueue(rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: ['" + row.command + "']}]\n"})
			eventually(t, "the upload that hangs, and the end of the stage", func() bool {
				records, err := journal.Records(m.state)
				return m.server.Faulted() == 1 && err == nil && len(records) == 1 && records[0].Stage.Stopped != 0
			})
			m.kill(t)
			m.start(t)
			result := m.await(t, id)
			expectStates(t, result, row.want...)
			lines := strings.Split(strings.TrimSuffix(result.Step("a").Text(), "\n"), "\n")
			if n := len(lines); n != 1001 || lines[1] != "1" || lines[1000] != "1000" {
				t.Errorf("the log has %d lines", n)
			}
			m.clean(t)
			m.drain(t)
		})
	}
}

// Two runners share a daemon: what one sweeps is its own.
func TestCrashBesideAnother(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	dead, alive := newMortal(t, rpctest.NewServer(t)), newRunner(t, "DRONE_RUNNER_VOLUMES="+shared+":/shared", "DRONE_RUNNER_REAP_INTERVAL=100ms")
	first, second := dead.enqueue(rpctest.Build{YAML: pages}), alive.enqueue(rpctest.Build{YAML: waiter})
	dead.until(t, first, "slow", "it runs")
	alive.until(t, second, "wait", "it runs")
	dead.kill(t)
	if len(objects(t, spec.LabelRunner+"="+dead.name)) == 0 {
		t.Error("the other runner has swept what isn't its own")
	}
	dead.start(t)
	if got := dead.await(t, first).Stages[0].Error; got != interrupted {
		t.Errorf("the stage of the runner that was killed: %q", got)
	}
	if err := os.WriteFile(filepath.Join(shared, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	expectStates(t, alive.await(t, second), "default: success 0", "  wait: success 0")
	dead.clean(t)
	dead.drain(t)
	alive.drain(t)
}

// One state folder is for one runner.
func TestDaemonNeedsItsState(t *testing.T) {
	t.Parallel()
	m := newMortal(t, rpctest.NewServer(t))
	m.again.run(t).expect(t, 1, "another runner uses "+m.state, "DRONE_RUNNER_STATE")
	m.drain(t)
}

// leftover makes what a build of the runner could have left, and something that is none of it.
func leftover(t *testing.T, runner string) (ours, others func() int) {
	t.Helper()
	docker, err := engine.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	s, mark := "drone-"+unique("left"), "io.drone-runner-sysbox.test="+unique("mark")
	key, value, _ := strings.Cut(mark, "=")
	rows := []map[string]string{
		{spec.LabelRunner: runner, spec.LabelSpec: s},
		{spec.LabelRunner: runner + "2", spec.LabelSpec: s + "2", key: value},
		{spec.LabelRunner: runner, spec.LabelPersistent: "/cache", key: value},
		{key: value},
	}
	for _, labels := range rows {
		name := unique("leftover")
		if _, err := docker.VolumeCreate(t.Context(), volume.CreateOptions{Name: name, Labels: labels}); err != nil {
			t.Fatal(err)
		}
		if _, err := docker.NetworkCreate(t.Context(), name, network.CreateOptions{Labels: labels}); err != nil {
			t.Fatal(err)
		}
		c, err := docker.ContainerCreate(t.Context(), &container.Config{Image: standin.Image(t, "busybox"), Cmd: []string{"sleep", "300"}, Labels: labels},
			&container.HostConfig{Binds: []string{name + ":/data"}, NetworkMode: container.NetworkMode(name)}, nil, nil, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := docker.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remove(t, name) })
	}
	return func() int { return len(objects(t, spec.LabelSpec+"="+s)) }, func() int { return len(objects(t, mark)) }
}

// remove removes the container, the network and the volume of that name, as far as they are there.
func remove(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	docker, err := engine.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	_ = docker.ContainerRemove(ctx, name, container.RemoveOptions{Force: true})
	_ = docker.NetworkRemove(ctx, name)
	_ = docker.VolumeRemove(ctx, name, true)
}

func TestReaper(t *testing.T) {
	t.Parallel()
	m := newMortal(t, rpctest.NewServer(t), "DRONE_RUNNER_REAP_INTERVAL=200ms")
	id := m.enqueue(rpctest.Build{YAML: pages})
	m.until(t, id, "slow", "it runs")
	docker, err := engine.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	lost := unique("lost")
	t.Cleanup(func() { remove(t, lost) })
	if _, err := docker.VolumeCreate(t.Context(), volume.CreateOptions{Name: lost, Labels: map[string]string{spec.LabelRunner: m.name, spec.LabelSpec: lost}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of what was lost", func() bool { return len(objects(t, spec.LabelSpec+"="+lost)) == 0 })
	m.stderr.await(t, "removed what a build that is over had left: 1 volume")
	if out := m.stderr.String(); !regexp.MustCompile(`age="?[^ ].* owner=` + m.name).MatchString(out) {
		t.Errorf("the log says how old it was, and whose: %s", out)
	}
	if got := m.server.Result(id).Stages[0].Status; got != drone.StatusRunning {
		t.Errorf("the build that ran meanwhile is %s", got)
	}
	m.server.Cancel(id)
	m.await(t, id)
	m.clean(t)
	m.drain(t)

	ours, others := leftover(t, m.name)
	m.start(t)
	eventually(t, "the end of what was left", func() bool { return ours() == 0 })
	m.stderr.await(t, "removed what a build that is over had left: 1 container, 1 network, 1 volume")
	if got := others(); got != 9 {
		t.Errorf("%d of 9 objects of others are there", got)
	}
	m.drain(t)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	m := newMortal(t, rpctest.NewServer(t), "DRONE_RUNNER_REAP_INTERVAL=0")
	prune := func(args ...string) result {
		return call{env: m.again.env, args: append([]string{"prune"}, args...)}.run(t)
	}
	prune().expect(t, 0, "nothing is left")
	id := m.enqueue(rpctest.Build{YAML: pages})
	m.until(t, id, "slow", "it runs")
	prune("--dry-run").expect(t, 0, "nothing is left")
	ours, others := leftover(t, m.name)
	prune("--dry-run").expect(t, 0, "would remove 1 container, 1 network, 1 volume of the run drone-left", "owner "+m.name, "age ", "  network leftover-", "!-workspace")
	if got := ours(); got != 3 {
		t.Errorf("after a dry run %d of 3 objects are there", got)
	}
	prune().expect(t, 0, "removed 1 container, 1 network, 1 volume", "!would", "!-workspace")
	if ours() != 0 || others() != 9 {
		t.Errorf("%d of ours and %d of 9 of others are there", ours(), others())
	}
	if got := m.server.Result(id).Stages[0].Status; got != drone.StatusRunning {
		t.Errorf("the build that runs is %s", got)
	}
	m.kill(t)
	// Now it is a leftover too.
	prune().expect(t, 0, "removed 3 containers, 1 network, ")
	if left := objects(t, spec.LabelSpec); slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, m.name) }) {
		t.Errorf("left: %q", left)
	}
	wrong := append(slices.Clone(m.again.env), "DRONE_RUNNER_STATE="+t.TempDir())
	m.start(t)
	if got := m.await(t, id).Stages[0].Error; got != interrupted {
		t.Errorf("the stage: %q", got)
	}
	m.settle(t)
	leftover(t, m.name)
	call{env: wrong, args: []string{"prune"}}.run(t).expect(t, 1, "DRONE_RUNNER_STATE")
	call{args: []string{"prune"}}.run(t).expect(t, 2, "DRONE_RPC_HOST")
	prune().expect(t, 0, "removed 1 container")
	m.drain(t)
}

func TestDaemonStepTimeout(t *testing.T) {
	t.Parallel()
	r := newRunner(t, "DRONE_RUNNER_STEP_TIMEOUT=2s")
	result := r.build(t, rpctest.Build{YAML: "clone: {disable: true}\n" + sleeper})
	expectStates(t, result, "default: failure 0", "  web: success 0", "  slow: killed 137", "  next: skipped 0")
	// Two seconds may be too short for a slow machine to print anything.
	if text := "\n" + result.Step("slow").Text(); !strings.HasSuffix(text, "\nstopped: the step ran longer than 2s, the timeout of this runner's steps (its operator can raise DRONE_RUNNER_STEP_TIMEOUT)\n") {
		t.Errorf("log: %q", text)
	}
	r.drain(t)
}

func TestDaemonSaysHowManyAreLeft(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	r := newRunner(t, "DRONE_RUNNER_VOLUMES="+shared+":/shared")
	address := regexp.MustCompile(`http="?([0-9.]+:[0-9]+)`).FindStringSubmatch(r.stderr.String())[1]
	id, other := r.enqueue(rpctest.Build{YAML: waiter}), r.enqueue(rpctest.Build{YAML: waiter})
	r.until(t, id, "wait", "it runs")
	r.until(t, other, "wait", "it runs")
	r.signal(t, syscall.SIGTERM)
	var answer struct{ Status, Reason string }
	eventually(t, "the number of builds that are left", func() bool {
		response, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || json.Unmarshal(body, &answer) != nil {
			t.Fatalf("/readyz answers %s (%v)", body, err)
		}
		return response.StatusCode == http.StatusServiceUnavailable && strings.Contains(answer.Reason, "2 builds are left")
	})
	if err := os.WriteFile(filepath.Join(shared, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.wait(t).expect(t, 0, "every build has ended")
}
