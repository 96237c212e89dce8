//go:build !unit

package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/docker/docker/client"
)

func TestLookLeavesNothing(t *testing.T) {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	program := filepath.Join(t.TempDir(), "drone-runner-sysbox")
	// As scripts/build does it: what that has compiled is there already.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "../../../cmd/drone-runner-sysbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := Doctor{Docker: c, Program: program}
	seen, err := d.look(t.Context(), "localhost:1")
	if err != nil || seen.build == nil {
		t.Fatalf("%+v, %v", seen, err)
	}
	for _, report := range []Report{seen.step, *seen.build} {
		if report.DNSError != "" || report.DialError == "" || report.MTU == 0 {
			t.Errorf("%+v", report)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := (Doctor{Docker: c, Program: broken}).look(t.Context(), "localhost:1"); err == nil {
		t.Error("a program that is none ran")
	}
	out, err := exec.Command("sh", "-c", fmt.Sprintf("docker ps -aq --filter label=%[1]s; docker network ls -q --filter label=%[1]s; docker image ls -q --filter label=%[1]s", label)).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("left: %s %v", out, err)
	}
}
