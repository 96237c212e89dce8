// Package guardtest makes builds with a guard on the machine's own docker daemon, for tests: a
// network, a workspace volume, a step container that holds the guard's socket, and the guard.
//
// The one rule to keep: whatever a test does through the guard, or around it with the build's
// labels, is gone when the test ends, and nothing else is touched.
package guardtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
)

// Daemon is the socket of the machine's docker daemon.
const Daemon = "/var/run/docker.sock"

// OwnerLabel is the label of a build's objects.
const OwnerLabel = "io.drone-runner-sysbox.spec"

// Image is a small image that is there: scripts/standins makes it. DockerImage has the docker CLI
// as well.
const (
	Image       = "standin/busybox:1"
	DockerImage = "standin/docker:1"
)

// WorkDir is where the step has its workspace.
const WorkDir = "/drone/src"

// Build is a build with one step.
type Build struct {
	ID string
	// Socket is the guard's.
	Socket string
	// Daemon is the socket of the docker daemon.
	Daemon string
	// Workspace is the name of the workspace volume in the daemon, Step the full id of the step's
	// container, Network the name of the network.
	Workspace, Step, Network string
	Guard                    *guard.Guard
	Labels                   map[string]string

	t testing.TB
}

// Start makes a build and its guard. change may alter the guard's options before it is made.
func Start(t testing.TB, change ...func(*guard.Options)) *Build {
	t.Helper()
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	id := "drone-" + hex.EncodeToString(random)
	// The path of a unix socket is short (unix(7)), so t.TempDir won't do.
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		t.Fatal(err)
	}
	b := &Build{ID: id, Network: id, Workspace: id + "-workspace", Socket: filepath.Join(dir, "socket", "docker.sock"), Labels: map[string]string{OwnerLabel: id, "guardtest": "1"}, t: t}
	o := guard.Options{
		ID: id, Labels: b.Labels, OwnerLabel: OwnerLabel, Network: b.Network, Daemon: Daemon,
		Socket: b.Socket, SocketDir: filepath.Dir(b.Socket), MountDir: filepath.Join(dir, "mounts"),
	}
	for _, f := range change {
		f(&o)
	}
	b.Daemon = o.Daemon
	if err := os.Mkdir(filepath.Dir(b.Socket), 0o755); err != nil {
		t.Fatal(err)
	}
	label := "--label=" + OwnerLabel + "=" + id
	b.Host("network", "create", label, b.Network)
	t.Cleanup(func() { b.clean(dir) })
	b.Host("volume", "create", label, b.Workspace)

	if b.Guard, err = guard.New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", b.Socket)
	if err != nil {
		t.Fatal(err)
	}
	b.Serve(l, b.Guard.Serve)
	b.Step = strings.TrimSpace(b.Host("run", "-d", "--init", label, "--name", id+"-1", "--network", b.Network, "--network-alias", "step", "-e", "STEP_SECRET=of-the-step",
		"-v", b.Workspace+":"+WorkDir, "-v", b.Socket+":/var/run/docker.sock", "-w", WorkDir, DockerImage, "sleep", "100000"))
	return b
}

// Serve has the guard answer at l, as serve does it (one of the guard's own methods), until the
// test ends, and the guard with it.
func (b *Build) Serve(l net.Listener, serve func(context.Context, net.Listener) error) {
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := serve(context.Background(), l); err != nil { // ends with Close
			b.t.Errorf("serve the guard: %v", err)
		}
	})
	b.t.Cleanup(func() {
		if err := b.Guard.Close(); err != nil {
			b.t.Errorf("close the guard: %v", err)
		}
		serving.Wait()
	})
}

// clean removes all of the stage's, by label.
func (b *Build) clean(dir string) {
	made := b.images()
	defer b.forget(made)
	if err := (guard.Released{Daemon: b.Daemon, OwnerLabel: OwnerLabel, ID: b.ID}).Release(context.Background()); err != nil {
		b.t.Errorf("release the build's image names: %v", err)
	}
	label := "label=" + OwnerLabel + "=" + b.ID
	for _, kind := range []struct{ list, remove []string }{
		{[]string{"ps", "-aq"}, []string{"rm", "-fv"}},
		{[]string{"network", "ls", "-q"}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q"}, []string{"volume", "rm", "-f"}},
	} {
		out, err := run(b.Daemon, append(kind.list, "--filter", label)...)
		if err != nil {
			b.t.Errorf("list what is left: %v\n%s", err, out)
		}
		if ids := strings.Fields(out); len(ids) > 0 {
			if out, err := run(b.Daemon, append(kind.remove, ids...)...); err != nil {
				b.t.Errorf("remove what is left: %v\n%s", err, out)
			}
		}
	}
	if b.Guard != nil {
		if err := b.Guard.Unmount(); err != nil {
			b.t.Errorf("undo the guard's mounts: %v", err)
		}
	}
	// Not os.RemoveAll: should a mount have stayed, it's the daemon's data that is below.
	_ = os.Remove(b.Socket)
	_ = os.Remove(filepath.Dir(b.Socket))
	if err := os.Remove(dir); err != nil {
		b.t.Errorf("remove the guard's folder: %v", err)
	}
}

// images lists the ids of those that the build has given names to.
func (b *Build) images() []string {
	out, err := run(b.Daemon, "images", "-q", "--no-trunc", "--filter", "reference="+b.ID+".build.invalid/*", "--filter", "reference="+b.ID+".build.invalid/*/*",
		"--filter", "reference="+b.ID+".build.invalid/*/*/*")
	if err != nil {
		b.t.Errorf("list the build's images: %v\n%s", err, out)
	}
	return strings.Fields(out)
}

// forget removes images that nothing but the cache has a name for any more. In production they
// stay, as the cache of later builds.
func (b *Build) forget(ids []string) {
	for _, id := range ids {
		out, err := run(b.Daemon, "image", "inspect", "-f", `{{join .RepoTags " "}}`, id)
		tags := strings.Fields(out)
		if err != nil || slices.ContainsFunc(tags, func(tag string) bool { return !strings.HasPrefix(tag, "cache.build.invalid/") }) {
			continue // it has gone, or others have it too
		}
		if len(tags) == 0 {
			tags = []string{id}
		}
		_, _ = run(b.Daemon, append([]string{"rmi"}, tags...)...) // another image may be built upon it
	}
}

func run(host string, args ...string) (string, error) {
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+host)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		return out.String() + errs.String(), fmt.Errorf("docker %s: %w", strings.Join(args, " "), err)
	}
	return out.String(), nil
}

// Host runs the docker CLI against the daemon itself, and fails the test if it fails.
func (b *Build) Host(args ...string) string {
	b.t.Helper()
	out, err := run(b.Daemon, args...)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// ContainerdStore reports whether the daemon keeps its images with containerd, as a new one of
// Docker 29 does unless it's told otherwise.
func (b *Build) ContainerdStore() bool {
	b.t.Helper()
	return strings.Contains(b.Host("info", "--format", "{{json .DriverStatus}}"), `"io.containerd.snapshotter.v1"`)
}

// TryHost is Host for a command that may fail.
func (b *Build) TryHost(args ...string) (string, error) { return run(b.Daemon, args...) }

// Try runs the docker CLI of this machine through the guard; the output has the error text if it
// fails.
func (b *Build) Try(args ...string) (string, error) { return run(b.Socket, args...) }

// Docker is Try, and fails the test if the command fails.
func (b *Build) Docker(args ...string) string {
	b.t.Helper()
	out, err := b.Try(args...)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// TryInStep runs a shell command in the step's container, where docker finds the guard: what it
// mounts is what the step has.
func (b *Build) TryInStep(script string) (string, error) {
	return run(b.Daemon, "exec", b.Step, "sh", "-c", script)
}

// InStep is TryInStep, and fails the test if the command fails.
func (b *Build) InStep(script string) string {
	b.t.Helper()
	out, err := b.TryInStep(script)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// Client speaks HTTP to a unix socket. It keeps no connection open.
func Client(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
}

// Answer is what a request got.
type Answer struct {
	Status  int
	Body    string
	Message string // of an error
	Header  http.Header
}

// Request sends a request through the guard. A body that is a string or bytes is sent as it is,
// anything else as JSON.
func (b *Build) Request(method, path string, body any) Answer {
	b.t.Helper()
	a, err := Send(b.Socket, method, path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// Send sends a request to a socket, the guard's or the daemon's.
func Send(socket, method, path string, body any) (Answer, error) {
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(v)
	case []byte:
		r = bytes.NewReader(v)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return Answer{}, err
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://docker"+path, r)
	if err != nil {
		return Answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := Client(socket).Do(req)
	if err != nil {
		return Answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	a := Answer{Status: resp.StatusCode, Body: string(text), Header: resp.Header}
	var m struct{ Message string }
	if json.Unmarshal(text, &m) == nil {
		a.Message = m.Message
	}
	return a, err
}
