//go:build guardsuite

package guard_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/guard/guardtest"
)

func TestProbe3(t *testing.T) {
	b := guardtest.Start(t)
	t.Setenv("DOCKER_BUILDKIT", "0")
	do := func(args ...string) {
		out, err := b.Try(args...)
		t.Log(args, "\n", out, err)
	}
	file := func(text string) string {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644)
		os.WriteFile(filepath.Join(dir, "a"), []byte("hello"), 0o644)
		return dir
	}
	do("build", "-t", "base", file("FROM "+guardtest.Image+"\nRUN date > /made \\\n && ls\nCOPY . /ctx\nRUN ls -la /ctx; ip a; cat /etc/resolv.conf\n"))
	do("build", "-t", "base:2", file("FROM "+guardtest.Image+"\nRUN date > /made \\\n && ls\nCOPY . /ctx\nRUN ls -la /ctx; ip a; cat /etc/resolv.conf\n"))
	do("build", "-t", "app", file("ARG X=base\nFROM ${X} AS q\nCOPY --from=base:2 /made /made2\nRUN cat /made*\nFROM q\nONBUILD COPY --from=abc / /\n"))
	do("build", "-q", file("ARG X=base\nFROM ${X} AS q\nCOPY --from=base:2 /made /made2\nRUN cat /made*\nFROM q\n"))
	do("build", file("ARG X=base\nFROM ${X} AS q\nCOPY --from=base:2 /made /made2\nRUN cat /made*\nFROM q\n"))
	do("build", file("FROM 4c7aef\nRUN true"))
	do("build", file("FROM nonesuch\nRUN true"))
	do("build", "--add-host", "a:1.2.3.4", file("FROM base\nRUN echo $GUARD_BUILD; cat /etc/hosts"))
	do("build", file("FROM base\nRUN false"))
	do("build", file("FROM base\nRU false"))
	do("images")
	t.Log(b.Host("images", "-a"))
	t.Log(b.Host("network", "ls"))
}
