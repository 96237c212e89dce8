// Package enginetest is an engine without Docker: it does what a test's script says of each step,
// writes down in which order it was called, and finds callers that break the contract of
// runtime.Engine. A graph of a hundred steps runs in a millisecond on it, and in no time at all
// within testing/synctest.
//
// The one rule to keep: it is at least as strict as the real engine. What the contract forbids is a
// violation here, even where Docker would bear it.
package enginetest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Script is what one step does. The zero value exits with 0 at once and prints nothing.
type Script struct {
	// FetchDelay is how long Fetch takes; it obeys the context. FetchErr and FetchPanic are what it
	// fails with.
	FetchDelay time.Duration
	FetchErr   error
	FetchPanic any

	// PrepareOutput is written while the step is prepared: the progress of a pull.
	PrepareOutput string
	// PrepareDelay is how long Prepare takes; it obeys the context.
	PrepareDelay time.Duration
	// PrepareErr is what Prepare fails with.
	PrepareErr error
	// PreparePanic is what Prepare panics with.
	PreparePanic any

	// StartDelay is how long the container takes to start.
	StartDelay time.Duration
	// ReadyDelay is how long after its start the container's health check passes, from the call of
	// Ready; ReadyErr is why it doesn't.
	ReadyDelay time.Duration
	ReadyErr   error
	// RunErr is what Run fails with, before the container has started.
	RunErr error
	// RunPanic is what Run panics with, after the output.
	RunPanic any
	// Output is written chunk by chunk, each with one Write.
	Output []string
	// Delay is how long the step runs after its output.
	Delay time.Duration
	// Block runs the step until its context is cancelled.
	Block bool
	// StopDelay is how long it takes to die of a cancelled context, and StopOutput what it still
	// says then.
	StopDelay  time.Duration
	StopOutput string
	// Exit is how it ends when nobody stops it.
	Exit spec.Exit
	// Do, where set, runs after Output and in place of Delay and Block; its error ends the step as
	// RunErr does.
	Do func(ctx context.Context, step *spec.Step, output io.Writer) error
}

// T is what New needs of a testing.TB.
type T interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
}

// Engine implements runtime.Engine in memory. Its fields are set before it is used; its methods may
// be called at any time.
type Engine struct {
	// SetupErr and DestroyErr are what these calls fail with, SetupPanic what Setup panics with.
	SetupErr   error
	SetupPanic any
	DestroyErr error
	// SetupDelay and DestroyDelay are how long these calls take; they obey their contexts.
	SetupDelay   time.Duration
	DestroyDelay time.Duration

	mu         sync.Mutex
	scripts    map[string]Script
	runs       map[string]*run
	events     []string
	violations []string
	running    int
	maximum    int
	env        map[string]map[string]string
	fetches    []string
	fetching   map[string]int // by Spec.ID
}

// run is what the engine knows of one spec.
type run struct {
	ready     bool
	destroyed int
	running   map[string]bool
	prepared  map[string]bool
}

// New is an engine that fails the test, at its end, for every violation of the contract.
func New(t T) *Engine {
	t.Helper()
	e := &Engine{}
	t.Cleanup(func() {
		t.Helper()
		for _, v := range e.Violations() {
			t.Errorf("the engine's contract was violated: %s", v)
		}
	})
	return e
}

// Script sets what the step of that name does, in every spec; a name of the form "spec id/step" is
// for one spec alone. It returns the engine.
func (e *Engine) Script(step string, s Script) *Engine {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.scripts == nil {
		e.scripts = map[string]Script{}
	}
	e.scripts[step] = s
	return e
}

// Events are the calls so far, in order: "setup", "prepare NAME", "start NAME", "end NAME",
// "destroy".
func (e *Engine) Events() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.events)
}

// Started tells whether the step's container was ever started.
func (e *Engine) Started(step string) bool { return slices.Contains(e.Events(), "start "+step) }

// Env is the environment, secrets excluded, that the step was prepared with last; nil when it never
// was.
func (e *Engine) Env(step string) map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.env[step])
}

// MaxRunning is the greatest number of containers that ran at once, services included.
func (e *Engine) MaxRunning() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.maximum
}

// Violations are the breaches of the contract so far, a run without its Destroy among them.
func (e *Engine) Violations() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := slices.Clone(e.violations)
	for _, id := range slices.Sorted(maps.Keys(e.runs)) {
		if e.runs[id].destroyed == 0 {
			out = append(out, fmt.Sprintf("spec %q was set up and never destroyed", id))
		}
	}
	return out
}

// Setup begins the run of a spec.
func (e *Engine) Setup(ctx context.Context, s *spec.Spec) error {
	e.mu.Lock()
	if e.runs == nil {
		e.runs = map[string]*run{}
	}
	e.events = append(e.events, "setup")
	if old := e.runs[s.ID]; old != nil && old.destroyed == 0 {
		e.violate("spec %q was set up twice", s.ID)
	}
	r := &run{running: map[string]bool{}, prepared: map[string]bool{}}
	e.runs[s.ID] = r
	e.mu.Unlock()

	if e.SetupPanic != nil {
		panic(e.SetupPanic)
	}
	if err := wait(ctx, e.SetupDelay); err != nil {
		return fmt.Errorf("set up %q: %w", s.ID, err)
	}
	if e.SetupErr != nil {
		return e.SetupErr
	}
	e.mu.Lock()
	r.ready = true
	e.mu.Unlock()
	return nil
}

// Fetch does what the step's script says.
func (e *Engine) Fetch(ctx context.Context, s *spec.Spec, step *spec.Step) error {
	e.mu.Lock()
	script, ok := e.scripts[s.ID+"/"+step.Name]
	if !ok {
		script = e.scripts[step.Name]
	}
	if r := e.runs[s.ID]; r != nil && r.destroyed > 0 {
		e.violate("the image of step %q was fetched after spec %q was destroyed", step.Name, s.ID)
	}
	if e.fetching == nil {
		e.fetching = map[string]int{}
	}
	e.fetches = append(e.fetches, "fetch "+step.Name)
	e.fetching[s.ID]++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.fetching[s.ID]--
	}()
	if script.FetchPanic != nil {
		panic(script.FetchPanic)
	}
	err := wait(ctx, script.FetchDelay)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.fetches = append(e.fetches, "give up "+step.Name)
		return err
	}
	e.fetches = append(e.fetches, "have "+step.Name)
	return script.FetchErr
}

// Fetches are the calls of Fetch so far, in order: "fetch NAME", and "have NAME" or "give up NAME"
// at its end.
func (e *Engine) Fetches() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.fetches)
}

// Prepare makes a container that does what the step's script says.
func (e *Engine) Prepare(ctx context.Context, s *spec.Spec, step *spec.Step, output io.Writer) (spec.Container, error) {
	e.mu.Lock()
	script, ok := e.scripts[s.ID+"/"+step.Name]
	if !ok {
		script = e.scripts[step.Name]
	}
	e.events = append(e.events, "prepare "+step.Name)
	if e.env == nil {
		e.env = map[string]map[string]string{}
	}
	e.env[step.Name] = maps.Clone(step.Env)
	r := e.runs[s.ID]
	switch {
	case r == nil || !r.ready:
		e.violate("step %q was prepared before spec %q was set up", step.Name, s.ID)
	case r.destroyed > 0:
		e.violate("step %q was prepared after spec %q was destroyed", step.Name, s.ID)
	case r.prepared[step.Name]:
		e.violate("step %q of spec %q was prepared twice", step.Name, s.ID)
	default:
		r.prepared[step.Name] = true
	}
	e.mu.Unlock()

	if script.PreparePanic != nil {
		panic(script.PreparePanic)
	}
	if script.PrepareOutput != "" {
		_, _ = io.WriteString(output, script.PrepareOutput)
	}
	if err := wait(ctx, script.PrepareDelay); err != nil {
		return nil, fmt.Errorf("create container %q: %w", step.Name, err)
	}
	if script.PrepareErr != nil {
		return nil, script.PrepareErr
	}
	return &container{engine: e, spec: s, step: step, script: script}, nil
}

// Destroy ends the run of a spec.
func (e *Engine) Destroy(ctx context.Context, s *spec.Spec) error {
	e.mu.Lock()
	e.events = append(e.events, "destroy")
	if n := e.fetching[s.ID]; n > 0 {
		e.violate("spec %q was destroyed while %d images were fetched", s.ID, n)
	}
	r := e.runs[s.ID]
	if r == nil {
		e.violate("spec %q was destroyed and never set up", s.ID)
	} else {
		if len(r.running) > 0 {
			e.violate("spec %q was destroyed while %s ran", s.ID, strings.Join(slices.Sorted(maps.Keys(r.running)), ", "))
		}
		r.destroyed++
	}
	e.mu.Unlock()
	if err := ctx.Err(); err != nil {
		e.mu.Lock()
		e.violate("spec %q was destroyed with a context that is over", s.ID)
		e.mu.Unlock()
		return fmt.Errorf("destroy %q: %w", s.ID, err)
	}
	if err := wait(ctx, e.DestroyDelay); err != nil {
		return fmt.Errorf("destroy %q: %w", s.ID, err)
	}
	return e.DestroyErr
}

// violate writes down a breach of the contract. The caller holds the lock.
func (e *Engine) violate(format string, args ...any) {
	e.violations = append(e.violations, fmt.Sprintf(format, args...))
}

// container is one prepared step.
type container struct {
	engine *Engine
	spec   *spec.Spec
	step   *spec.Step
	script Script
	// ran and started are guarded by the engine's lock.
	ran, started bool
}

// Run does what the script says.
func (c *container) Run(ctx context.Context, output io.Writer, started func()) (spec.Exit, error) {
	if err := c.begin(); err != nil {
		return spec.Exit{}, err
	}
	defer c.end()

	if err := wait(ctx, c.script.StartDelay); err != nil {
		return spec.Exit{}, fmt.Errorf("start container %q: %w", c.step.Name, err)
	}
	if c.script.RunErr != nil {
		return spec.Exit{}, c.script.RunErr
	}
	if err := ctx.Err(); err != nil {
		return spec.Exit{}, fmt.Errorf("start container %q: %w", c.step.Name, err)
	}
	c.start()
	if started != nil {
		started()
	}
	for _, chunk := range c.script.Output {
		_, _ = io.WriteString(output, chunk)
	}
	if c.script.RunPanic != nil {
		panic(c.script.RunPanic)
	}
	err := c.work(ctx, output)
	if ctx.Err() != nil && err != nil {
		time.Sleep(c.script.StopDelay)
		_, _ = io.WriteString(output, c.script.StopOutput)
	}
	if err != nil {
		return spec.Exit{}, err
	}
	exit := c.script.Exit
	if exit.OOMKilled {
		exit.Code = 137
	}
	return exit, nil
}

// Ready does what the script says.
func (c *container) Ready(ctx context.Context) error {
	e := c.engine
	e.mu.Lock()
	if !c.started {
		e.violate("step %q was asked whether it is ready before it started", c.step.Name)
	}
	over := !e.runs[c.spec.ID].running[c.step.Name]
	e.mu.Unlock()
	if over {
		return spec.ErrEnded
	}
	if c.script.ReadyErr != nil {
		<-ctx.Done()
		return c.script.ReadyErr
	}
	return wait(ctx, c.script.ReadyDelay)
}

// work is the part of a step's life between its output and its end.
func (c *container) work(ctx context.Context, output io.Writer) error {
	switch {
	case c.script.Do != nil:
		return c.script.Do(ctx, c.step, output)
	case c.script.Block:
		<-ctx.Done()
		return ctx.Err()
	default:
		return wait(ctx, c.script.Delay)
	}
}

// begin checks that the container may run.
func (c *container) begin() error {
	e := c.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runs[c.spec.ID]
	switch {
	case r == nil:
		e.violate("step %q was run before spec %q was set up", c.step.Name, c.spec.ID)
		return fmt.Errorf("container %q has no network", c.step.Name)
	case c.ran:
		e.violate("step %q was run twice", c.step.Name)
		return fmt.Errorf("container %q has run already", c.step.Name)
	case r.destroyed > 0:
		e.violate("step %q was run after spec %q was destroyed", c.step.Name, c.spec.ID)
		return fmt.Errorf("container %q is gone", c.step.Name)
	}
	c.ran = true
	r.running[c.step.Name] = true
	return nil
}

// start counts the container as a running one.
func (c *container) start() {
	e := c.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, "start "+c.step.Name)
	e.running++
	e.maximum = max(e.maximum, e.running)
	c.started = true
}

// end counts it as ended.
func (c *container) end() {
	e := c.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.runs[c.spec.ID].running, c.step.Name)
	if c.started {
		e.running--
	}
	e.events = append(e.events, "end "+c.step.Name)
}

// wait waits for d. Its error is the context's and not the cause of it, as with the daemon's
// client.
func wait(ctx context.Context, d time.Duration) error {
	if pause.For(ctx, d) != nil {
		return ctx.Err()
	}
	return nil
}
