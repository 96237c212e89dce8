//go:build !unit

package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// runner is an engine with a cache that many builds use.
type runner struct {
	client  *client.Client
	engine  *engine.Docker
	ledger  *cache.Ledger
	bench   *bench
	mu      sync.Mutex
	origins []engine.ImageOrigin
}

func newRunner(t *testing.T, state string, change ...func(*engine.Options)) *runner {
	t.Helper()
	r := &runner{client: connect(t), ledger: cache.Open(state, logrus.StandardLogger())}
	o := engine.Options{
		Pull: engine.PullOptions{Retries: -1}, Access: cache.NewAccess(r.client, r.ledger), Ledger: r.ledger,
		Origin: func(o engine.ImageOrigin) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.origins = append(r.origins, o)
		},
	}
	for _, c := range change {
		c(&o)
	}
	r.engine = engine.New(r.client, o)
	return r
}

// tries prepares a step of that image. Who may have an image is a matter of the step's credentials,
// not of its build, so one network does for all.
func (r *runner) tries(t *testing.T, ref string, auth *spec.Auth, policy spec.PullPolicy) (said string, err error) {
	t.Helper()
	if r.bench == nil {
		r.bench = newBenchWith(t, r.client, r.engine)
		r.bench.setup()
	}
	var out transcript
	s := r.bench.step(fmt.Sprintf("step%d", len(r.bench.spec.Steps)), "true", func(s *spec.Step) { s.Image, s.Auth, s.Pull = ref, auth, policy })
	_, err = r.engine.Prepare(t.Context(), r.bench.spec, s, &out)
	return out.String(), err
}

func (h *hub) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all
}

// A private image that one build has pulled is for those builds whose credentials could pull it.
func TestPrivateImagesOfOthers(t *testing.T) {
	jane := &spec.Auth{Username: "jane", Password: "s3cret"}
	mallory := &spec.Auth{Username: "mallory", Password: "guess"}
	state := t.TempDir()
	r := newRunner(t, state)
	h := newHub(t, r.client)
	h.user = "jane:s3cret"
	ref := h.push(t, "team/private:1", false)
	if _, err := r.tries(t, ref, jane, ""); err != nil {
		t.Fatalf("the owner: %v", err)
	}
	stolen := func(how string, ref string) {
		t.Helper()
		for _, row := range []struct {
			who    string
			auth   *spec.Auth
			policy spec.PullPolicy
		}{
			{"nobody", nil, ""}, {"nobody", nil, spec.PullIfNotExists}, {"nobody", nil, spec.PullNever}, {"mallory", mallory, ""},
			{"mallory", mallory, spec.PullNever}, {"mallory", mallory, spec.PullAlways},
		} {
			out, err := r.tries(t, ref, row.auth, row.policy)
			if err == nil {
				t.Errorf("%s: %s with pull %q has the image:\n%s", how, row.who, row.policy, out)
				continue
			}
			wantError(t, err, ref)
			if strings.Contains(err.Error()+out, "guess") {
				t.Errorf("it tells the password: %v", err)
			}
		}
	}
	stolen("by tag", ref)
	in, err := r.client.ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	digest := in.RepoDigests[slices.IndexFunc(in.RepoDigests, func(d string) bool { return strings.HasPrefix(d, h.host) })]
	stolen("by digest", digest)

	// The owner goes on, without a question each time.
	before := h.requests()
	for range 3 {
		if _, err := r.tries(t, ref, jane, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.requests() - before; n > 0 {
		t.Errorf("the registry was asked %d times for what was known", n)
	}
	// Another life of the runner asks again, and lets the owner have it without a pull.
	r = newRunner(t, state)
	if _, err := r.tries(t, ref, jane, spec.PullNever); err != nil {
		t.Errorf("the owner after a restart: %v", err)
	}
	h.Close()
	if _, err := r.tries(t, ref, jane, ""); err != nil {
		t.Errorf("the owner, without the registry: %v", err)
	}
	stolen("without the registry", ref)
}

// What everybody may have costs no question, and is there when the registry isn't.
func TestPublicImagesStayFast(t *testing.T) {
	state := t.TempDir()
	r := newRunner(t, state)
	h := newHub(t, r.client)
	ref := h.push(t, "team/public:1", false)
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() { r.ledger.Run(ctx) })
	if _, err := r.tries(t, ref, nil, ""); err != nil {
		t.Fatal(err)
	}
	before := h.requests()
	for range 3 {
		if _, err := r.tries(t, ref, nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	writing.Wait()
	again := newRunner(t, state)
	if _, err := again.tries(t, ref, &spec.Auth{Username: "somebody", Password: "else"}, ""); err != nil {
		t.Errorf("with credentials, after a restart: %v", err)
	}
	if n := h.requests() - before; n > 0 {
		t.Errorf("the registry was asked %d times", n)
	}
	h.Close()
	if _, err := again.tries(t, ref, nil, ""); err != nil {
		t.Errorf("without the registry: %v", err)
	}
	in, err := r.client.ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if again.ledger.ImageUse(in.ID).IsZero() {
		t.Error("nobody has noted that the image is used")
	}
	want := []engine.ImageOrigin{engine.ImagePulled, engine.ImageCached, engine.ImageCached, engine.ImageCached}
	if !slices.Equal(r.origins, want) {
		t.Errorf("origins %q, want %q", r.origins, want)
	}
}

// An image without a registry is the operator's, who shares it: no registry of that name is asked.
func TestLocalImagesAreShared(t *testing.T) {
	r := newRunner(t, t.TempDir())
	if _, err := r.tries(t, "standin/busybox:1", nil, ""); err != nil {
		t.Fatal(err)
	}
	h := newHub(t, r.client)
	h.user = "jane:s3cret"
	named := "standin/of-the-operator:1"
	ref := h.push(t, "team/private:1", true)
	if err := r.client.ImageTag(t.Context(), ref, named); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := r.client.ImageRemove(context.WithoutCancel(t.Context()), named, image.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.tries(t, named, nil, spec.PullNever); err != nil {
		t.Errorf("a name that the operator gave: %v", err)
	}
	if _, err := r.tries(t, ref, nil, spec.PullNever); err == nil {
		t.Error("the same image by its private name is for everybody")
	}
}

func TestFallback(t *testing.T) {
	for _, row := range []struct {
		fallback engine.Fallback
		works    map[spec.PullPolicy]bool
	}{
		{engine.FallbackDefault, map[spec.PullPolicy]bool{spec.PullDefault: true, spec.PullAlways: false}},
		{engine.FallbackAlways, map[spec.PullPolicy]bool{spec.PullDefault: true, spec.PullAlways: true}},
		{engine.FallbackNever, map[spec.PullPolicy]bool{spec.PullDefault: false, spec.PullAlways: false}},
	} {
		t.Run(fmt.Sprintf("%q", row.fallback), func(t *testing.T) {
			r := newRunner(t, t.TempDir(), func(o *engine.Options) { o.Pull.Fallback = row.fallback })
			h := newHub(t, r.client)
			ref := h.push(t, "team/tool:latest", false)
			if _, err := r.tries(t, ref, nil, ""); err != nil {
				t.Fatal(err)
			}
			h.Close()
			for policy, works := range row.works {
				out, err := r.tries(t, ref, nil, policy)
				switch {
				case !works:
					wantError(t, err, ref, "can't be reached")
				case err != nil:
					t.Errorf("pull %q: %v", policy, err)
				case !strings.Contains(out, "this machine's copy"):
					t.Errorf("pull %q: it says %q", policy, out)
				}
			}
		})
	}
}

// Steps of many builds that want an image at once share one pull.
func TestPullsOfManyBuildsAreOnePull(t *testing.T) {
	t.Parallel()
	const builds = 4
	r := newRunner(t, t.TempDir())
	h := newHub(t, r.client)
	ref := h.push(t, "team/tool:1", false)
	h.mu.Lock()
	h.delay = time.Second
	h.mu.Unlock()
	var steps []func() error
	for range builds {
		b := newBenchWith(t, r.client, r.engine)
		b.setup()
		s := b.step("step", "true", func(s *spec.Step) { s.Image = ref })
		steps = append(steps, func() error {
			_, err := r.engine.Prepare(t.Context(), b.spec, s, nil)
			return err
		})
	}
	var all sync.WaitGroup
	for _, step := range steps {
		all.Go(func() {
			if err := step(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if h.asked() != 1 {
		t.Errorf("the registry was asked %d times", h.asked())
	}
}
