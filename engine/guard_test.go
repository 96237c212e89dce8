//go:build !unit

package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// newGuarded is a bench whose runs have a guard, with both forms of the docker socket declared. It
// checks that nothing is left of the guard either.
func newGuarded(t *testing.T) (b *bench, dir string) {
	t.Helper()
	standin.Image(t, "docker")
	// Short, as paths of sockets must be.
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left of the guard: %v %v", left, err)
		}
		_ = os.RemoveAll(dir)
	})
	b = newBench(t, engine.Options{Guard: &engine.GuardOptions{Dir: dir}})
	b.spec.Volumes = append(b.spec.Volumes,
		&spec.Volume{Name: "socket", Kind: spec.VolumeSocket, Path: "/var/run/docker.sock"},
		&spec.Volume{Name: "run", Kind: spec.VolumeSocketDir, Path: "/var/run"})
	b.volume("workspace", spec.VolumeTemp)
	b.setup()
	return b, dir
}

// docker is a step with the docker command line and mounts of "VOLUME:PATH".
func docker(name, script string, mounts ...string) *spec.Step {
	s := &spec.Step{Name: name, Image: "standin/docker:1", Pull: spec.PullNever, Entrypoint: []string{"/bin/sh", "-ec"}, Command: []string{script}, WorkingDir: "/drone/src"}
	for _, m := range append(mounts, "workspace:/drone/src") {
		volume, path, _ := strings.Cut(m, ":")
		s.Mounts = append(s.Mounts, spec.Mount{Volume: volume, Path: path})
	}
	return s
}

func TestGuardedSocket(t *testing.T) {
	t.Parallel()
	b, _ := newGuarded(t)
	run := func(t *testing.T, s *spec.Step) string {
		t.Helper()
		b := b.in(t)
		s.ID = b.spec.ID + "-" + s.Name
		b.spec.Steps = append(b.spec.Steps, s)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var out transcript
		exit, err := b.prepare(s).Run(ctx, &out, nil)
		if err != nil || exit.Code != 0 {
			t.Errorf("%+v %v\n%s", exit, err, out.String())
		}
		return out.String()
	}
	t.Run("a file", func(t *testing.T) {
		out := run(t, docker("file", `echo text > file; docker run --rm -v "$PWD:/src" standin/busybox:1 cat /src/file; docker ps --format '{{.Names}}'`, "socket:/var/run/docker.sock"))
		if out != "text\n" {
			t.Errorf("output %q: the step's own file, and no step's container, should show", out)
		}
	})
	t.Run("a folder", func(t *testing.T) {
		run(t, docker("folder", `ls -A /var/run; test "$(ls -A /var/run)" = docker.sock; docker version >/dev/null`, "run:/var/run"))
	})
	t.Run("what it starts is killed before the daemon, as the step is", func(t *testing.T) {
		out := run(t, docker("score", `cat /proc/self/oom_score_adj; docker run --rm standin/busybox:1 cat /proc/self/oom_score_adj`, "socket:/var/run/docker.sock"))
		if scores := strings.Fields(out); len(scores) != 2 || scores[0] != scores[1] || scores[0] == "0" {
			t.Errorf("the scores of the step and of what it starts are %q, and should be the same, above 0", scores)
		}
	})
	t.Run("what it starts is found by name and by port", func(t *testing.T) {
		run(t, docker("server", `docker run -d --name db -p 8080:80 standin/busybox:1 sh -c 'echo hi >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
			until wget -qO- http://db/; do sleep 0.2; done
			wget -qO- http://host.docker.internal:8080/`, "socket:/var/run/docker.sock"))
	})
	t.Run("privilege is refused", func(t *testing.T) {
		out := run(t, docker("greedy", `! docker run --privileged standin/busybox:1 true 2>&1`, "socket:/var/run/docker.sock"))
		if !strings.Contains(out, "Privileged") {
			t.Errorf("the refusal doesn't name what is refused: %q", out)
		}
	})
	// Whoever has the folder can put a symlink to the daemon's own socket in the socket's place; no
	// later mount may follow it.
	t.Run("a folder's content leads nobody astray", func(t *testing.T) {
		run(t, docker("trap", `cd /var/run; rm docker.sock; ln -s /var/run/docker.sock docker.sock`, "run:/var/run"))
		out := run(t, docker("victim", `docker info --format '{{.Containers}}' 2>&1; ! docker run --privileged standin/busybox:1 true 2>&1`, "socket:/var/run/docker.sock"))
		if !strings.Contains(out, "Privileged") {
			t.Errorf("the step reached another daemon than its guard: %q", out)
		}
	})
	// db, a network and a volume outlive the steps that made them; newBench checks that Destroy
	// takes them, and newGuarded that the sockets go.
	run(t, docker("litter", `docker network create n; docker volume create vol; docker run -d -v vol:/v -v /anonymous standin/busybox:1 sleep 300`, "socket:/var/run/docker.sock"))
}

// TestPluginSocket has a run whose plugins build images, and whose steps have no Docker otherwise:
// what isn't listened on can't be reached by any mistake.
func TestPluginSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	standin.Image(t, "docker")
	b := newBench(t, engine.Options{Guard: &engine.GuardOptions{Dir: dir}})
	b.spec.Volumes = append(b.spec.Volumes, &spec.Volume{Name: "plugin", Kind: spec.VolumePluginSocket})
	b.volume("workspace", spec.VolumeTemp)
	b.setup()
	s := docker("publish", `docker info >/dev/null; docker images >/dev/null; ! docker run standin/busybox:1 true 2>&1`, "plugin:/var/run/docker.sock")
	s.ID = b.spec.ID + "-publish"
	b.spec.Steps = append(b.spec.Steps, s)
	var out transcript
	exit, err := b.prepare(s).Run(t.Context(), &out, nil)
	if err != nil || exit.Code != 0 || !strings.Contains(out.String(), "build, tag, pull and push") {
		t.Errorf("%+v %v\n%s", exit, err, out.String())
	}
	for _, socket := range []string{"socket", "run"} {
		if _, err := os.Stat(filepath.Join(dir, b.spec.ID, socket, "docker.sock")); !os.IsNotExist(err) {
			t.Errorf("%s/docker.sock is open although no step may have it: %v", socket, err)
		}
	}
}

func TestGuardedSocketIsClosedToOthers(t *testing.T) {
	t.Parallel()
	b, dir := newGuarded(t)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		t.Errorf("the folder of all sockets is open to other users of the machine: %s", perm)
	}
	// The sockets themselves are for every user that a step may run as.
	for _, socket := range []string{"socket/docker.sock", "run/docker.sock"} {
		info, err := os.Stat(filepath.Join(dir, b.spec.ID, socket))
		if err != nil {
			t.Fatal(err)
		}
		if perm := info.Mode().Perm(); perm != 0o666 {
			t.Errorf("%s: %s", socket, perm)
		}
	}
}
