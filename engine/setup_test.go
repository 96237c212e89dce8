//go:build !unit

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

func TestSetupRefusesBeforeItCreatesAnything(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*bench)
		want   []string
	}{
		{"a docker socket", func(b *bench) {
			b.volume("docker", spec.VolumeSocket, func(v *spec.Volume) { v.ID, v.Path = "", "/var/run/docker.sock" })
		}, []string{`volume "docker" (/var/run/docker.sock) is a docker socket`, "gives none to builds"}},
		{"the folder of a docker socket", func(b *bench) {
			b.volume("run", spec.VolumeSocketDir, func(v *spec.Volume) { v.ID, v.Path = "", "/var/run" })
		}, []string{`volume "run" (/var/run) is a docker socket`, "gives none to builds"}},
		{"an unknown kind", func(b *bench) { b.volume("x", "nfs") }, []string{`"x"`, `"nfs"`}},
		{"a volume without id", func(b *bench) { b.volume("x", spec.VolumeTemp, func(v *spec.Volume) { v.ID = "" }) }, []string{`"x"`, "no id"}},
		{"a relative bind", func(b *bench) {
			b.volume("x", spec.VolumeBind, func(v *spec.Volume) { v.ID, v.Path = "", "a/b" })
		}, []string{`"x"`, `"a/b"`, "absolute"}},
		{"a bind with an id", func(b *bench) { b.volume("x", spec.VolumeBind, func(v *spec.Volume) { v.Path = "/tmp" }) }, []string{`"x"`, "id"}},
		{"a negative size", func(b *bench) { b.volume("x", spec.VolumeMemory, func(v *spec.Volume) { v.SizeLimit = -1 }) }, []string{`"x"`, "-1"}},
		{"two volumes of a name", func(b *bench) { b.volume("x", spec.VolumeTemp); b.volume("x", spec.VolumeTemp) }, []string{`"x"`}},
		{"a nil volume", func(b *bench) { b.spec.Volumes = []*spec.Volume{nil} }, []string{"volume 1"}},
		{"a nil step", func(b *bench) { b.spec.Steps = []*spec.Step{nil} }, []string{"step 1"}},
		{"a step without id", func(b *bench) { b.spec.Steps = []*spec.Step{{Name: "build"}} }, []string{`"build"`, "id"}},
		{"two steps of an id", func(b *bench) { b.spec.Steps = []*spec.Step{{ID: "a"}, {ID: "a"}} }, []string{`"a"`}},
		{"no network name", func(b *bench) { b.spec.Network.Name = "" }, []string{"network"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, engine.Options{})
			b.volume("other", spec.VolumeTemp)
			row.change(b)
			wantError(t, b.engine.Setup(t.Context(), b.spec), append(row.want, b.spec.Name)...)
			if left := b.left(t.Context()); len(left) > 0 {
				t.Errorf("created %q", left)
			}
		})
	}
	b := newBench(t, engine.Options{})
	wantError(t, b.engine.Setup(t.Context(), nil), "no spec")
	wantError(t, b.engine.Setup(t.Context(), &spec.Spec{Name: "p"}), `"p"`, "no id")
	wantError(t, b.engine.Destroy(t.Context(), nil), "no spec")
}

func TestSetupFailsWithTheNetwork(t *testing.T) {
	b := newBench(t, engine.Options{})
	foreign, err := b.client.NetworkCreate(t.Context(), b.spec.Network.Name, network.CreateOptions{Driver: "bridge"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.client.NetworkRemove(context.WithoutCancel(t.Context()), foreign.ID); err != nil {
			t.Errorf("the network of somebody else is gone: %v", err)
		}
	}()
	b.volume("temp", spec.VolumeTemp)
	wantError(t, b.engine.Setup(t.Context(), b.spec), "create network", b.spec.Network.Name, "docker network rm")
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
		t.Fatal(err)
	}
}

func TestSetupTwice(t *testing.T) {
	b := newBench(t, engine.Options{})
	b.setup()
	wantError(t, b.engine.Setup(t.Context(), b.spec), "set up already", b.spec.ID)
}

func TestSetupGivesTheNetworkItsOptionsAndLabels(t *testing.T) {
	b := newBench(t, engine.Options{RunnerName: "runner-1"})
	b.spec.Network.Options = map[string]string{"com.docker.network.driver.mtu": "1234"}
	b.setup()
	n, err := b.client.NetworkInspect(t.Context(), b.spec.Network.Name, network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n.Driver != "bridge" || n.Options["com.docker.network.driver.mtu"] != "1234" || n.Labels[spec.LabelSpec] != b.spec.ID || n.Labels["io.drone"] != "true" || n.Labels[spec.LabelRunner] != "runner-1" {
		t.Errorf("network %+v", n)
	}
	if out := b.passes(b.step("mtu", "cat /sys/class/net/eth0/mtu")); out != "1234\n" {
		t.Errorf("mtu in a step: %q", out)
	}
}

func TestStepsFindEachOtherByName(t *testing.T) {
	b := newBench(t, engine.Options{})
	b.setup()
	service := b.step("database", `while :; do echo pong | nc -l -p 5432; done`, func(s *spec.Step) { s.Service = true })
	ctx, cancel := context.WithCancel(t.Context())
	var out transcript
	wait := b.background(ctx, b.prepare(service), &out)
	if got := b.passes(b.step("client", `until nc -w 10 database 5432 </dev/null 2>&1 | grep pong; do sleep 0.3; done`)); !strings.Contains(got, "pong") {
		t.Errorf("output %q", got)
	}
	cancel()
	if _, err := wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("service: %v", err)
	}
}

func TestStepWithoutNetwork(t *testing.T) {
	b := newBench(t, engine.Options{})
	b.setup()
	out := b.passes(b.step("alone", "ls /sys/class/net", func(s *spec.Step) { s.NoNetwork, s.Networks = true, []string{"no-such-network"} }))
	if out != "lo\n" {
		t.Errorf("it has %q", out)
	}
}

func TestStepOnFurtherNetworks(t *testing.T) {
	b := newBench(t, engine.Options{})
	b.setup()
	name := b.spec.ID + "-extra"
	if _, err := b.client.NetworkCreate(t.Context(), name, network.CreateOptions{Driver: "bridge", Labels: map[string]string{spec.LabelSpec: b.spec.ID}}); err != nil {
		t.Fatal(err)
	}
	out := b.passes(b.step("both", "ls /sys/class/net", func(s *spec.Step) { s.Networks = []string{name} }))
	if out != "eth0\neth1\nlo\n" {
		t.Errorf("it has %q", out)
	}
	// Older daemons take note of a network that isn't there, and fail to start the container.
	c, err := b.engine.Prepare(t.Context(), b.spec, b.step("lost", "true", func(s *spec.Step) { s.Networks = []string{"no-such-network"} }), nil)
	if err == nil {
		_, err = c.Run(t.Context(), nil, nil)
	}
	wantError(t, err, `"lost"`, `no-such-network`, "docker network create", "DRONE_RUNNER_NETWORKS")
}

// TestNetworkOfTheRunIsLost: a daemon that is killed may forget it. That is nothing the operator
// has set, nor can mend.
func TestNetworkOfTheRunIsLost(t *testing.T) {
	b := newBench(t, engine.Options{})
	b.setup()
	c, err := b.engine.Prepare(t.Context(), b.spec, b.step("late", "true"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.client.NetworkRemove(t.Context(), b.spec.Network.Name); err != nil {
		t.Fatal(err)
	}
	_, err = c.Run(t.Context(), nil, nil)
	wantError(t, err, `"late"`, b.spec.Network.Name, "the docker daemon has lost the network", "run the build again")
	if strings.Contains(err.Error(), "DRONE_RUNNER_NETWORKS") {
		t.Error(err)
	}
}

func TestVolumesAreSharedAndGo(t *testing.T) {
	b := newBench(t, engine.Options{})
	b.volume("temp", spec.VolumeTemp)
	b.volume("memory", spec.VolumeMemory, func(v *spec.Volume) { v.SizeLimit = 4 << 20 })
	mounted := func(s *spec.Step) {
		s.Mounts = []spec.Mount{{Volume: "temp", Path: "/temp"}, {Volume: "memory", Path: "/memory/"}}
	}
	b.setup()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out transcript
	writer := b.step("writer", `echo 1 >/temp/file; echo 2 >/memory/file; echo ready; sleep 1000`, mounted)
	wait := b.background(ctx, b.prepare(writer), &out)
	out.waitFor(t, "ready")
	got := b.passes(b.step("reader", `cat /temp/file /memory/file; df -k /memory | tail -1 | awk '{print $1, $2}'`, mounted))
	if got != "1\n2\ntmpfs 4096\n" {
		t.Errorf("the reader sees %q", got)
	}
	cancel()
	_, _ = wait()
	if got := b.passes(b.step("later", `cat /temp/file`, mounted)); got != "1\n" {
		t.Errorf("a later step sees %q", got)
	}
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
		t.Fatal(err)
	}
	if left := b.left(t.Context()); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestPersistentVolumeOutlivesTheRun(t *testing.T) {
	first := newBench(t, engine.Options{RunnerName: "runner-1"})
	cache := first.spec.ID + "-cache"
	defer func() {
		if err := first.client.VolumeRemove(context.WithoutCancel(t.Context()), cache, true); err != nil {
			t.Error(err)
		}
	}()
	for i, script := range []string{"echo kept >/cache/file", "cat /cache/file"} {
		b := newBench(t, engine.Options{RunnerName: "runner-1"})
		b.volume("cache", spec.VolumePersistent, func(v *spec.Volume) { v.ID, v.Path = cache, "/cache/npm" })
		b.setup()
		out := b.passes(b.step("step", script, func(s *spec.Step) { s.Mounts = []spec.Mount{{Volume: "cache", Path: "/cache"}} }))
		if i == 1 && out != "kept\n" {
			t.Errorf("the second run sees %q", out)
		}
		if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
			t.Fatal(err)
		}
	}
	v, err := first.client.VolumeInspect(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	if v.Labels[spec.LabelPersistent] != "/cache/npm" || v.Labels[spec.LabelSpec] != "" || v.Labels[spec.LabelRunner] != "runner-1" {
		t.Errorf("labels %v", v.Labels)
	}
}

func TestBinds(t *testing.T) {
	b := newBench(t, engine.Options{})
	dir := t.TempDir()
	b.volume("host", spec.VolumeBind, func(v *spec.Volume) { v.ID, v.Path, v.ReadOnly = "", dir, true })
	b.volume("new", spec.VolumeBind, func(v *spec.Volume) { v.ID, v.Path = "", filepath.Join(dir, "not", "there") })
	b.volume("gone", spec.VolumeBind, func(v *spec.Volume) { v.ID, v.Path = "", filepath.Join(dir, "no:where") })
	b.setup()
	out := b.passes(b.step("bound", `touch /host/file 2>&1 || echo refused`, func(s *spec.Step) { s.Mounts = []spec.Mount{{Volume: "host", Path: "/host"}} }))
	if !strings.Contains(out, "Read-only") || !strings.Contains(out, "refused") {
		t.Errorf("output %q", out)
	}
	b.passes(b.step("maker", `touch /new/file`, func(s *spec.Step) { s.Mounts = []spec.Mount{{Volume: "new", Path: "/new"}} }))
	if _, err := os.Stat(filepath.Join(dir, "not", "there", "file")); err != nil {
		t.Errorf("a source that was missing isn't made: %v", err)
	}
	for _, row := range []struct {
		name  string
		mount spec.Mount
		want  []string
	}{
		{"no source, of a path that can't be made", spec.Mount{Volume: "gone", Path: "/gone"}, []string{"no:where", "make the folder"}},
		{"no such volume", spec.Mount{Volume: "unknown", Path: "/x"}, []string{`"unknown"`, "/x", "declares no volume"}},
		{"relative path", spec.Mount{Volume: "host", Path: "x"}, []string{`"host"`, `"x"`, "absolute"}},
		{"the root", spec.Mount{Volume: "host", Path: "/a/.."}, []string{`"host"`, "hide the whole image"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := b.step(fmt.Sprintf("bad%d", len(b.spec.Steps)), "true", func(s *spec.Step) { s.Mounts = []spec.Mount{row.mount} })
			_, err := b.engine.Prepare(t.Context(), b.spec, s, nil)
			wantError(t, err, append(row.want, s.Name)...)
		})
	}
}

func TestPrepareAnewReplaces(t *testing.T) {
	b := newBench(t, engine.Options{})
	b.setup()
	s := b.step("again", `echo "$STATUS"`, func(s *spec.Step) { s.Env = map[string]string{"STATUS": "success"} })
	former := b.prepare(s)
	s.Env["STATUS"] = "failure"
	if out := b.passes(s); out != "failure\n" {
		t.Errorf("output %q", out)
	}
	_, err := former.Run(t.Context(), nil, nil)
	wantError(t, err, "again")
}

func TestPrepareRefusesANameOfSomebodyElse(t *testing.T) {
	b := newBench(t, engine.Options{})
	b.setup()
	s := b.step("taken", "true")
	foreign, err := b.client.ContainerCreate(t.Context(), &container.Config{Image: s.Image}, nil, nil, nil, s.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.client.ContainerRemove(context.WithoutCancel(t.Context()), foreign.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}()
	_, err = b.engine.Prepare(t.Context(), b.spec, s, nil)
	wantError(t, err, `"taken"`, s.ID, "somebody else")
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.ContainerInspect(t.Context(), foreign.ID); err != nil {
		t.Errorf("somebody else's container is gone: %v", err)
	}
}

func TestPrepareNeedsASetUpRun(t *testing.T) {
	b := newBench(t, engine.Options{})
	s := b.step("early", "true")
	_, err := b.engine.Prepare(t.Context(), b.spec, s, nil)
	wantError(t, err, `"early"`, "never set up")
	b.setup()
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
		t.Fatal(err)
	}
	_, err = b.engine.Prepare(t.Context(), b.spec, s, nil)
	wantError(t, err, `"early"`, "has ended")
	_, err = b.engine.Prepare(t.Context(), nil, nil, nil)
	wantError(t, err, "no spec")
}
