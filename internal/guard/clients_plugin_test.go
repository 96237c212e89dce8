//go:build !unit

package guard_test

import (
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// imagesOnly opens a build's guard to a client that may make images alone, and is the docker
// command line there.
func imagesOnly(t *testing.T, b *guardtest.Build) (docker func(args ...string) (string, error), socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	b.Serve(l, b.Guard.ServeImages)
	return func(args ...string) (string, error) {
		cmd := exec.Command("docker", args...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "DOCKER_BUILDKIT=0", "DOCKER_CONFIG="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}, socket
}

func TestPluginBuildsAndPushes(t *testing.T) {
	b := guardtest.Start(t)
	docker, _ := imagesOnly(t, b)
	hub := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(hub.Close)
	name := strings.TrimPrefix(hub.URL, "http://") + "/octo/app"
	context := t.TempDir()
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM "+guardtest.Image+"\nRUN echo made >/made\nCMD cat /made\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Host("rmi", name+":1") })
	for _, args := range [][]string{
		{"version"}, {"info"},
		{"build", "-t", "lab:1", "--label", "a=b", context},
		{"tag", "lab:1", name + ":1"},
		{"push", name + ":1"},
		{"inspect", name + ":1"},
		{"history", name + ":1"},
		{"images"},
		{"rmi", name + ":1"},
		{"pull", name + ":1"},
		{"system", "prune", "-f", "--volumes"},
	} {
		if out, err := docker(args...); err != nil {
			t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	// The build's other clients have what the plugin made: one stage, one set of names.
	if out := b.Docker("run", "--rm", "lab:1"); out != "made\n" {
		t.Errorf("the image that a plugin built prints %q", out)
	}
	b.Docker("volume", "create", "kept")
	if out, err := docker("system", "prune", "-f", "--volumes"); err != nil || strings.Contains(out, "kept") {
		t.Errorf("a plugin's prune took what it doesn't see: %v\n%s", err, out)
	}
	b.Docker("volume", "inspect", "kept")
}

func TestPluginBuildsWithBuildKit(t *testing.T) {
	b := guardtest.Start(t)
	_, socket := imagesOnly(t, b)
	cmd := exec.Command("docker", "buildx", "build", "-t", "lab:1", "-")
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+clientFolder(t), "BUILDX_CONFIG="+t.TempDir())
	cmd.Stdin = strings.NewReader("FROM " + guardtest.Image + "\nRUN echo made >/made\nCMD cat /made\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out := b.Docker("run", "--rm", "lab:1"); out != "made\n" {
		t.Errorf("the image that a plugin built prints %q", out)
	}
}

func TestPluginDoesNothingElse(t *testing.T) {
	b := guardtest.Start(t)
	docker, socket := imagesOnly(t, b)
	running := strings.TrimSpace(b.Docker("run", "-d", "--name", "other", guardtest.Image, "sleep", "100"))
	for _, args := range [][]string{
		{"run", "--rm", guardtest.Image, "true"},
		{"create", guardtest.Image},
		{"ps"}, {"logs", running}, {"exec", running, "true"}, {"cp", running + ":/etc/passwd", "-"}, {"rm", "-f", running}, {"commit", running},
		{"export", running}, {"attach", running}, {"stop", running}, {"inspect", running},
		{"volume", "create", "v"}, {"volume", "ls"}, {"network", "create", "n"}, {"network", "ls"}, {"network", "inspect", "bridge"},
		{"save", guardtest.Image}, {"import", "/dev/null"}, {"load", "-i", "/dev/null"},
		{"swarm", "init"}, {"plugin", "ls"},
	} {
		out, err := docker(args...)
		says := []string{"build, tag, pull and push", "an import", "o such container", "o such network", "o such object"}
		if err == nil || !slices.ContainsFunc(says, func(s string) bool { return strings.Contains(out, s) }) {
			t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	for _, path := range []string{"/v1.41/containers/create", "//containers/create", "/containers/create/", "/images/../containers/create", "/images/%2e%2e/containers/create"} {
		if got, err := guardtest.Send(socket, "POST", path, map[string]string{"Image": guardtest.Image}); err != nil || got.Status < 400 {
			t.Errorf("POST %s: %+v %v", path, got, err)
		}
	}
	if out := b.Docker("ps", "-q", "--no-trunc"); strings.TrimSpace(out) != running {
		t.Errorf("containers now: %s", out)
	}
}
