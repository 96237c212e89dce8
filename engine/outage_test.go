//go:build !unit

package engine_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

// wire stands between an engine and the machine's daemon, so that a test can break their
// connections without a daemon of its own.
type wire struct {
	*httptest.Server
	closed chan struct{}

	mu sync.Mutex
	// conns are those to the daemon.
	conns []net.Conn
	// back ends a hold.
	back func()
	// pings is how often it was asked whether the daemon is there.
	pings int
	rule  func(w http.ResponseWriter, r *http.Request) (handled bool)
}

func newWire(t *testing.T) (*wire, *client.Client) {
	t.Helper()
	direct := connect(t)
	w := &wire{closed: make(chan struct{})}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := direct.Dialer()(ctx)
		if err == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.conns = append(w.conns, conn)
		}
		return conn, err
	}}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		Transport:     transport,
	}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		rule := w.rule
		if strings.HasSuffix(r.URL.Path, "/_ping") {
			w.pings++
		}
		w.mu.Unlock()
		if rule == nil || !rule(rw, r) {
			proxy.ServeHTTP(rw, r)
		}
	}))
	c, err := client.NewClientWithOpts(client.WithHost("tcp://"+w.Listener.Addr().String()), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		close(w.closed)
		w.CloseClientConnections()
		w.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, conn := range w.conns {
			// the proxy may keep one whose other end is gone: the daemon doesn't end the stream of
			// a container that never started
			_ = conn.Close()
		}
	})
	return w, c
}

func (w *wire) setRule(rule func(http.ResponseWriter, *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = rule
}

// asked is how often it was asked so far whether the daemon is there.
func (w *wire) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pings
}

// refuse makes every request fail as if nobody listened.
func refuse(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

func TestRunSurvivesACutWait(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, engine.Options{}))
	b.setup()
	s := b.step("step", `trap 'echo two; exit 5' TERM; echo one; while :; do sleep 0.1; done`)
	var out transcript
	waits := 0
	w.setRule(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/wait") {
			return false
		}
		waits++
		if waits == 3 {
			// Nothing is cut any more, and the step may end.
			if err := b.client.ContainerKill(t.Context(), s.ID, "SIGTERM"); err != nil {
				t.Error(err)
			}
			return false
		}
		rw.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(rw).Flush()
		for !strings.Contains(out.String(), "one") && r.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		panic(http.ErrAbortHandler)
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if exit, err := b.prepare(s).Run(ctx, &out, nil); err != nil || exit.Code != 5 || out.String() != "one\ntwo\n" {
		t.Errorf("exit %+v, error %v, output %q", exit, err, out.String())
	}
	if waits != 3 {
		t.Errorf("%d waits, want 3", waits)
	}
}

func TestRunTellsOfADaemonThatWentAway(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, engine.Options{Deadlines: engine.Deadlines{Linger: time.Second}}))
	b.setup()
	var out transcript
	wait := b.background(t.Context(), b.prepare(b.step("step", `echo ready; sleep 1000`)), &out)
	out.waitFor(t, "ready")
	w.setRule(refuse)
	w.CloseClientConnections()
	_, err := wait()
	wantError(t, err, `run step "step"`, "docker daemon", "went away")
	w.setRule(nil)
}

func TestCancelWhileTheDaemonIsAway(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, engine.Options{StopGrace: 10 * time.Millisecond, Deadlines: engine.Deadlines{Linger: 200 * time.Millisecond, Stop: time.Second}}))
	b.setup()
	ctx, cancel := context.WithCancel(t.Context())
	var out transcript
	wait := b.background(ctx, b.prepare(b.step("step", `echo ready; sleep 1000`)), &out)
	out.waitFor(t, "ready")
	w.setRule(func(http.ResponseWriter, *http.Request) bool {
		<-w.closed // the daemon hangs
		return true
	})
	cancel()
	if _, err := wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	w.setRule(nil)
}

func TestConnectTellsWhereItLooked(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///no/such/docker.sock")
	_, err := engine.Connect(t.Context())
	wantError(t, err, "unix:///no/such/docker.sock", "DOCKER_HOST")
	t.Setenv("DOCKER_HOST", "nonsense")
	_, err = engine.Connect(t.Context())
	wantError(t, err, "DOCKER_HOST")
}

func TestSetupWaitsForASubnet(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		times      int
		patience   time.Duration
		want       []string
	}{
		{"one comes back", "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network", 2, patience, nil},
		{"none comes back", "all predefined address pools have been fully subnetted", 1000, 2 * time.Second, []string{"no free subnet left", "docker network prune", "default-address-pools"}},
		{"another failure isn't waited for", "no", 1, patience, []string{"create network", "no"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, c := newWire(t)
			b := newBenchWith(t, connect(t), engine.New(c, engine.Options{Deadlines: engine.Deadlines{Subnet: row.patience}}))
			times := 0
			w.setRule(func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/networks/create") || times == row.times {
					return false
				}
				times++
				rw.Header().Set("Content-Type", "application/json")
				rw.WriteHeader(http.StatusInternalServerError)
				_, _ = rw.Write([]byte(`{"message":"` + row.text + `"}`))
				return true
			})
			err := b.engine.Setup(t.Context(), b.spec)
			if row.want != nil {
				wantError(t, err, append(row.want, b.spec.Network.Name)...)
			} else if err != nil {
				t.Fatal(err)
			}
			if row.times < 1000 && times != row.times {
				t.Errorf("%d calls failed, want %d", times, row.times)
			}
		})
	}
}
