//go:build !unit

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

func TestDestroyRemovesWhatOthersMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.volume("temp", spec.VolumeTemp)
	b.setup()
	c := b.prepare(b.step("runs", "sleep 1000"))
	var out transcript
	wait := b.background(t.Context(), c, &out)
	b.prepare(b.step("created", "true"))

	label := map[string]string{spec.LabelSpec: b.spec.ID}
	ctx := t.Context()
	n, err := b.client.NetworkCreate(ctx, b.spec.ID+"-own", network.CreateOptions{Driver: "bridge", Labels: label})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.VolumeCreate(ctx, volume.CreateOptions{Name: b.spec.ID + "-own", Labels: label}); err != nil {
		t.Fatal(err)
	}
	inner, err := b.client.ContainerCreate(ctx, &container.Config{Image: "standin/busybox:1", Cmd: []string{"sleep", "1000"}, Labels: label, Volumes: map[string]struct{}{"/anonymous": {}}},
		&container.HostConfig{Binds: []string{b.spec.ID + "-own:/own"}, NetworkMode: container.NetworkMode(b.spec.ID + "-own")}, nil, nil, b.spec.ID+"-inner")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.client.ContainerStart(ctx, inner.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := b.client.ContainerInspect(ctx, inner.ID)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody else's container joined a network of the run: it's taken off, and stays.
	guest, err := b.client.ContainerCreate(ctx, &container.Config{Image: "standin/busybox:1", Cmd: []string{"sleep", "1000"}}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.client.ContainerRemove(context.WithoutCancel(ctx), guest.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}()
	if err := b.client.NetworkConnect(ctx, n.ID, guest.ID, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.client.ContainerStart(ctx, guest.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}

	for range 2 {
		if err := b.engine.Destroy(ctx, b.spec); err != nil {
			t.Fatal(err)
		}
	}
	if left := b.left(ctx); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	for _, m := range info.Mounts {
		if _, err := b.client.VolumeInspect(ctx, m.Name); err == nil {
			t.Errorf("volume %s (%s) is there still", m.Name, m.Destination)
		}
	}
	if exit, err := wait(); err == nil && exit.Code == 0 {
		t.Error("a step that was destroyed passed")
	}
}

func TestDestroyOfAnotherEnginesRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.volume("temp", spec.VolumeTemp)
	b.setup()
	b.prepare(b.step("created", "true"))
	// As after a crash: this engine knows nothing of the run.
	if err := engine.New(b.client, engine.Options{}).Destroy(t.Context(), b.spec); err != nil {
		t.Fatal(err)
	}
	if left := b.left(t.Context()); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A volume that the daemon made anew while it made a container for it has no label.
func TestDestroyRemovesVolumesByName(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.setup()
	stays := b.spec.ID + "0-data" // of another run
	for _, name := range []string{b.spec.ID + "-workspace", b.spec.ID + ".data", stays} {
		if _, err := b.client.VolumeCreate(t.Context(), volume.CreateOptions{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
		t.Error(err)
	}
	if left := b.left(t.Context()); !slices.Equal(left, []string{"volume " + stays}) {
		t.Errorf("left: %q", left)
	}
	if err := b.client.VolumeRemove(t.Context(), stays, false); err != nil {
		t.Error(err)
	}
}

func TestDestroyNamesWhatStays(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	v := b.volume("held", spec.VolumeTemp)
	b.setup()
	holder, err := b.client.ContainerCreate(t.Context(), &container.Config{Image: "standin/busybox:1"}, &container.HostConfig{Binds: []string{v.ID + ":/x"}}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	remove := func() error {
		return b.client.ContainerRemove(context.WithoutCancel(t.Context()), holder.ID, container.RemoveOptions{Force: true})
	}
	destroy := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return b.engine.Destroy(ctx, b.spec)
	}
	want := []string{"remove volume", v.ID, "in use", "deadline"}
	err = destroy(2 * time.Second)
	// A slow machine may not have got to the volume by then; longer than this, Destroy gives up by
	// itself.
	for limit := 4 * time.Second; !says(err, want...) && limit < 15*time.Second; limit += 4 * time.Second {
		err = destroy(limit)
	}
	wantError(t, err, want...)

	// Once that has gone, it works, also while the call is under way.
	time.AfterFunc(500*time.Millisecond, func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
		t.Fatal(err)
	}
}

// Whatever moment a run is cancelled at, Destroy leaves nothing.
func TestCancelAtEveryMomentLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 1, 3, 5, 10, 15, 20, 30, 50, 80, 120, 180, 250, 350, 500} {
		t.Run(fmt.Sprintf("%dms", after), func(t *testing.T) {
			b := newBench(t, engine.Options{StopGrace: 10 * time.Millisecond})
			b.volume("temp", spec.VolumeTemp)
			b.volume("memory", spec.VolumeMemory)
			s := b.step("step", "sleep 1000", func(s *spec.Step) { s.Mounts = []spec.Mount{{Volume: "temp", Path: "/temp"}} })
			ctx, cancel := context.WithTimeout(t.Context(), after*time.Millisecond)
			defer cancel()
			err := func() error {
				if err := b.engine.Setup(ctx, b.spec); err != nil {
					return err
				}
				c, err := b.engine.Prepare(ctx, b.spec, s, nil)
				if err != nil {
					return err
				}
				_, err = c.Run(ctx, nil, nil)
				return err
			}()
			// Cancelled is what the creation of a network is that a slow daemon takes too long over
			// to be waited for.
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
				t.Fatal(err)
			}
			if left := b.left(t.Context()); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// Destroy may end a run at any moment, without anybody cancelling a context.
func TestDestroyAtEveryMomentLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 1, 3, 5, 10, 15, 20, 30, 50, 120, 250, 500} {
		t.Run(fmt.Sprintf("%dms", after), func(t *testing.T) {
			b := newBench(t, engine.Options{})
			b.volume("temp", spec.VolumeTemp)
			s := b.step("step", "sleep 1000")
			b.setup()
			result := make(chan error)
			go func() {
				c, err := b.engine.Prepare(t.Context(), b.spec, s, nil)
				if err == nil {
					var exit spec.Exit
					if exit, err = c.Run(t.Context(), nil, nil); err == nil && exit.Code != 0 {
						err = fmt.Errorf("exit %d", exit.Code)
					}
				}
				result <- err
			}()
			time.Sleep(after * time.Millisecond)
			if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err == nil {
				t.Error("the step passed")
			}
			if left := b.left(t.Context()); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}
