//go:build !unit

package guard_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// ryukImage is what Testcontainers for Go v0.40.0 runs as its reaper.
const ryukImage = "testcontainers/ryuk:0.13.0"

// TestClientTestcontainers runs a program that uses Testcontainers for Go in the step, as a user's
// test suite would. What it leaves is Ryuk's to remove.
func TestClientTestcontainers(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	folder := clientFolder(t)
	install(b, folder, "testcontainers")
	// The image is imported through the guard, and so is this stage's own, whatever others know by
	// that name.
	tar := exec.CommandContext(t.Context(), "tar", "-C", folder, "-c", "ryuk")
	in, err := tar.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tar.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := pipe(t.Context(), b, in, "import", "-c", `CMD ["/ryuk"]`, "-c", "EXPOSE 8080", "-", ryukImage)
	if waitErr := tar.Wait(); err != nil || waitErr != nil {
		t.Fatalf("import %s: %v %v\n%s", filepath.Base(ryukImage), err, waitErr, out)
	}
	// For as long it may be without a client before it acts, and its client may be slow to come.
	out, err = b.TryInStep("RYUK_RECONNECTION_TIMEOUT=5s testcontainers " + guardtest.Image)
	if err != nil || !strings.HasSuffix(out, "all well\n") {
		t.Fatalf("testcontainers prints %s: %v", out, err)
	}
	gone := eventually(func() bool {
		out = b.Docker("ps", "-aq", "--filter", "label=org.testcontainers=true") + b.Docker("network", "ls", "-q", "--filter", "label=org.testcontainers=true")
		return out == ""
	})
	if !gone {
		t.Errorf("ryuk has left %q", out)
	}
}
