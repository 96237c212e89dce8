//go:build !unit

package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// A run whose process was killed is found by its labels and removed by its id, running containers,
// sockets and mounts included, and what was made through its guard without a label: names of
// images, and containers of the classic builder. What was mounted stays.
func TestSweep(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	runner := "sweeper of " + dir
	former := newBench(t, engine.Options{RunnerName: runner, Guard: &engine.GuardOptions{Dir: dir}})
	former.spec.Volumes = []*spec.Volume{
		{Name: "work", Kind: spec.VolumeTemp, ID: former.spec.ID + "-work"},
		{Name: "cache", Kind: spec.VolumePersistent, ID: former.spec.ID + "-cache", Path: "/cache"},
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := former.client.VolumeRemove(ctx, former.spec.ID+"-cache", true); err != nil {
			t.Errorf("the persistent volume: %v", err)
		}
	})
	if err := former.engine.Setup(t.Context(), former.spec); err != nil {
		t.Fatal(err)
	}
	// Made as if by the guard.
	labels := map[string]string{spec.LabelSpec: former.spec.ID, spec.LabelRunner: runner}
	c, err := former.client.ContainerCreate(t.Context(), &container.Config{Image: "standin/busybox:1", Cmd: []string{"sleep", "300"}, Labels: labels},
		&container.HostConfig{NetworkMode: container.NetworkMode(former.spec.Network.Name), Binds: []string{former.spec.ID + "-work:/work", former.spec.ID + "-cache:/cache"}}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := former.client.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	name := former.spec.ID + ".build.invalid/docker.io/octo/lab:1"
	if err := former.client.ImageTag(t.Context(), "standin/busybox:1", name); err != nil {
		t.Fatal(err)
	}
	builder, err := former.client.ContainerCreate(t.Context(), &container.Config{Image: "standin/busybox:1", Cmd: []string{"sleep", "300"}}, &container.HostConfig{NetworkMode: container.NetworkMode(former.spec.Network.Name)}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := former.client.ContainerStart(t.Context(), builder.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(kept, "precious")
	point := filepath.Join(dir, former.spec.ID, "mounts", "0")
	for _, err := range []error{
		os.WriteFile(precious, []byte("x"), 0o600),
		os.MkdirAll(point, 0o700),
		os.WriteFile(filepath.Join(dir, former.spec.ID, "docker.sock"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(kept, point, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}

	next := engine.New(former.client, engine.Options{RunnerName: runner, Guard: &engine.GuardOptions{Dir: dir}})
	found, err := next.Remains(t.Context(), runner)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	got := found[0]
	if got.Spec != former.spec.ID || got.String() != "1 container, 1 network, 1 volume" || !slices.Equal(got.Volumes, []string{former.spec.ID + "-work"}) {
		t.Errorf("found %+v", got)
	}
	if age := time.Since(got.Created); age < -time.Minute || age > 10*time.Minute {
		t.Errorf("its age is %s", age)
	}
	if others, err := next.Remains(t.Context(), runner+"2"); err != nil || len(others) > 0 {
		t.Errorf("another runner found %v, %v", others, err)
	}
	all, err := next.AllRemains(t.Context())
	if err != nil || !slices.ContainsFunc(all, func(r engine.Remains) bool { return r.Spec == got.Spec && r.Owner == runner }) {
		t.Errorf("all runners together found %v, %v", all, err)
	}
	for range 2 { // The second time there is nothing to do.
		if err := next.Sweep(t.Context(), former.spec.ID); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := next.Remains(t.Context(), runner); err != nil || len(found) > 0 {
		t.Errorf("left: %v, %v", found, err)
	}
	if _, err := former.client.ContainerInspect(t.Context(), builder.ID); !errdefs.IsNotFound(err) {
		t.Errorf("the container of the builder: %v", err)
	}
	if left, err := guard.Leftovers(t.Context(), strings.TrimPrefix(former.client.DaemonHost(), "unix://")); err != nil || slices.Contains(left, former.spec.ID) {
		t.Errorf("the name of the image: %v, %v", left, err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was mounted: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, former.spec.ID)); !os.IsNotExist(err) {
		t.Errorf("the folder of its sockets: %v", err)
	}
	if _, err := former.client.VolumeInspect(t.Context(), former.spec.ID+"-cache"); err != nil {
		t.Errorf("the persistent volume: %v", err)
	}
	if all, err := former.client.VolumeList(t.Context(), volume.ListOptions{}); err != nil || slices.ContainsFunc(all.Volumes, func(v *volume.Volume) bool { return v.Name == former.spec.ID+"-work" }) {
		t.Errorf("the volume of the run is still there (%v)", err)
	}
}

func TestSweepRefusesWhatIsNoID(t *testing.T) {
	d := engine.New(connect(t), engine.Options{})
	for _, id := range []string{"", ".", "..", "../x", "a/b", "/"} {
		if err := d.Sweep(t.Context(), id); err == nil || !strings.Contains(err.Error(), "no stage's id") {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := d.Remains(t.Context(), ""); err == nil {
		t.Error("a runner without a name has remains")
	}
}
