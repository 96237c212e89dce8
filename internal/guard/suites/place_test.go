//go:build !unit

package suites

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// place is where a suite runs: on a daemon of its own, which answers at a plain socket or behind a
// guard.
type place struct {
	*guardtest.OwnDaemon
	name string
	// socket is where Docker answers, on this machine; step a container in which it answers at
	// /var/run/docker.sock.
	socket, step string
	// clients is the folder of scripts/clients.
	clients string
}

// image is what the calls run. It has no labels, as images of a registry may have.
const image = "busybox:1"

// servers are images that stand in for those that can't be pulled.
var servers = []struct{ image, port, says string }{
	{"nginx:latest", "80", "start worker process"},
	{"nginx:alpine", "80", "start worker process"},
	{"redis:latest", "6379", "Ready to accept connections"},
}

// ryukImage is what Testcontainers for Go v0.40.0 runs as its reaper.
const ryukImage = "testcontainers/ryuk:0.13.0"

// newPlace starts a daemon with the images that suites need. Only these are in it, for all of its
// life.
func newPlace(t *testing.T, name, clients string) *place {
	t.Helper()
	p := &place{OwnDaemon: guardtest.NewOwnDaemon(t, guardtest.DaemonOptions{}), name: name, clients: clients}
	p.Load(t, guardtest.Image, guardtest.DockerImage)
	export := "c=$(docker create %s true); docker export $c | docker import %s - %s; docker rm $c"
	p.shell(t, fmt.Sprintf(export, guardtest.Image, "-c 'CMD [\"sh\"]'", image))
	for _, tag := range []string{"busybox:latest", "alpine:latest", "alpine:3.10", "bash:5.2.26"} {
		p.shell(t, "docker tag "+image+" "+tag)
	}
	for _, s := range servers {
		p.shell(t, fmt.Sprintf("printf 'FROM %s\\nCOPY server /\\nENV SERVER_PORT=%s SERVER_SAYS=\"%s\"\\nEXPOSE %s\\nENTRYPOINT [\"/server\"]\\n' | docker build -q -t %s -f - %s",
			image, s.port, s.says, s.port, s.image, filepath.Join(clients)))
	}
	p.shell(t, fmt.Sprintf(`tar -C %s -c ryuk | docker import -c 'CMD ["/ryuk"]' -c 'EXPOSE 8080' - %s`, clients, ryukImage))
	return p
}

// plain is a place without a guard.
func plain(t *testing.T, clients string) *place {
	p := newPlace(t, "plain", clients)
	p.socket = p.Socket
	p.step = p.shell(t, "docker network create step >&2; docker run -d --init --network step --network-alias step -v step:"+guardtest.WorkDir+" -w "+guardtest.WorkDir+
		" -v "+p.Socket+":/var/run/docker.sock "+guardtest.DockerImage+" sleep 100000")
	return p
}

// guarded is a place behind a guard.
func guarded(t *testing.T, clients string) *place {
	p := newPlace(t, "guard", clients)
	b := guardtest.Start(t, func(o *guard.Options) { o.Daemon = p.Socket })
	p.socket, p.step = b.Socket, b.Step
	return p
}

// shell runs a script against the daemon itself, and fails the test if it fails.
func (p *place) shell(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+p.Socket, "DOCKER_BUILDKIT=0")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", script, err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// onMachine runs a command beside the daemon, with DOCKER_HOST set, and returns all that it prints.
// It may fail: what it prints says what did.
func (p *place) onMachine(ctx context.Context, env []string, name string, args ...string) []byte {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + p.Netns, name}, args...)...)
	cmd.Env = append(append(os.Environ(), "DOCKER_HOST=unix://"+p.socket), env...)
	out, err := cmd.CombinedOutput()
	return fmt.Appendf(out, "\n%s: %v\n", name, err)
}

// inStep runs a script in the step.
func (p *place) inStep(ctx context.Context, script string) []byte {
	cmd := exec.CommandContext(ctx, "docker", "exec", p.step, "sh", "-c", script)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+p.Socket)
	out, err := cmd.CombinedOutput()
	return fmt.Appendf(out, "\nthe step: %v\n", err)
}

// toStep copies a file or a folder into the step's workspace.
func (p *place) toStep(t *testing.T, path string) {
	t.Helper()
	p.shell(t, "docker cp "+path+" "+p.step+":"+guardtest.WorkDir+"/")
}
