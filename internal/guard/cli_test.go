//go:build !unit

package guard_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

func TestRunAndSee(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	if got := b.Docker("run", "--rm", guardtest.Image, "echo", "hello"); got != "hello\n" {
		t.Errorf("run prints %q", got)
	}
	b.Docker("run", "-d", "--name", "db", "-p", "8080:80", "-v", "data:/data", guardtest.Image, "sleep", "1000")
	if got := b.Docker("ps", "--format", "{{.Names}}"); got != "db\n" {
		t.Errorf("ps shows %q, want db alone", got)
	}
	for _, filter := range []string{"name=db", "name=^db$", "name=^/db$", "volume=data", "network=bridge"} {
		if got := b.Docker("ps", "--format", "{{.Names}}", "--filter", filter); got != "db\n" {
			t.Errorf("ps --filter %s shows %q", filter, got)
		}
	}
	inspected := b.Docker("inspect", "db")
	if strings.Contains(inspected, b.ID+".") {
		t.Errorf("inspect shows scoped names:\n%s", inspected)
	}
	var in []struct {
		Name            string
		HostConfig      struct{ NetworkMode string }
		NetworkSettings struct{ Networks map[string]any }
	}
	if err := json.Unmarshal([]byte(inspected), &in); err != nil {
		t.Fatal(err)
	}
	if in[0].Name != "/db" || in[0].HostConfig.NetworkMode != "bridge" || in[0].NetworkSettings.Networks["bridge"] == nil {
		t.Errorf("inspect shows %+v", in[0])
	}
	if got := b.Docker("volume", "ls", "-q"); got != "data\n" {
		t.Errorf("volume ls shows %q", got)
	}
	if got := b.Docker("exec", "db", "echo", "inside"); got != "inside\n" {
		t.Errorf("exec prints %q", got)
	}
	if got := b.InStep("echo in | docker exec -i db cat"); got != "in\n" {
		t.Errorf("exec -i prints %q", got)
	}
	if got := b.Docker("top", "db"); !strings.Contains(got, "sleep 1000") {
		t.Errorf("top shows %q", got)
	}
	if got := b.Docker("stats", "--no-stream", "--format", "{{.Name}}"); got != "db\n" {
		t.Errorf("stats shows %q", got)
	}
	b.Docker("rename", "db", "base")
	b.Docker("stop", "-t", "0", "base")
	if got := b.Docker("ps", "-aq"); len(strings.Fields(got)) != 1 {
		t.Errorf("ps -aq shows %q", got)
	}
	b.Docker("rm", "-f", "base")
	if got := b.Docker("container", "ls", "-aq"); got != "" {
		t.Errorf("after rm, ls shows %q", got)
	}
}

func TestTalkByName(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	b.Docker("run", "-d", "--name", "web", "-p", "8080:80", guardtest.Image, "sh", "-c", "mkdir /w && echo page > /w/index.html && httpd -f -p 80 -h /w")
	for _, url := range []string{"http://web/", "http://host.docker.internal:8080/"} {
		out := ""
		ok := eventually(func() bool {
			var err error
			out, err = b.Try("run", "--rm", guardtest.Image, "wget", "-qO-", url)
			return err == nil && out == "page\n"
		})
		if !ok {
			t.Errorf("a sibling gets %q from %s", out, url)
		}
	}
	if out, err := b.TryInStep("wget -qO- http://web/"); out != "page\n" {
		t.Errorf("the step gets %q from web: %v", out, err)
	}
	if out, err := b.TryInStep("docker run --rm --network container:$(hostname) " + guardtest.Image + " wget -qO- http://web/"); out != "page\n" {
		t.Errorf("a container in the step's network gets %q from web: %v", out, err)
	}
	b.Docker("network", "create", "inner")
	b.Docker("run", "-d", "--name", "hidden", "--network", "inner", "--network-alias", "h", "-p", "8081:80", guardtest.Image, "sh", "-c", "mkdir /w && echo deep > /w/index.html && httpd -f -p 80 -h /w")
	for _, url := range []string{"http://hidden/", "http://h/"} {
		out := ""
		ok := eventually(func() bool {
			var err error
			out, err = b.Try("run", "--rm", "--network", "inner", guardtest.Image, "wget", "-qO-", url)
			return err == nil && out == "deep\n"
		})
		if !ok {
			t.Errorf("on the network inner, %s gives %q", url, out)
		}
	}
	if out, err := b.TryInStep("wget -qO- http://$(docker network inspect bridge -f '{{(index .IPAM.Config 0).Gateway}}'):8081/"); out != "deep\n" {
		t.Errorf("the step gets %q from the port that a container on another network publishes: %v", out, err)
	}
	b.Docker("network", "connect", "bridge", "hidden")
	if out, err := b.TryInStep("wget -qO- http://hidden/"); out != "deep\n" {
		t.Errorf("connected to bridge, hidden gives the step %q: %v", out, err)
	}
	b.Docker("network", "disconnect", "bridge", "hidden")
	if out, err := b.Try("network", "disconnect", "bridge", b.Step); err == nil {
		t.Errorf("the step can be cut off: %s", out)
	}
	b.Docker("rm", "-f", "hidden", "web")
	b.Docker("network", "rm", "inner")
}

func TestMounts(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	b.InStep("mkdir -p sub/deep && echo one > sub/file && ln -s sub rel && ln -s /etc abs && ln -s ../../../.. up && ln -s /drone/src/sub own")
	for _, tt := range []struct{ name, script, want, refusal string }{
		{"the workspace", `docker run --rm -v "$PWD:/src" standin/busybox:1 cat /src/sub/file`, "one\n", ""},
		{"a subfolder", `docker run --rm -v "$PWD/sub:/src" standin/busybox:1 cat /src/file`, "one\n", ""},
		{"a file", `docker run --rm -v "$PWD/sub/file:/f" standin/busybox:1 cat /f`, "one\n", ""},
		{"--mount type=bind", `docker run --rm --mount type=bind,source=$PWD/sub,target=/src standin/busybox:1 cat /src/file`, "one\n", ""},
		{"writes", `docker run --rm -v "$PWD/sub:/src" standin/busybox:1 sh -c 'echo two > /src/new' && cat sub/new`, "two\n", ""},
		{"a missing folder is made", `docker run --rm -v "$PWD/n/e/w:/src" standin/busybox:1 touch /src/x && ls n/e/w`, "x\n", ""},
		{"a missing folder isn't made for --mount", `docker run --rm --mount type=bind,source=$PWD/none,target=/src standin/busybox:1 true`, "", "does not exist"},
		{"read-only", `docker run --rm -v "$PWD/sub:/src:ro" standin/busybox:1 sh -c 'touch /src/x || echo no' 2>/dev/null`, "no\n", ""},
		{"a relative link inside", `docker run --rm -v "$PWD/rel:/src" standin/busybox:1 cat /src/file`, "one\n", ""},
		{"an absolute link", `docker run --rm -v "$PWD/abs:/src" standin/busybox:1 ls /src`, "", "leads out"},
		{"a link upwards", `docker run --rm -v "$PWD/up:/src" standin/busybox:1 ls /src`, "", "leads out"},
		{"dots", `docker run --rm -v "$PWD/../..:/src" standin/busybox:1 ls /src`, "", "is refused"},
		{"the root", `docker run --rm -v /:/src standin/busybox:1 ls /src`, "", "is refused"},
		{"the step's own file system", `docker run --rm -v /etc:/src standin/busybox:1 ls /src`, "", "own container"},
		// ps -a: a container's process may run before the daemon calls it running.
		{"the socket", `docker run --rm -v /var/run/docker.sock:/var/run/docker.sock standin/docker:1 docker ps -a --format '{{.Image}}'`, "standin/docker:1\n", ""},
		{"the socket's folder", `docker run --rm -v /var/run:/var/run standin/docker:1 docker ps -a --format '{{.Image}}'`, "standin/docker:1\n", ""},
		{"the socket, spelled oddly", `docker run --rm -v //run/../var/run/docker.sock:/s standin/docker:1 docker -H unix:///s ps -a --format '{{.Image}}'`, "standin/docker:1\n", ""},
		{"volumes of the step", `docker run --rm --volumes-from $(hostname) standin/busybox:1 cat /drone/src/sub/file`, "one\n", ""},
		{"nested", `docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v $PWD/sub:/w standin/docker:1 docker run --rm -v /w:/v standin/busybox:1 cat /v/file`, "one\n", ""},
		{"nested deeper", `echo three > sub/deep/f; docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v $PWD/sub:/w standin/docker:1 docker run --rm -v /w/deep:/v standin/busybox:1 cat /v/f`, "three\n", ""},
		{"nested outside", `docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v $PWD/sub:/w standin/docker:1 docker run --rm -v $PWD:/v standin/busybox:1 ls /v`, "", "own container"},
		{"a device's options", `docker volume create --driver local --opt type=none --opt o=bind --opt device=/etc v`, "", "DriverOpts"},
		{"shared propagation", `docker run --rm -v $PWD:/src:rshared standin/busybox:1 true`, "", "propagate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := b.TryInStep(tt.script)
			if tt.refusal != "" {
				if err == nil || !strings.Contains(out, tt.refusal) {
					t.Errorf("prints %q, want a refusal with %q", out, tt.refusal)
				}
				return
			}
			if err != nil || out != tt.want {
				t.Errorf("prints %q, want %q: %v", out, tt.want, err)
			}
		})
	}
}

// eventually waits until f is true, for as long as a slow machine may need.
func eventually(f func() bool) bool {
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return false
}
