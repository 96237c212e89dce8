//go:build !unit

package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	docker "github.com/docker/docker/client"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// world is a runner as a process, the server that it works for, a registry, a git server, and a
// docker daemon that it may share with other worlds. Each of them can hold what it is asked for, so
// that builds stand still in the phase that a fault shall meet.
type world struct {
	*mortal
	daemon *guardtest.OwnDaemon
	docker *docker.Client
	// shared is a folder that all steps see as /shared.
	shared string
	// released is closed when nothing is held any more.
	released chan struct{}
	wire     *holder
	registry *hub
	git      *holdable
	// checked is an image with a health check: /shared/healthy.
	checked string
	// disarm ends the faults of the server, each one.
	disarm []func()
}

// calm ends the faults of the server.
func (w *world) calm() {
	for _, end := range w.disarm {
		end()
	}
}

// matrixImages are what builds of the matrix run.
var matrixImages = []string{"standin/busybox:1", "standin/git:1"}

// newWorld makes one. env is the runner's.
func newWorld(t *testing.T, daemon *guardtest.OwnDaemon, checked string, env ...string) *world {
	t.Helper()
	c, err := docker.NewClientWithOpts(docker.WithHost("unix://"+daemon.Socket), docker.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	w := &world{daemon: daemon, docker: c, shared: t.TempDir(), released: make(chan struct{}), checked: checked}
	if err := os.Chmod(w.shared, 0o777); err != nil {
		t.Fatal(err)
	}
	w.wire = newHolder(t, c)
	w.registry = newHub(t, w)
	w.git = newGit(t, w)
	w.mortal = newMortal(t, rpctest.NewServer(t), append([]string{
		"DOCKER_HOST=unix://" + w.wire.socket, "DRONE_RUNNER_CAPACITY=6", "DRONE_RUNNER_VOLUMES=" + w.shared + ":/shared",
		"DRONE_RUNNER_REAP_INTERVAL=0", // Builds clean up after themselves.
	}, env...)...)
	return w
}

// release lets everything go on that is held.
func (w *world) release(t testing.TB) {
	t.Helper()
	close(w.released)
	w.touch(t, "healthy")
	w.touch(t, "go")
}

func (w *world) touch(t testing.TB, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.shared, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// left are the objects of the world's runner in its daemon.
func (w *world) left(t testing.TB) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	with := filters.NewArgs(filters.Arg("label", spec.LabelRunner+"="+w.name))
	var out []string
	containers, err := w.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: with})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		out = append(out, "container "+strings.Join(c.Names, " "))
	}
	networks, err := w.docker.NetworkList(ctx, network.ListOptions{Filters: with})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		out = append(out, "network "+n.Name)
	}
	volumes, err := w.docker.VolumeList(ctx, volume.ListOptions{Filters: with})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Volumes {
		out = append(out, "volume "+v.Name)
	}
	return out
}

// networkOf is the id of a run's network.
func (w *world) networkOf(t testing.TB, s string) string {
	t.Helper()
	found, err := w.docker.NetworkList(t.Context(), network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", spec.LabelSpec+"="+s))})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d networks of the run %s: %v", len(found), s, err)
	}
	return found[0].ID
}

// bridge is where containers reach what listens in the daemon's network namespace.
func (w *world) bridge(t testing.TB) string {
	t.Helper()
	n, err := w.docker.NetworkInspect(t.Context(), "bridge", network.InspectOptions{})
	if err != nil || len(n.IPAM.Config) == 0 {
		t.Fatalf("the daemon's bridge: %+v, %v", n.IPAM, err)
	}
	if gateway := n.IPAM.Config[0].Gateway; gateway != "" {
		return gateway
	}
	ip, _, err := net.ParseCIDR(n.IPAM.Config[0].Subnet)
	if err != nil {
		t.Fatal(err)
	}
	ip = ip.To4()
	ip[3]++
	return ip.String()
}

// dockerOn makes a call of the docker command to a daemon, and is what it prints.
func dockerOn(t testing.TB, socket string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", append([]string{"--host=unix://" + socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// holder stands between a runner and its daemon and holds the removal of chosen networks.
type holder struct {
	socket string

	mu   sync.Mutex
	held map[string]<-chan struct{} // by the id of the network
	met  map[string]bool
}

func newHolder(t *testing.T, c *docker.Client) *holder {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &holder{socket: filepath.Join(dir, "docker.sock"), held: map[string]<-chan struct{}{}, met: map[string]bool{}}
	listener, err := net.Listen("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dialer()(ctx) }}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		Transport:     transport,
		ErrorLog:      log.New(io.Discard, "", 0),
		// As if there were nothing in between.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			h.hold(r)
		}
		proxy.ServeHTTP(rw, r)
	})}}
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return h
}

// on holds the removal of a network until the end of until.
func (h *holder) on(id string, until <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[id] = until
}

// holds tells whether somebody waits for the removal.
func (h *holder) holds(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.met[id]
}

func (h *holder) hold(r *http.Request) {
	id := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	h.mu.Lock()
	until := h.held[id]
	h.met[id] = until != nil
	h.mu.Unlock()
	if until == nil {
		return
	}
	select {
	case <-until:
	case <-r.Context().Done():
	}
}

// holdable is a server in the daemon's network namespace that holds what it is asked for.
type holdable struct {
	*httptest.Server
	port string
	met  chan struct{} // closed at the first request that is held

	mu   sync.Mutex
	down bool
	once sync.Once
}

// serveHeld makes one; holds tells what to hold.
func serveHeld(t *testing.T, w *world, holds func(*http.Request) bool, then http.Handler) *holdable {
	t.Helper()
	h := &holdable{met: make(chan struct{})}
	listener := w.daemon.Listen(t, "0.0.0.0:0")
	_, h.port, _ = net.SplitHostPort(listener.Addr().String())
	h.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if holds(r) {
			h.once.Do(func() { close(h.met) })
			select {
			case <-w.released:
			case <-r.Context().Done():
			}
		}
		h.mu.Lock()
		down := h.down
		h.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		then.ServeHTTP(rw, r)
	})}}
	h.Start()
	t.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
	})
	return h
}

// setDown makes it cut every connection, or answer again.
func (h *holdable) setDown(down bool) {
	h.mu.Lock()
	h.down = down
	h.mu.Unlock()
	if down {
		h.CloseClientConnections()
	}
}

// hub is a registry with one image, whose manifest it holds.
type hub struct {
	*holdable
	image string
}

func newHub(t *testing.T, w *world) *hub {
	t.Helper()
	var holding sync.Map // has "yes" once the image is there
	h := &hub{holdable: serveHeld(t, w, func(r *http.Request) bool {
		_, ok := holding.Load("yes")
		return ok && strings.Contains(r.URL.Path, "/manifests/")
	}, registry.New(registry.Logger(log.New(io.Discard, "", 0))))}
	h.image = "127.0.0.1:" + h.port + "/octo/lab:1"
	dockerOn(t, w.daemon.Socket, "tag", matrixImages[0], h.image)
	dockerOn(t, w.daemon.Socket, "push", "-q", h.image)
	dockerOn(t, w.daemon.Socket, "rmi", h.image)
	holding.Store("yes", nil)
	return h
}

// newGit serves a repository, and holds every request.
func newGit(t *testing.T, w *world) *holdable {
	t.Helper()
	root, work := t.TempDir(), folder(t, map[string]string{"tracked.txt": "from the repository\n"})
	git(t, work, "init", "-q")
	git(t, work, "add", ".")
	git(t, work, "commit", "-q", "-m", "first")
	git(t, root, "clone", "-q", "--bare", work, filepath.Join(root, "octo", "lab.git"))
	return serveHeld(t, w, func(*http.Request) bool { return true }, &cgi.Handler{
		Path:   filepath.Join(git(t, root, "--exec-path"), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		Stderr: os.Stderr,
	})
}

// checkedImage makes an image whose health check waits for /shared/healthy.
func checkedImage(t *testing.T, daemon *guardtest.OwnDaemon) string {
	t.Helper()
	const ref = "matrix/checked:1"
	id := dockerOn(t, daemon.Socket, "create", matrixImages[0])
	dockerOn(t, daemon.Socket, "commit", "-c", "HEALTHCHECK CMD test -e /shared/healthy", id, ref)
	dockerOn(t, daemon.Socket, "rm", id)
	return ref
}

// String is for messages.
func (w *world) String() string { return fmt.Sprintf("runner %s\n%s", w.name, w.stderr) }
