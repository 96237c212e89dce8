package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// queue is a server's queue: what it answers to the nth request.
type queue struct {
	answer func(ctx context.Context, n int) (*drone.Stage, error)

	mu    sync.Mutex
	times []time.Time
	polls atomic.Int32
}

func (q *queue) Request(ctx context.Context, _ *client.Filter) (*drone.Stage, error) {
	if q.polls.Add(1) > 1 {
		panic("two polls at once")
	}
	defer q.polls.Add(-1)
	q.mu.Lock()
	q.times = append(q.times, time.Now())
	n := len(q.times)
	q.mu.Unlock()
	return q.answer(ctx, n)
}

// since are the moments of the requests, from the first.
func (q *queue) since() []time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []time.Duration
	for _, at := range q.times {
		out = append(out, at.Sub(q.times[0]))
	}
	return out
}

// holds is an empty answer after the server's 30 s.
func holds(ctx context.Context) (*drone.Stage, error) {
	if pause.For(ctx, 30*time.Second) != nil {
		return nil, ctx.Err()
	}
	return nil, nil
}

// poll runs a poller for so long, on synctest's clock.
func poll(t *testing.T, d time.Duration, p *Poller) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if p.Dispatch == nil {
		p.Dispatch = func(context.Context, *drone.Stage, func()) error { return nil }
	}
	if p.Log == nil {
		p.Log = quiet()
	}
	p.Run(ctx, t.Context())
}

func TestPollerAsksAgainAtOnceAfterAnEmptyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{answer: func(ctx context.Context, _ int) (*drone.Stage, error) { return holds(ctx) }}
		poll(t, 5*time.Minute-time.Second, &Poller{Client: q, Capacity: 2})
		for i, at := range q.since() {
			if want := time.Duration(i) * 30 * time.Second; at != want {
				t.Errorf("poll %d came after %s, want %s", i, at, want)
			}
		}
		if n := len(q.since()); n != 10 {
			t.Errorf("%d polls in 5 minutes, want 10", n)
		}
	})
}

func TestPollerWithAWrongSecretAsksAFewTimesAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := logrus.New()
		logger.SetOutput(&log)
		refused := fmt.Errorf("request a stage: %w: http://drone.example.com answered 401", rpc.ErrUnauthorized)
		q := &queue{answer: func(context.Context, int) (*drone.Stage, error) { return nil, refused }}
		poll(t, time.Hour, &Poller{Client: q, Log: logger})
		if n := len(q.since()); n < 60 || n > 180 {
			t.Errorf("%d polls in an hour", n)
		}
		if text := log.String(); !strings.Contains(text, "DRONE_RPC_SECRET is wrong") || !strings.Contains(text, "drone.example.com") {
			t.Errorf("the log says %.200q", text)
		}
	})
}

func TestPollerBacksOff(t *testing.T) {
	for name, failure := range map[string]error{
		"a server that is away":           errors.New("connection refused"),
		"a server that fails":             errors.New("500 Internal Server Error"),
		"an answer that makes no sense":   errors.New("unexpected end of JSON input"),
		"a client that panics":            nil,
		"a server that says it timed out": context.DeadlineExceeded,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &queue{answer: func(context.Context, int) (*drone.Stage, error) {
					if failure == nil {
						panic("index out of range")
					}
					return nil, failure
				}}
				poll(t, 10*time.Minute, &Poller{Client: q})
				at := q.since()
				if at[1] < 250*time.Millisecond || at[1] > 750*time.Millisecond {
					t.Errorf("the first pause was %s, want about half a second", at[1])
				}
				if n := len(at); n < 200 || n > 400 {
					t.Errorf("%d polls in 10 minutes", n)
				}
				for i := 1; i < len(at); i++ {
					if pause := at[i] - at[i-1]; pause > 3*time.Second {
						t.Errorf("pause %d was %s", i, pause)
					}
				}
			})
		})
	}
}

// TestPollerWaitsForThePlace holds that nothing is asked for while stages can't be run.
func TestPollerWaitsForThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{answer: func(ctx context.Context, _ int) (*drone.Stage, error) { return holds(ctx) }}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		began := time.Now()
		(&Poller{Client: q, Wait: func(ctx context.Context) error {
			if since := time.Since(began); since < time.Minute {
				return pause.For(ctx, time.Minute-since)
			}
			if time.Since(began) > 3*time.Minute {
				return errors.New("it never will be")
			}
			return nil
		}}).Run(ctx, t.Context())
		if first := q.times[0].Sub(began); first != time.Minute || len(q.times) != 5 {
			t.Errorf("%d requests, the first after %s", len(q.times), first)
		}
	})
}

func TestPollerForgetsItsPausesAfterAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{answer: func(ctx context.Context, n int) (*drone.Stage, error) {
			if n == 20 {
				return holds(ctx)
			}
			return nil, errors.New("away")
		}}
		poll(t, 20*time.Minute, &Poller{Client: q})
		at := q.since()
		if pause := at[21] - at[20]; pause > time.Second {
			t.Errorf("the pause after an answer was %s", pause)
		}
	})
}

func TestPollerDoesntSpinOnEmptyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{answer: func(context.Context, int) (*drone.Stage, error) { return nil, nil }}
		poll(t, time.Minute, &Poller{Client: q})
		if n := len(q.since()); n > 100 {
			t.Errorf("%d polls in a minute", n)
		}
	})
}

func TestPollerObeysItsContextAtOnce(t *testing.T) {
	for name, answer := range map[string]func(context.Context, int) (*drone.Stage, error){
		"in a poll":  func(ctx context.Context, _ int) (*drone.Stage, error) { return holds(ctx) },
		"in a pause": func(context.Context, int) (*drone.Stage, error) { return nil, rpc.ErrUnauthorized },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				poll(t, 10*time.Second, &Poller{Client: &queue{answer: answer}})
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestPollerNeverExceedsItsCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := int64(0)
		q := &queue{answer: func(context.Context, int) (*drone.Stage, error) {
			next++
			return &drone.Stage{ID: next}, nil
		}}
		var at, most, all atomic.Int32
		poll(t, time.Minute, &Poller{Client: q, Capacity: 3, Dispatch: func(context.Context, *drone.Stage, func()) error {
			most.Store(max(most.Load(), at.Add(1)))
			time.Sleep(10 * time.Second)
			at.Add(-1)
			all.Add(1)
			return nil
		}})
		if most.Load() != 3 {
			t.Errorf("%d stages at once, want 3", most.Load())
		}
		if n := all.Load(); n < 18 || n > 21 {
			t.Errorf("%d stages in a minute", n)
		}
		// Stages were asked for only when there was a slot for each.
		if asked := len(q.since()); asked > int(all.Load())+3 {
			t.Errorf("%d stages were asked for, %d lived", asked, all.Load())
		}
	})
}

func TestPollerWaitsForItsStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{answer: func(ctx context.Context, n int) (*drone.Stage, error) {
			if n == 1 {
				return &drone.Stage{ID: 1}, nil
			}
			return holds(ctx)
		}}
		began := time.Now()
		poll(t, time.Second, &Poller{Client: q, Capacity: 2, Dispatch: func(ctx context.Context, _ *drone.Stage, _ func()) error {
			return pause.For(ctx, time.Hour)
		}})
		if took := time.Since(began); took != time.Hour {
			t.Errorf("it returned after %s", took)
		}
	})
}

func TestPollerSurvivesAStageThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{answer: func(ctx context.Context, n int) (*drone.Stage, error) {
			if n <= 3 {
				return &drone.Stage{ID: int64(n)}, nil
			}
			return holds(ctx)
		}}
		var lived atomic.Int32
		poll(t, time.Minute, &Poller{Client: q, Dispatch: func(context.Context, *drone.Stage, func()) error {
			lived.Add(1)
			panic("nil dereference")
		}})
		if lived.Load() != 3 {
			t.Errorf("%d stages, want 3: the slot was lost", lived.Load())
		}
	})
}

func TestPollerDropsAStageThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{answer: func(ctx context.Context, _ int) (*drone.Stage, error) {
			<-ctx.Done()
			return &drone.Stage{ID: 1}, nil
		}}
		poll(t, time.Second, &Poller{Client: q, Dispatch: func(context.Context, *drone.Stage, func()) error {
			t.Error("a stage was dispatched while the runner drains")
			return nil
		}})
	})
}

// After an outage of any length the next poll comes within 5 s of the server's return.
func TestPollerIsThereSoonAfterAnOutage(t *testing.T) {
	for try := range 50 {
		for _, away := range []time.Duration{2 * time.Second, 60 * time.Second, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var late time.Duration
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				q := &queue{answer: func(context.Context, int) (*drone.Stage, error) {
					if since := time.Since(began); since >= away {
						late = since - away
						cancel()
					}
					return nil, errors.New("connection refused")
				}}
				(&Poller{Client: q, Log: quiet()}).Run(ctx, t.Context())
				if late > 5*time.Second {
					t.Errorf("try %d: the poll came %s after an outage of %s", try, late, away)
				}
			})
		}
	}
}

// A slot is free when a stage says so, though its report is still under way, and is free once.
func TestPollerFreesASlotBeforeTheReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		q := &queue{answer: func(ctx context.Context, n int) (*drone.Stage, error) {
			if n > 2 {
				return holds(ctx)
			}
			return &drone.Stage{ID: int64(n)}, nil
		}}
		var begins, ends []time.Duration
		var mu sync.Mutex
		note := func(to *[]time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			*to = append(*to, time.Since(began))
		}
		poll(t, time.Minute, &Poller{Client: q, Dispatch: func(ctx context.Context, _ *drone.Stage, free func()) error {
			note(&begins)
			err := pause.For(ctx, time.Second)
			free()
			free()
			err = errors.Join(err, pause.For(ctx, time.Hour))
			note(&ends)
			return err
		}})
		if want := []time.Duration{0, time.Second}; !slices.Equal(begins, want) {
			t.Errorf("the stages began after %v, want %v", begins, want)
		}
		if want := []time.Duration{time.Hour + time.Second, time.Hour + 2*time.Second}; !slices.Equal(ends, want) {
			t.Errorf("the stages ended after %v, want %v: Run waits for the reports", ends, want)
		}
	})
}

// Each poll is heard of, whatever it came to.
func TestPollerIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{answer: func(ctx context.Context, n int) (*drone.Stage, error) {
			if n == 1 {
				return nil, errors.New("connection refused")
			}
			return holds(ctx)
		}}
		var heard []string
		poll(t, 50*time.Second, &Poller{Client: q, Heard: func(err error) { heard = append(heard, fmt.Sprint(err)) }})
		if want := []string{"connection refused", "<nil>"}; !slices.Equal(heard, want) {
			t.Errorf("heard %q, want %q", heard, want)
		}
	})
}
