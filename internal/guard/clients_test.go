//go:build !unit

package guard_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// Real clients through the guard. clients_docker_test.go has the docker command line,
// clients_compose_test.go compose, clients_buildx_test.go buildx, clients_testcontainers_test.go
// Testcontainers, clients_two_test.go two stages at once. docs/guard.md has the table that these
// make true.

// clientFolder is where scripts/clients has put what this machine need not have.
func clientFolder(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../scripts/clients")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("get the clients: %v\n%s", err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// install puts files into the step's container, with the libraries that they may be linked to.
func install(b *guardtest.Build, folder string, files ...string) {
	b.Host("cp", filepath.Join(folder, "libraries")+"/.", b.Step+":/")
	for _, f := range files {
		b.Host("cp", filepath.Join(folder, f), b.Step+":/usr/local/bin/"+filepath.Base(f))
	}
}

// plugins makes commands of docker's out of installed files.
func plugins(b *guardtest.Build, names ...string) {
	for _, n := range names {
		b.InStep("mkdir -p ~/.docker/cli-plugins && ln -s /usr/local/bin/docker-" + n + " ~/.docker/cli-plugins/")
	}
}

// loopbackRegistry is a registry that the daemon reaches.
func loopbackRegistry(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// scripts is a table of shell scripts that run, in their order, in the step of one stage.
type script struct {
	name, run string
	// want is what it prints, between blanks; "*" is anything. A script that should fail has fails
	// in its output instead.
	want, fails string
}

// play runs scripts. What is in braces is replaced.
func play(t *testing.T, b *guardtest.Build, in words, table []script) {
	t.Helper()
	for _, s := range table {
		t.Run(s.name, func(t *testing.T) {
			out, err := b.TryInStep("set -e; " + in.in(s.run))
			got := strings.Join(strings.Fields(out), " ")
			switch {
			case s.fails != "":
				if err == nil || !strings.Contains(out, in.in(s.fails)) {
					t.Errorf("%s\nprints %q (%v), want a failure with %q", s.run, out, err, s.fails)
				}
			case err != nil || s.want != "*" && got != in.in(s.want):
				t.Errorf("%s\nprints %q, want %q: %v", s.run, got, in.in(s.want), err)
			}
		})
	}
}

// pipe runs the docker command line of this machine through the guard with an input.
func pipe(ctx context.Context, b *guardtest.Build, in io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+b.Socket)
	cmd.Stdin = in
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// terminal runs a command line through the guard on a terminal of its own.
func terminal(ctx context.Context, b *guardtest.Build, input, line string) (string, error) {
	cmd := exec.CommandContext(ctx, "script", "-qec", line, "/dev/null")
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+b.Socket, "TERM=dumb")
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
