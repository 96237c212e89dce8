//go:build !unit

package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// below makes a bench with one volume, that binds root/rel and must stay below root.
func below(t *testing.T, root, rel string) *bench {
	b := newBench(t, engine.Options{Guard: &engine.GuardOptions{Dir: filepath.Join(t.TempDir(), "builds")}})
	b.volume("host", spec.VolumeBind, func(v *spec.Volume) { v.ID, v.Root, v.Path = "", root, filepath.Join(root, rel) })
	return b
}

func onHost(s *spec.Step) { s.Mounts = []spec.Mount{{Volume: "host", Path: "/host"}} }

func TestBindsBelow(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not", "there", "yet")
	b := below(t, root, "npm/cache")
	b.setup()
	b.passes(b.step("write", "echo kept >/host/file", onHost))
	if data, err := os.ReadFile(filepath.Join(root, "npm/cache/file")); err != nil || string(data) != "kept\n" {
		t.Errorf("%q, %v", data, err)
	}
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "npm/cache/file")); err != nil {
		t.Errorf("clean-up has taken the folder itself: %v", err)
	}

	for _, link := range []struct{ name, to, want string }{
		{"inside", "npm/cache", ""},
		{"up-and-inside", "../yet/npm", "leads out"},
		{"out", "../../..", "leads out"},
		{"absolute", "/", "leads out"},
		{"magic", "/proc/self/root", "leads out"},
		{"nothing", "gone", "leads to nothing"},
	} {
		t.Run(link.name, func(t *testing.T) {
			if err := os.Symlink(link.to, filepath.Join(root, link.name)); err != nil {
				t.Fatal(err)
			}
			b := below(t, root, link.name)
			err := b.engine.Setup(t.Context(), b.spec)
			if link.want != "" {
				wantError(t, err, link.want, `"host"`, root)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if out := b.passes(b.step("read", "cat /host/file", onHost)); out != "kept\n" {
				t.Errorf("it has %q", out)
			}
		})
	}
	t.Run("a file", func(t *testing.T) {
		b := below(t, root, "npm/cache/file")
		b.setup()
		if out := b.passes(b.step("read", "cat /host", onHost)); out != "kept\n" {
			t.Errorf("it has %q", out)
		}
	})
}

// Two stages, one of which exchanges the folder for a link to / all the time: the other sees the
// folder or fails, and never /.
func TestBindsBelowRace(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "a", "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for ctx.Err() == nil {
			if err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, "a"), unix.AT_FDCWD, filepath.Join(root, "link"), unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer swapping.Wait()
	defer stop()
	seen := 0
	for range 20 {
		b := below(t, root, "a")
		if err := b.engine.Setup(t.Context(), b.spec); err != nil {
			wantError(t, err, "leads out")
			continue
		}
		if out := b.passes(b.step("look", "ls /host", onHost)); strings.TrimSpace(out) != "mine" {
			t.Fatalf("the step sees %q", out)
		}
		seen++
	}
	t.Logf("%d of 20 stages saw the folder", seen)
}

// The daemon takes the beginning of a network's id for the network. The engine doesn't, and refuses
// the network of another stage by its name too.
func TestNetworksOfOtherStages(t *testing.T) {
	other := newBench(t, engine.Options{})
	other.setup()
	theirs, err := other.client.NetworkInspect(t.Context(), other.spec.Network.Name, network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, engine.Options{})
	b.setup()
	for name, row := range map[string]struct{ network, want string }{
		"the beginning of its id": {theirs.ID[:12], "no such network"},
		"its id":                  {theirs.ID, "another stage"},
		"its name":                {theirs.Name, "another stage"},
	} {
		t.Run(name, func(t *testing.T) {
			s := b.step(strings.ReplaceAll(name, " ", "-"), "true", func(s *spec.Step) { s.Networks = []string{row.network} })
			_, err := b.engine.Prepare(t.Context(), b.spec, s, nil)
			wantError(t, err, row.want, s.Name)
		})
	}
}
