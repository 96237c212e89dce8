package rpc_test

import (
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

func TestWatch(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithHold(5*time.Millisecond))
	s.Enqueue(rpctest.Build{})
	c := newClient(t, s)
	if cancelled, err := c.Watch(t.Context(), 1); cancelled || err != nil {
		t.Errorf("an empty watch says %v, %v", cancelled, err)
	}
}

// cancelLate cancels the build as soon as somebody watches it.
func cancelLate(s *rpctest.Server, id int64) {
	for s.Watching(id) == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Cancel(id)
}

// A cancel is told after whatever happened to the watch before.
func TestWatchCancel(t *testing.T) {
	for name, fault := range map[string]*rpctest.Fault{
		"no fault":  nil,
		"cut":       {Drop: true, Times: 3},
		"500":       {Status: 500, Times: 3},
		"502 later": {Status: 502, Delay: 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := rpctest.NewServer(t, rpctest.WithHold(time.Hour))
			id := s.Enqueue(rpctest.Build{})
			if fault != nil {
				fault.Call = rpctest.CallWatch
				s.Fault(*fault)
			}
			c := newClient(t, s)
			done := make(chan struct{})
			go func() {
				defer close(done)
				cancelLate(s, id)
			}()
			cancelled, err := c.Watch(t.Context(), id)
			<-done
			if !cancelled || err != nil {
				t.Errorf("got %v, %v", cancelled, err)
			}
		})
	}
}

// After a break the watch returns as soon as the server holds one again, though a long poll is far
// from its end: the caller then reads the stage and sees a cancel that fell into the gap.
func TestWatchReturnsAfterBreak(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithHold(time.Hour))
	id := s.Enqueue(rpctest.Build{})
	c := newClient(t, s)
	type result struct {
		cancelled bool
		err       error
	}
	got := make(chan result)
	go func() {
		cancelled, err := c.Watch(t.Context(), id)
		got <- result{cancelled, err}
	}()
	for s.Watching(id) == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Down()
	s.Cancel(id)
	s.Up()
	if r := <-got; r.cancelled || r.err != nil {
		t.Errorf("got %+v", r)
	}
}
