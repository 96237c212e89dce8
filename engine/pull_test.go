//go:build !unit

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	registrytypes "github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/client"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// hub is a registry on loopback, which every dockerd takes without TLS, that asks for a password
// and fails as the test wants.
type hub struct {
	*httptest.Server
	client *client.Client
	host   string

	mu        sync.Mutex
	user      string        // "user:password"; empty: open to all
	fail      []int         // statuses of the next requests for a manifest; 0 cuts the connection
	delay     time.Duration // of a manifest
	awaits    func() bool   // unless it is nil, a manifest comes the delay after it is true
	manifests int           // pulls: each looks for the manifest by HEAD first
	all       int           // requests
	closed    chan struct{}
}

func newHub(t *testing.T, c *client.Client) *hub {
	t.Helper()
	h := &hub{client: c, closed: make(chan struct{})}
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, delay := h.fate(r)
		for h.holds(r) {
			time.Sleep(10 * time.Millisecond)
		}
		select {
		case <-time.After(delay):
		case <-h.closed:
		}
		switch status {
		case http.StatusOK:
			images.ServeHTTP(w, r)
		case 0:
			panic(http.ErrAbortHandler)
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
			fallthrough
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"errors":[{"code":"%s","message":"as the test wants"}]}`, strings.ReplaceAll(strings.ToUpper(http.StatusText(status)), " ", ""))
		}
	}))
	t.Cleanup(func() {
		close(h.closed)
		h.Close()
	})
	h.host = strings.TrimPrefix(h.URL, "http://")
	return h
}

// holds tells whether the answer has to wait.
func (h *hub) holds(r *http.Request) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closed:
		return false
	default:
		return h.awaits != nil && strings.Contains(r.URL.Path, "/manifests/") && r.Context().Err() == nil && !h.awaits()
	}
}

func (h *hub) fate(r *http.Request) (status int, delay time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all++
	if user, password, _ := r.BasicAuth(); h.user != "" && user+":"+password != h.user {
		return http.StatusUnauthorized, 0
	}
	if !strings.Contains(r.URL.Path, "/manifests/") || r.Method == http.MethodPut {
		return http.StatusOK, 0
	}
	if r.Method == http.MethodHead {
		h.manifests++
	}
	if len(h.fail) > 0 {
		status, h.fail = h.fail[0], h.fail[1:]
		return status, h.delay
	}
	return http.StatusOK, h.delay
}

// push puts the stand-in into the registry and takes the daemon's copy of it away, if the test
// wants that.
func (h *hub) push(t *testing.T, repository string, keep bool) string {
	t.Helper()
	ref := h.host + "/" + repository
	ctx := t.Context()
	if err := h.client.ImageTag(ctx, "standin/busybox:1", ref); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.untag(context.WithoutCancel(ctx), ref); err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("left behind: image %s: %v", ref, err)
		}
	})
	h.mu.Lock()
	user, password, _ := strings.Cut(h.user, ":")
	h.mu.Unlock()
	auth, err := registrytypes.EncodeAuthConfig(registrytypes.AuthConfig{Username: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	body, err := h.client.ImagePush(ctx, ref, image.PushOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(body)
	if err != nil || strings.Contains(string(answer), `"error"`) {
		t.Fatalf("push: %v, %s", err, answer)
	}
	if !keep {
		if err := h.untag(ctx, ref); err != nil {
			t.Fatal(err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.manifests = 0 // containerd asks for what it is about to push
	return ref
}

func (h *hub) untag(ctx context.Context, ref string) error {
	_, err := h.client.ImageRemove(ctx, ref, image.RemoveOptions{})
	return err
}

func (h *hub) asked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.manifests
}

func TestPullPolicies(t *testing.T) {
	t.Parallel()
	const (
		present, absent = true, false
		asks, doesnt    = true, false
	)
	for _, row := range []struct {
		name   string
		tag    string
		policy spec.PullPolicy
		here   bool
		asks   bool
		err    string
	}{
		{"default, a tag, absent", ":1", spec.PullDefault, absent, asks, ""},
		{"default, a tag, present", ":1", spec.PullDefault, present, doesnt, ""},
		{"default, latest, present", ":latest", spec.PullDefault, present, asks, ""},
		{"default, no tag, present", "", spec.PullDefault, present, asks, ""},
		{"always, present", ":1", spec.PullAlways, present, asks, ""},
		{"if-not-exists, latest, present", ":latest", spec.PullIfNotExists, present, doesnt, ""},
		{"if-not-exists, absent", ":latest", spec.PullIfNotExists, absent, asks, ""},
		{"never, present", ":latest", spec.PullNever, present, doesnt, ""},
		{"never, absent", ":latest", spec.PullNever, absent, doesnt, "pull: never"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, engine.Options{StreamPull: true})
			h := newHub(t, b.client)
			ref := h.push(t, "team/tool"+row.tag, row.here)
			b.setup()
			s := b.step("step", "true", func(s *spec.Step) { s.Image, s.Pull = ref, row.policy })
			var out transcript
			_, err := b.engine.Prepare(t.Context(), b.spec, s, &out)
			switch {
			case row.err != "":
				wantError(t, err, row.err, ref, `"step"`)
			case err != nil:
				t.Fatal(err)
			}
			if asked := h.asked() > 0; asked != row.asks {
				t.Errorf("the registry was asked %d times", h.asked())
			}
			if row.asks {
				if got := out.String(); !strings.Contains(got, "Pulling from team/tool\n") || !strings.Contains(got, "Status: ") {
					t.Errorf("progress:\n%s", got)
				}
			} else if out.String() != "" {
				t.Errorf("it says %q", out.String())
			}
		})
	}
}

func TestPullQuietly(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	h := newHub(t, b.client)
	b.setup()
	ref := h.push(t, "team/tool:1", false)
	var out transcript
	if _, err := b.engine.Prepare(t.Context(), b.spec, b.step("step", "true", func(s *spec.Step) { s.Image = ref }), &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "" {
		t.Errorf("it says %q", out.String())
	}
}

func TestPullWithCredentials(t *testing.T) {
	t.Parallel()
	good := &spec.Auth{Address: "https://127.0.0.1/v1/", Username: "jane", Password: "s3cret"}
	for _, row := range []struct {
		name string
		auth *spec.Auth
		want []string
	}{
		{"the right ones", good, nil},
		{"wrong ones", &spec.Auth{Username: "jane", Password: "wr0ng"}, []string{"refused the credentials", `"jane"`, "image_pull_secrets", "DRONE_DOCKER_CONFIG"}},
		{"none", nil, []string{"wants credentials and none are given", "image_pull_secrets", "DRONE_DOCKER_CONFIG"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, engine.Options{})
			h := newHub(t, b.client)
			h.user = "jane:s3cret"
			ref := h.push(t, "team/private:1", false)
			b.setup()
			s := b.step("step", "echo ran", func(s *spec.Step) { s.Image, s.Auth = ref, row.auth })
			if row.want == nil {
				if got := b.passes(s); got != "ran\n" {
					t.Errorf("output %q", got)
				}
				return
			}
			var out transcript
			_, err := b.engine.Prepare(t.Context(), b.spec, s, &out)
			wantError(t, err, append(row.want, ref, h.host)...)
			if strings.Contains(err.Error()+out.String(), "wr0ng") {
				t.Errorf("it tells the password: %v", err)
			}
			if strings.Contains(out.String(), "next try") {
				t.Errorf("wrong credentials are tried again: %s", out.String())
			}
		})
	}
}

func TestPullThatFailsForAWhile(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		fail []int // more than one for each try: the daemon asks by HEAD, and then by GET
	}{
		{"500", []int{500, 500, 500, 500}},
		{"503 and a cut connection", []int{503, 503, 0, 0}},
		{"429", []int{429, 429, 429, 429, 429, 429}}, // containerd asks six times by itself
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, engine.Options{Pull: engine.PullOptions{Interval: 10 * time.Millisecond}})
			h := newHub(t, b.client)
			ref := h.push(t, "team/tool:1", false)
			h.mu.Lock()
			h.fail = row.fail
			h.mu.Unlock()
			b.setup()
			var out transcript
			_, err := b.engine.Prepare(t.Context(), b.spec, b.step("step", "true", func(s *spec.Step) { s.Image = ref }), &out)
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			t.Log(out.String())
			if !strings.Contains(out.String(), "warning: pull of "+ref+" failed, next try in") {
				t.Errorf("it says %q", out.String())
			}
		})
	}
}

func TestPullOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	h := newHub(t, b.client)
	h.push(t, "team/tool:1", false)
	b.setup()
	for _, row := range []struct {
		name, image string
		want        []string
	}{
		{"no such tag", h.host + "/team/tool:2", []string{"team/tool:2", "doesn't have it"}},
		{"no such repository", h.host + "/nobody/nothing:1", []string{"nobody/nothing:1", h.host}},
		{"no reference", "Team/Tool:a b", []string{`"Team/Tool:a b"`, "no image reference"}},
		{"empty", "", []string{"no image reference"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out transcript
			_, err := b.engine.Prepare(t.Context(), b.spec, b.step(fmt.Sprintf("step%d", len(b.spec.Steps)), "true", func(s *spec.Step) { s.Image = row.image }), &out)
			wantError(t, err, row.want...)
			if strings.Contains(out.String(), "next try") {
				t.Errorf("it is tried again: %s", out.String())
			}
		})
	}
}

func TestPullFromARegistryThatIsGone(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		policy spec.PullPolicy
		here   bool
		want   []string // nil: it works, with a warning
	}{
		{"default falls back to the local copy", spec.PullDefault, true, nil},
		{"default without a local copy", spec.PullDefault, false, []string{"can't be reached", "no copy of it"}},
		{"always, asked for by name", spec.PullAlways, true, []string{"can't be reached"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, engine.Options{Pull: engine.PullOptions{Retries: 1, Interval: 10 * time.Millisecond}})
			h := newHub(t, b.client)
			ref := h.push(t, "team/tool:latest", row.here)
			h.Close()
			b.setup()
			var out transcript
			_, err := b.engine.Prepare(t.Context(), b.spec, b.step("step", "true", func(s *spec.Step) { s.Image, s.Pull = ref, row.policy }), &out)
			t.Log(out.String())
			if row.want != nil {
				wantError(t, err, append(row.want, ref, h.host)...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := out.String(); !strings.Contains(got, "warning: pull image "+ref) || !strings.Contains(got, "this machine's copy") {
				t.Errorf("it says %q", got)
			}
		})
	}
}

func TestPullsOfOneImageAreOnePull(t *testing.T) {
	t.Parallel()
	const steps = 10
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, engine.Options{StreamPull: true}))
	h := newHub(t, b.client)
	ref := h.push(t, "team/tool:1", false)
	b.setup()
	// Each step asks for its container first, and for the image when there is none.
	var asked atomic.Int32
	w.setRule(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/containers/create") {
			asked.Add(1)
		}
		return false
	})
	h.mu.Lock()
	h.delay, h.awaits = time.Second, func() bool { return asked.Load() >= steps }
	h.mu.Unlock()
	var all sync.WaitGroup
	for i := range steps {
		s := b.step(fmt.Sprintf("step%d", i), "true", func(s *spec.Step) { s.Image = ref })
		all.Go(func() {
			var out transcript
			if _, err := b.engine.Prepare(t.Context(), b.spec, s, &out); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
			if !strings.Contains(out.String(), "Status: ") {
				t.Errorf("%s sees no progress: %q", s.Name, out.String())
			}
		})
	}
	all.Wait()
	if h.asked() != 1 {
		t.Errorf("the registry was asked %d times", h.asked())
	}
}

func TestPullCancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	h := newHub(t, b.client)
	ref := h.push(t, "team/tool:1", false)
	h.mu.Lock()
	h.delay = time.Minute
	h.mu.Unlock()
	b.setup()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := b.engine.Prepare(ctx, b.spec, b.step("step", "true", func(s *spec.Step) { s.Image = ref }), nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestPullThatStalls(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{Pull: engine.PullOptions{Retries: -1, Stall: 300 * time.Millisecond}})
	h := newHub(t, b.client)
	ref := h.push(t, "team/tool:1", false)
	h.mu.Lock()
	h.delay = time.Minute
	h.mu.Unlock()
	b.setup()
	_, err := b.engine.Prepare(t.Context(), b.spec, b.step("step", "true", func(s *spec.Step) { s.Image = ref }), nil)
	wantError(t, err, "stalled", ref, h.host)
}

func TestPullForAnotherPlatform(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	h := newHub(t, b.client)
	b.spec.Platform = spec.Platform{OS: "linux", Arch: "s390x"}
	ref := h.push(t, "team/tool:1", true)
	b.setup()
	_, err := b.engine.Prepare(t.Context(), b.spec, b.step("step", "true", func(s *spec.Step) { s.Image, s.Pull = ref, spec.PullNever }), nil)
	wantError(t, err, ref, "linux/s390x", "pull: never")
}
