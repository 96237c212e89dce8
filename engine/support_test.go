//go:build !unit

package engine_test

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// patience is how long a test waits for something that should take seconds.
const patience = 5 * time.Minute

// connect is a client of the machine's daemon.
func connect(tb testing.TB) *client.Client {
	tb.Helper()
	standin.Image(tb, "busybox")
	c, err := engine.Connect(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// bench is an engine, a spec, and the proof at the end that nothing of the spec is left in the
// daemon.
type bench struct {
	testing.TB
	client *client.Client
	engine *engine.Docker
	spec   *spec.Spec
}

func newBench(tb testing.TB, o engine.Options) *bench {
	tb.Helper()
	c := connect(tb)
	return newBenchWith(tb, c, engine.New(c, o))
}

func newBenchWith(tb testing.TB, c *client.Client, d *engine.Docker) *bench {
	tb.Helper()
	id := "test-" + strings.ToLower(rand.Text()[:12])
	b := &bench{TB: tb, client: c, engine: d, spec: &spec.Spec{
		ID:      id,
		Name:    tb.Name(),
		Labels:  map[string]string{"io.drone": "true"},
		Network: spec.Network{Name: id},
	}}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
		defer cancel()
		if err := d.Destroy(ctx, b.spec); err != nil {
			tb.Errorf("destroy: %v", err)
		}
		if left := b.left(ctx); len(left) > 0 {
			tb.Errorf("left behind: %q", left)
		}
	})
	return b
}

// in is the same bench, for a subtest.
func (b *bench) in(t *testing.T) *bench {
	c := *b
	c.TB = t
	return &c
}

// left are the objects of the spec that the daemon has, by label and by name.
func (b *bench) left(ctx context.Context) []string {
	b.Helper()
	var out []string
	label := filters.NewArgs(filters.Arg("label", spec.LabelSpec+"="+b.spec.ID))
	byName := filters.NewArgs(filters.Arg("name", b.spec.ID))
	seen := map[string]bool{}
	add := func(what string) {
		if !seen[what] {
			seen[what] = true
			out = append(out, what)
		}
	}
	for _, f := range []filters.Args{label, byName} {
		containers, err := b.client.ContainerList(ctx, container.ListOptions{All: true, Filters: f})
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range containers {
			add("container " + strings.Join(c.Names, " "))
		}
		networks, err := b.client.NetworkList(ctx, network.ListOptions{Filters: f})
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range networks {
			add("network " + n.Name)
		}
		volumes, err := b.client.VolumeList(ctx, volume.ListOptions{Filters: f})
		if err != nil {
			b.Fatal(err)
		}
		for _, v := range volumes.Volumes {
			if v.Labels[spec.LabelPersistent] == "" {
				add("volume " + v.Name)
			}
		}
	}
	return out
}

// step adds a step that runs a shell script.
func (b *bench) step(name, script string, change ...func(*spec.Step)) *spec.Step {
	s := &spec.Step{
		ID:         b.spec.ID + "-" + name,
		Name:       name,
		Number:     len(b.spec.Steps) + 1,
		Image:      "standin/busybox:1",
		Entrypoint: []string{"/bin/sh", "-c"},
		Command:    []string{script},
	}
	for _, c := range change {
		c(s)
	}
	b.spec.Steps = append(b.spec.Steps, s)
	return s
}

// volume adds a volume.
func (b *bench) volume(name string, kind spec.VolumeKind, change ...func(*spec.Volume)) *spec.Volume {
	v := &spec.Volume{Name: name, Kind: kind, ID: b.spec.ID + "-" + name}
	for _, c := range change {
		c(v)
	}
	b.spec.Volumes = append(b.spec.Volumes, v)
	return v
}

func (b *bench) setup() {
	b.Helper()
	if err := b.engine.Setup(b.Context(), b.spec); err != nil {
		b.Fatalf("setup: %v", err)
	}
}

// prepare prepares a step, and fails the test if that fails.
func (b *bench) prepare(s *spec.Step) spec.Container {
	b.Helper()
	var said transcript
	c, err := b.engine.Prepare(b.Context(), b.spec, s, &said)
	if err != nil {
		b.Fatalf("prepare: %v\n%s", err, said.String())
	}
	return c
}

// run prepares and runs a step to its end and returns what it wrote.
func (b *bench) run(s *spec.Step) (spec.Exit, string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	var out transcript
	exit, err := b.prepare(s).Run(ctx, &out, nil)
	if err != nil {
		b.Fatalf("run %s: %v\n%s", s.Name, err, out.String())
	}
	return exit, out.String()
}

// passes runs a step that must end with 0, and returns what it wrote.
func (b *bench) passes(s *spec.Step) string {
	b.Helper()
	exit, out := b.run(s)
	if exit.Code != 0 {
		b.Fatalf("step %s ended with %d:\n%s", s.Name, exit.Code, out)
	}
	return out
}

// background runs a step and gives a function that waits for its end, once the daemon has started
// it.
func (b *bench) background(ctx context.Context, c spec.Container, out *transcript) (wait func() (spec.Exit, error)) {
	b.Helper()
	type result struct {
		exit spec.Exit
		err  error
	}
	results, started := make(chan result, 1), make(chan struct{})
	go func() {
		exit, err := c.Run(ctx, out, func() { close(started) })
		results <- result{exit, err}
	}()
	select {
	case <-started:
	case r := <-results:
		b.Fatalf("it didn't start: %v", r.err)
	}
	return func() (spec.Exit, error) {
		r := <-results
		return r.exit, r.err
	}
}

// transcript is a buffer that may be read while it is written.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// waitFor waits until the transcript contains text.
func (t *transcript) waitFor(tb testing.TB, text string) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(t.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("no %q came in %s:\n%s", text, patience, t.String())
		}
	}
}

// says tells whether an error says all of the texts.
func says(err error, texts ...string) bool {
	return err != nil && !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(err.Error(), text) })
}

// wantError checks that an error says all of the texts.
func wantError(tb testing.TB, err error, texts ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, where one should say %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			tb.Errorf("the error doesn't say %q: %v", text, err)
		}
	}
	tb.Logf("%v", err)
}
