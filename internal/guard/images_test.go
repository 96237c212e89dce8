//go:build !unit

package guard_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// TestOwnImages follows the names of a build's images: what the build sees after each command, and
// what the daemon has when the build is over.
func TestOwnImages(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	host := loopbackRegistry(t)
	remote := host + "/a/b:2"
	// What is pulled is everybody's.
	t.Cleanup(func() { _, _ = guardtest.Send(b.Daemon, "DELETE", "/images/"+remote, nil) })
	saved := filepath.Join(t.TempDir(), "saved.tar")
	// own lists the names of the stage's own images as the build sees them.
	own := func() string {
		var names []string
		for _, name := range strings.Fields(b.Docker("images", "--format", "{{.Repository}}:{{.Tag}}")) {
			if strings.HasPrefix(name, "app:") || strings.HasPrefix(name, host) || strings.HasPrefix(name, "<none>") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for _, step := range []struct {
		run []string
		// fails is part of the error of a command that is refused; the names that are there
		// afterwards don't change then.
		fails, names string
	}{
		{run: []string{"tag", guardtest.Image, "app:1"}, names: "app:1"},
		{run: []string{"tag", "app:1", remote}, names: remote + " app:1"},
		{run: []string{"push", guardtest.Image}, fails: "it is shared by all stages", names: remote + " app:1"},
		{run: []string{"push", remote}, names: remote + " app:1"},
		{run: []string{"run", "-d", "--name", "user", "app:1", "sleep", "1000"}, names: remote + " app:1"},
		{run: []string{"save", "-o", saved, "app:1"}, names: remote + " app:1"},
		{run: []string{"rmi", "app:1"}, names: remote},
		{run: []string{"rmi", remote}, fails: "is using its referenced image", names: remote},
		{run: []string{"load", "-i", saved}, names: remote + " app:1"},
		{run: []string{"pull", remote}, names: remote + " app:1"},
		{run: []string{"commit", "no-such"}, fails: "No such container: no-such", names: remote + " app:1"},
		{run: []string{"commit", "--change", "LABEL of=" + b.ID, "user", "app:2"}, names: remote + " app:1 app:2"},
		{run: []string{"commit", "--change", "LABEL of=another-" + b.ID, "user"}, names: remote + " <none>:<none> app:1 app:2"},
		{run: []string{"image", "prune", "-f"}, names: remote + " app:1 app:2"},
	} {
		out, err := b.Try(step.run...)
		// the cache keeps what the build has forgotten
		if id, ok := strings.CutPrefix(strings.TrimSpace(out), "sha256:"); ok && err == nil {
			t.Cleanup(func() { _, _ = guardtest.Send(b.Daemon, "DELETE", "/images/cache.build.invalid/image:"+id, nil) })
		}
		if (err != nil) != (step.fails != "") || !strings.Contains(out, step.fails) {
			t.Errorf("docker %v prints %q, want %q: %v", step.run, out, step.fails, err)
		}
		if got := own(); got != step.names {
			t.Errorf("after docker %v, the build's images are %q, want %q", step.run, got, step.names)
		}
	}
	b.Docker("rm", "-f", "user")
	if err := (guard.Released{Daemon: b.Daemon, OwnerLabel: guardtest.OwnerLabel, ID: b.ID}).Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := b.Host("images", "--format", "{{.Repository}}:{{.Tag}}"); strings.Contains(names, b.ID) || !strings.Contains(names, remote) {
		t.Errorf("after the build the daemon has %s, want nothing of %s, and %s", names, b.ID, remote)
	}
}
