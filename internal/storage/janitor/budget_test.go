//go:build !unit

package janitor_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
)

// Forty images go through a disk that has room for ten: no build fails, and what runs and what is
// pinned stays.
func TestBudgetOfASmallDisk(t *testing.T) {
	var pinned string
	p := newPlace(t, janitor.Mark{Percent: 75}, janitor.Mark{Percent: 40}, func(name string) bool { return name == pinned })
	pinned = p.push("team/pinned:1", 1000, layerSize)
	runs := p.push("team/runs:1", 1001, layerSize)
	if err := p.build("first", true, pinned); err != nil {
		t.Fatal(err)
	}
	// Somebody's container, which isn't the engine's, and doesn't even run.
	pulled, err := p.client.ImagePull(t.Context(), runs, image.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, pulled); err != nil {
		t.Fatal(err)
	}
	_ = pulled.Close()
	if _, err := p.client.ContainerCreate(t.Context(), &container.Config{Image: runs, Cmd: []string{"true"}}, nil, nil, nil, "somebodys"); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { p.budget.Run(ctx) })
	const images, each = 40, 4
	var all []string
	for i := range images {
		all = append(all, p.push(fmt.Sprintf("team/image%d:1", i), uint64(i), layerSize))
	}
	for i := 0; i < images; i += each {
		if err := p.build(fmt.Sprintf("build%d", i), i == 0, all[i:i+each]...); err != nil {
			t.Errorf("build %d: %v", i/each, err)
		}
	}
	stop()
	watching.Wait()
	if left := p.has(pinned, runs, guardtest.Image); !slices.Equal(left, []string{pinned, runs}) {
		t.Errorf("of what must stay, and what nobody used, there is %q", left)
	}
	left := p.has(all...)
	if len(left) == 0 || len(left) > 12 {
		t.Errorf("%d images are left: %q", len(left), left)
	}
	if i := slices.Index(all, left[0]); !slices.Equal(left, all[i:]) {
		t.Errorf("not the oldest have gone first: %q", left)
	}
	if p.removed[janitor.KindImage] < images-12 {
		t.Errorf("%d images are counted as removed", p.removed[janitor.KindImage])
	}
	for _, want := range []string{"removed to make room", all[0], "size=3.", "used=\"2", "made room on the disk", "kind=image"} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if t.Failed() {
		return
	}

	t.Run("the disk is full before anybody looks", func(t *testing.T) {
		p.t = t
		// A pull needs it twice: as it comes, and unpacked.
		big := p.push("team/big:1", 2000, 14*mega)
		if err := p.build("big", true, big); err != nil {
			t.Error(err)
		}
		if p.asked == 0 {
			t.Error("the disk wasn't full")
		}
		if left := p.has(pinned, runs, big); len(left) != 3 {
			t.Errorf("there is %q", left)
		}
	})
	t.Run("what builds have made", func(t *testing.T) {
		p.t = t
		made := map[string]string{}
		for _, name := range []string{"cache.build.invalid/image:0123", "drone-alive.build.invalid/docker.io/library/app:1"} {
			// Each has a content of its own.
			c, err := p.client.ContainerCommit(t.Context(), "somebodys", container.CommitOptions{Reference: name, Changes: []string{"LABEL of=" + name}})
			if err != nil {
				t.Fatal(err)
			}
			made[name] = c.ID
		}
		free := p.ledger.Hold(cache.Builder)
		p.empty(t)
		if left := p.has(slices.Collect(maps.Keys(made))...); len(left) != 2 {
			t.Errorf("while something is built, there is %q", left)
		}
		free()
		p.empty(t)
		if left := p.has(slices.Collect(maps.Keys(made))...); !slices.Equal(left, []string{"drone-alive.build.invalid/docker.io/library/app:1"}) {
			t.Errorf("afterwards there is %q", left)
		}
	})
	t.Run("build cache goes, and idle volumes", func(t *testing.T) {
		p.t = t
		for name, path := range map[string]string{"idle": "/cache/idle", "busy": "/cache/busy", "somebodys": ""} {
			labels := map[string]string{}
			if path != "" {
				labels[spec.LabelPersistent] = path
			}
			if _, err := p.client.VolumeCreate(t.Context(), volume.CreateOptions{Name: name, Labels: labels}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.client.ContainerCreate(t.Context(), &container.Config{Image: pinned}, &container.HostConfig{Binds: []string{"busy:/x"}}, nil, nil, "busy"); err != nil {
			t.Fatal(err)
		}
		list, err := janitor.Volumes(t.Context(), p.client, p.ledger)
		if err != nil || len(list) != 2 {
			t.Fatalf("volumes %+v, %v", list, err)
		}
		i := slices.IndexFunc(list, func(v janitor.Volume) bool { return v.Name == "busy" })
		if v := list[i]; v.Path != "/cache/busy" || !slices.Equal(v.Users, []string{"busy"}) {
			t.Errorf("the busy one: %+v", v)
		}
		p.buildWithBuildKit(t)
		p.empty(t)
		found, err := p.client.VolumeList(t.Context(), volume.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range found.Volumes {
			names = append(names, v.Name)
		}
		if slices.Sort(names); !slices.Equal(names, []string{"busy", "somebodys"}) {
			t.Errorf("volumes %q are left", names)
		}
		if p.removed[janitor.KindVolume] != 1 || p.removed[janitor.KindBuildCache] == 0 {
			t.Errorf("removed: %v", p.removed)
		}
		if left := p.has(pinned, runs); len(left) != 2 {
			t.Errorf("images: %q are left", left)
		}
	})
}

// TestBudgetOfTheCacheItself holds that the cache isn't emptied for what others have on the disk,
// that its own limit is kept, and that what was used a moment ago stays.
func TestBudgetOfTheCacheItself(t *testing.T) {
	p := newPlace(t, janitor.Mark{Percent: 50}, janitor.Mark{Percent: 20}, nil)
	var all []string
	for i := range 4 {
		all = append(all, p.push(fmt.Sprintf("team/image%d:1", i), uint64(i), layerSize))
	}
	if err := p.build("first", true, all...); err != nil {
		t.Fatal(err)
	}
	disk, err := janitor.FindDisk(t.Context(), p.client)
	if err != nil {
		t.Fatal(err)
	}
	size, err := disk.Cache(t.Context())
	if err != nil || size < 4*layerSize {
		t.Fatalf("the cache has %d bytes, %v", size, err)
	}
	usage, err := disk.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	look := func(change func(*janitor.BudgetOptions)) {
		t.Helper()
		o := janitor.BudgetOptions{Docker: p.client, Disk: disk, Ledger: p.ledger, Recently: -1, Log: p.logger}
		change(&o)
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		janitor.NewBudget(o).Run(ctx)
	}
	t.Run("others fill the disk", func(t *testing.T) {
		// All but the cache is above the mark.
		look(func(o *janitor.BudgetOptions) { o.High = janitor.Mark{Bytes: max(1, usage.Used-size-1)} })
		if left := p.has(all...); len(left) != 4 {
			t.Errorf("%q are left", left)
		}
		if !strings.Contains(p.log.String(), "filled by something else than the cache") {
			t.Error("the log doesn't say so")
		}
	})
	t.Run("used a moment ago", func(t *testing.T) {
		look(func(o *janitor.BudgetOptions) { o.Limit, o.Recently = 1, time.Hour })
		if left := p.has(all...); len(left) != 4 {
			t.Errorf("%q are left", left)
		}
	})
	t.Run("the limit of the cache", func(t *testing.T) {
		look(func(o *janitor.BudgetOptions) { o.Limit = size - layerSize/2 })
		left := p.has(all...)
		if len(left) == 0 || len(left) == 4 {
			t.Errorf("%q are left", left)
		}
	})
}
