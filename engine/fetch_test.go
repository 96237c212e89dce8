//go:build !unit

package engine_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

func TestFetch(t *testing.T) {
	t.Parallel()
	const (
		present, absent = true, false
		other, none     = true, false
	)
	for _, row := range []struct {
		name   string
		tag    string
		policy spec.PullPolicy
		here   bool
		ran    bool // another step ends between the fetch and the step
		gone   bool // so does the registry
		asked  int  // pulls
		warns  bool
	}{
		{"absent", ":1", spec.PullDefault, absent, none, false, 1, false},
		{"absent, latest", ":latest", spec.PullDefault, absent, none, false, 1, false},
		{"absent, always", ":1", spec.PullAlways, absent, none, false, 1, false},
		{"a step may have pushed it since", ":1", spec.PullIfNotExists, absent, other, false, 2, false},
		{"the same, latest", ":latest", spec.PullDefault, absent, other, false, 2, false},
		{"the same, and the registry is gone", ":1", spec.PullDefault, absent, other, true, 1, true},
		{"present", ":1", spec.PullDefault, present, none, false, 0, false},
		{"present, latest", ":latest", spec.PullDefault, present, none, false, 1, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, engine.Options{Pull: engine.PullOptions{Retries: -1}})
			h := newHub(t, b.client)
			ref := h.push(t, "team/tool"+row.tag, row.here)
			b.setup()
			s := b.step("step", "true", func(s *spec.Step) { s.Image, s.Pull = ref, row.policy })
			if err := b.engine.Fetch(t.Context(), b.spec, s); err != nil {
				t.Fatal(err)
			}
			if row.ran {
				b.passes(b.step("other", "true"))
			}
			if row.gone {
				h.CloseClientConnections()
				h.Listener.Close()
			}
			var out transcript
			if _, err := b.engine.Prepare(t.Context(), b.spec, s, &out); err != nil {
				t.Fatal(err)
			}
			if h.asked() != row.asked {
				t.Errorf("%d pulls, want %d", h.asked(), row.asked)
			}
			if warns := strings.Contains(out.String(), "warning: "); warns != row.warns {
				t.Errorf("it says %q", out.String())
			}
		})
	}
	t.Run("never", func(t *testing.T) {
		b := newBench(t, engine.Options{})
		h := newHub(t, b.client)
		ref := h.push(t, "team/tool:1", absent)
		b.setup()
		s := b.step("step", "true", func(s *spec.Step) { s.Image, s.Pull = ref, spec.PullNever })
		if err := b.engine.Fetch(t.Context(), b.spec, s); err != nil || h.asked() != 0 {
			t.Errorf("%d pulls, %v", h.asked(), err)
		}
	})
}

// A step whose turn comes while its image is fetched joins the pull, and its log has all of it.
func TestPrepareJoinsFetch(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{StreamPull: true})
	h := newHub(t, b.client)
	ref := h.push(t, "team/tool:latest", false)
	began := make(chan struct{})
	h.mu.Lock()
	var once sync.Once
	prepared := make(chan struct{})
	h.awaits = func() bool {
		once.Do(func() { close(began) })
		select {
		case <-prepared:
			return true
		default:
			return false
		}
	}
	h.mu.Unlock()
	b.setup()
	s := b.step("step", "true", func(s *spec.Step) { s.Image = ref })
	var fetching sync.WaitGroup
	fetching.Go(func() {
		if err := b.engine.Fetch(t.Context(), b.spec, s); err != nil {
			t.Error(err)
		}
	})
	<-began
	// the sooner, the less is joined; it passes either way
	time.AfterFunc(200*time.Millisecond, func() { close(prepared) })
	var out transcript
	if _, err := b.engine.Prepare(t.Context(), b.spec, s, &out); err != nil {
		t.Fatal(err)
	}
	fetching.Wait()
	if h.asked() != 1 || !strings.Contains(out.String(), "Status: ") {
		t.Errorf("%d pulls, and the log is %q", h.asked(), out.String())
	}
}
