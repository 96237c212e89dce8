//go:build !unit

package engine_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// hang makes the daemon answer nothing until goOn, as one that is stopped. What it is asked
// meanwhile it does then.
func (w *wire) hang() { w.hold("", true) }

// delayAt makes it carry out the calls whose path ends so when goOn is called. met is closed when
// there is one.
func (w *wire) delayAt(suffix string) (met <-chan struct{}) { return w.hold(suffix, true) }

// hangAt makes it never answer the calls whose path ends so.
func (w *wire) hangAt(suffix string) { w.hold(suffix, false) }

func (w *wire) hold(suffix string, later bool) (met <-chan struct{}) {
	back, first := make(chan struct{}), make(chan struct{})
	meet := sync.OnceFunc(func() { close(first) })
	w.mu.Lock()
	w.back = func() { close(back) }
	w.mu.Unlock()
	w.setRule(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, suffix) {
			return false
		}
		meet()
		select {
		case <-back:
			return !later
		case <-w.closed:
		case <-r.Context().Done():
		}
		return true
	})
	return first
}

// goOn ends it.
func (w *wire) goOn() {
	w.setRule(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.back()
}

// hanging are options of an engine whose daemon may answer nothing for ten seconds: a slow one
// answers within these.
func hanging(change func(*engine.Deadlines)) engine.Options {
	o := engine.Options{StopGrace: 10 * time.Millisecond}
	o.Deadlines.Hang = 10 * time.Second
	if change != nil {
		change(&o.Deadlines)
	}
	return o
}

func TestRunGivesUpADaemonThatHangs(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, hanging(func(d *engine.Deadlines) { d.Linger = 200 * time.Millisecond })))
	b.setup()
	var out transcript
	wait := b.background(t.Context(), b.prepare(b.step("step", `echo ready; sleep 1000`)), &out)
	out.waitFor(t, "ready")
	w.hang()
	_, err := wait()
	wantError(t, err, `run step "step"`, "the docker daemon hasn't answered for 10s", "while the step ran")
	w.goOn()
}

func TestRunSurvivesADaemonThatHangsForAWhile(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, hanging(func(d *engine.Deadlines) { d.Hang = patience })))
	b.setup()
	var out transcript
	wait := b.background(t.Context(), b.prepare(b.step("step", `echo ready; sleep 3; echo on; exit 5`)), &out)
	out.waitFor(t, "ready")
	w.hang()
	time.Sleep(2 * time.Second)
	w.goOn()
	if exit, err := wait(); err != nil || exit.Code != 5 || out.String() != "ready\non\n" {
		t.Errorf("exit %+v, error %v, output %q", exit, err, out.String())
	}
}

// Each call that the daemon doesn't answer ends with an error that says so.
func TestCallsHaveDeadlines(t *testing.T) {
	t.Parallel()
	const short = 300 * time.Millisecond
	for _, row := range []struct {
		name, path string
		change     func(*engine.Deadlines)
		// do is what is tried, after a setup unless bare.
		do   func(b *bench) error
		bare bool
		want string
	}{
		{"a network", "/networks/create", func(d *engine.Deadlines) { d.Network = short }, func(b *bench) error { return b.engine.Setup(b.Context(), b.spec) }, true, "create network"},
		{"a volume", "/volumes/create", func(d *engine.Deadlines) { d.Volume = short }, func(b *bench) error {
			b.volume("data", spec.VolumeTemp)
			return b.engine.Setup(b.Context(), b.spec)
		}, true, "create volume"},
		{"a container", "/containers/create", func(d *engine.Deadlines) { d.Create = short }, func(b *bench) error {
			_, err := b.engine.Prepare(b.Context(), b.spec, b.step("a", "true"), nil)
			return err
		}, false, "create container"},
		{"an attach", "/attach", func(d *engine.Deadlines) { d.Create = 10 * time.Second }, func(b *bench) error {
			_, err := b.engine.Prepare(b.Context(), b.spec, b.step("a", "true"), nil)
			return err
		}, false, "attach to container"},
		{"a start", "/start", func(d *engine.Deadlines) { d.Start = short }, func(b *bench) error {
			_, err := b.prepare(b.step("a", "true")).Run(b.Context(), nil, nil)
			return err
		}, false, "start container"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w, c := newWire(t)
			b := newBenchWith(t, connect(t), engine.New(c, hanging(row.change)))
			if !row.bare {
				b.setup()
			}
			w.hangAt(row.path)
			err := row.do(b)
			w.goOn()
			wantError(t, err, row.want, "the docker daemon hasn't answered within")
		})
	}
}

// What hangs before the wait is registered hangs the run no longer than anything else.
func TestRunGivesUpAWaitThatIsNeverAnswered(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, hanging(nil)))
	b.setup()
	prepared := b.prepare(b.step("step", "true"))
	w.hang()
	_, err := prepared.Run(t.Context(), nil, nil)
	w.goOn()
	wantError(t, err, `run step "step"`, "the docker daemon hasn't answered for 10s")
}

func TestPullGivesUpADaemonThatHangs(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, hanging(nil)))
	b.setup()
	w.hang()
	_, err := b.engine.Prepare(t.Context(), b.spec, b.step("step", "true", func(s *spec.Step) { s.Pull = spec.PullAlways }), nil)
	w.goOn()
	wantError(t, err, "pull image", "the docker daemon hasn't answered for 10s")
}

// Destroy goes on when the daemon is back, and tells what is wrong if it isn't in time.
func TestDestroyWaitsForTheDaemon(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		gone, back func(*wire)
	}{
		{"that is restarted", func(w *wire) { w.setRule(refuse) }, func(w *wire) { w.setRule(nil) }},
		{"that hangs", (*wire).hang, (*wire).goOn},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w, c := newWire(t)
			b := newBenchWith(t, connect(t), engine.New(c, hanging(func(d *engine.Deadlines) { d.Inspect, d.Remove = 5*time.Second, 5*time.Second })))
			b.volume("data", spec.VolumeTemp)
			b.setup()
			b.prepare(b.step("step", "true"))
			row.gone(w)
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			wantError(t, b.engine.Destroy(ctx, b.spec), b.spec.ID)
			asked := w.asked()
			destroyed := make(chan error, 1)
			go func() { destroyed <- b.engine.Destroy(t.Context(), b.spec) }()
			// One attempt, and then the question whether the daemon is there.
			for deadline := time.Now().Add(patience); w.asked() == asked && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
			select {
			case err := <-destroyed:
				t.Errorf("it has ended: %v", err)
			default:
				row.back(w)
				if err := <-destroyed; err != nil {
					t.Error(err)
				}
			}
			if left := b.left(t.Context()); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// What the daemon makes although nobody waits for it any more, after a cancel or a deadline, is
// gone when Destroy returns.
func TestDestroyWaitsForWhatIsBeingMade(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, path string
		// do is what is tried, after a setup unless bare.
		do   func(ctx context.Context, b *bench) error
		bare bool
		// limit is the deadline of the call.
		limit func(*engine.Deadlines) *time.Duration
	}{
		{"a network", "/networks/create", func(ctx context.Context, b *bench) error { return b.engine.Setup(ctx, b.spec) }, true, func(d *engine.Deadlines) *time.Duration { return &d.Network }},
		{"a volume", "/volumes/create", func(ctx context.Context, b *bench) error {
			b.volume("data", spec.VolumeTemp)
			return b.engine.Setup(ctx, b.spec)
		}, true, func(d *engine.Deadlines) *time.Duration { return &d.Volume }},
		{"a container", "/containers/create", func(ctx context.Context, b *bench) error {
			_, err := b.engine.Prepare(ctx, b.spec, b.step("a", "true"), nil)
			return err
		}, false, func(d *engine.Deadlines) *time.Duration { return &d.Create }},
	} {
		for _, late := range []bool{false, true} {
			name := row.name + " of a run that was cancelled"
			if late {
				name = row.name + " that takes too long"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w, c := newWire(t)
				b := newBenchWith(t, connect(t), engine.New(c, hanging(func(d *engine.Deadlines) {
					if late {
						*row.limit(d) = time.Second
					}
				})))
				if !row.bare {
					b.setup()
				}
				met := w.delayAt(row.path)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if !late {
					go func() {
						select {
						case <-met:
						case <-t.Context().Done():
						}
						cancel()
					}()
				}
				err := row.do(ctx, b)
				if late {
					wantError(t, err, "the docker daemon hasn't answered within 1s")
				} else if !errors.Is(err, context.Canceled) {
					t.Errorf("error %v", err)
				}
				destroyed := make(chan error, 1)
				go func() { destroyed <- b.engine.Destroy(t.Context(), b.spec) }()
				time.Sleep(500 * time.Millisecond)
				select {
				case err := <-destroyed:
					t.Errorf("it has ended: %v", err)
					w.goOn()
				default:
					w.goOn()
					if err := <-destroyed; err != nil {
						t.Error(err)
					}
				}
				if left := b.left(t.Context()); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			})
		}
	}
}

// A daemon that never gets done with something holds Destroy up no longer than its context. The
// containers that there are go at once, and the rest with the next try.
func TestDestroyGivesUpWhatIsBeingMade(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, hanging(nil)))
	b.volume("data", spec.VolumeTemp)
	b.setup()
	b.prepare(b.step("a", "true"))
	met := w.delayAt("/containers/create")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		select {
		case <-met:
		case <-t.Context().Done():
		}
		cancel()
	}()
	if _, err := b.engine.Prepare(ctx, b.spec, b.step("b", "true"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	wantError(t, b.engine.Destroy(ctx, b.spec), b.spec.ID, "still making", "deadline")
	if left := b.left(t.Context()); slices.ContainsFunc(left, func(object string) bool { return strings.HasPrefix(object, "container ") }) {
		t.Errorf("left: %q", left)
	}
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil {
		t.Error(err)
	}
}
