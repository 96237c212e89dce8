//go:build guardsuite

package guard_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/guard/guardtest"
)

func TestProbe4(t *testing.T) {
	b := guardtest.Start(t)
	do := func(args ...string) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "/tmp/tc/out/docker-buildx", args...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+b.Socket, "DOCKER_CONFIG="+t.TempDir())
		out, err := cmd.CombinedOutput()
		t.Log(args, "\n", string(out), err)
	}
	file := func(text string) string {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644)
		os.WriteFile(filepath.Join(dir, "a"), []byte("hello"), 0o644)
		return dir
	}
	do("ls")
	do("inspect")
	d := file("FROM " + guardtest.Image + "\nCOPY a /a\nRUN date > /made\n")
	do("build", "--progress=plain", "-t", "base", d)
	do("build", "--progress=plain", "-t", "base:2", "-t", "x/y:3", d)
	do("build", "--progress=plain", d)
	do("build", "--progress=plain", "--network", "host", d)
	do("build", "--progress=plain", "--allow", "network.host", d)
	do("build", "--progress=plain", "-o", t.TempDir(), d)
	do("build", "--progress=plain", "-t", "app", file("ARG X=nope\nFROM ${X}\nRUN cat /made\nCOPY --from=base /made /m2\nRUN --mount=type=bind,from=base:2,target=/b cat /b/made\n"), "--build-arg", "X=base:2")
	do("du")
	do("prune", "-f")
	do("history", "ls")
	out, _ := b.Try("images")
	t.Log(out)
}
