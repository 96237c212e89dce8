package rpc_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// refusals are the calls that a server may refuse for good.
func refusals(c *rpc.Client, stage *drone.Stage) map[string]func(t *testing.T) error {
	step := *stage.Steps[0]
	return map[string]func(*testing.T) error{
		rpctest.CallUpload: func(t *testing.T) error {
			return c.UploadFrom(t.Context(), step.ID, func() (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(`[{"pos":0,"out":"a\n","time":0}]`)), nil
			})
		},
		rpctest.CallCard: func(t *testing.T) error {
			return c.UploadCard(t.Context(), step.ID, &drone.CardInput{Schema: "s", Data: json.RawMessage(`{"a":1}`)})
		},
		rpctest.CallUpdateStep: func(t *testing.T) error {
			step.Status, step.Stopped = drone.StatusPassing, 101
			return c.UpdateStep(t.Context(), &step)
		},
		rpctest.CallDetail: func(t *testing.T) error {
			_, err := c.Detail(t.Context(), stage)
			return err
		},
	}
}

// A call that a server refuses, while it does everything else, ends. A server that is away, or
// whose database is, is waited for.
func TestRefusedForGood(t *testing.T) {
	for _, call := range []string{rpctest.CallUpload, rpctest.CallCard, rpctest.CallUpdateStep, rpctest.CallDetail} {
		for _, fault := range []rpctest.Fault{
			{Status: http.StatusInternalServerError, Body: "disk full"},
			{Status: http.StatusBadGateway},
			{Drop: true},
		} {
			t.Run(call+"/"+http.StatusText(fault.Status), func(t *testing.T) {
				s := rpctest.NewServer(t)
				s.Enqueue(rpctest.Build{})
				stage := running(t, newClient(t, s))
				c := newClient(t, s, func(o *rpc.Options) { o.RefusedFor = 20 * time.Millisecond })
				fault.Call, fault.Times, fault.Path = call, -1, "/rpc/v2/st*/[1-9]*"
				if call == rpctest.CallUpload {
					fault.Path = "/rpc/v2/step/*/logs/upload"
				}
				if call == rpctest.CallCard {
					fault.Path = "/rpc/v2/step/*/card"
				}
				s.Fault(fault)
				err := refusals(c, stage)[call](t)
				var refused *rpc.RefusedError
				if !errors.As(err, &refused) || refused.For < 20*time.Millisecond {
					t.Fatalf("error %v", err)
				}
				if n := len(s.Requests(call)); n < 2 {
					t.Errorf("the call was made %d times", n)
				}
			})
		}
	}
}

// While the database is away nothing is refused for good, though the server answers.
func TestDatabaseAway(t *testing.T) {
	s := rpctest.NewServer(t)
	id := s.Enqueue(rpctest.Build{})
	stage := running(t, newClient(t, s))
	c := newClient(t, s, func(o *rpc.Options) { o.RefusedFor = 50 * time.Millisecond })
	back := s.Fault(rpctest.Fault{Times: -1, Status: http.StatusInternalServerError, Body: "database is locked"})
	done := make(chan error, 1)
	go func() { done <- refusals(c, stage)[rpctest.CallUpload](t) }()
	for began := time.Now(); time.Since(began) < 200*time.Millisecond && len(done) == 0; {
		time.Sleep(time.Millisecond)
	}
	back()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := s.Result(id).Step("one"); !got.Uploaded {
		t.Error("the log isn't there")
	}
}

// The end of a stage is put as long as it takes: a stage that stays running on the server blocks
// its repository.
func TestTheEndOfAStageIsNeverGivenUp(t *testing.T) {
	s := rpctest.NewServer(t)
	id := s.Enqueue(rpctest.Build{})
	stage := running(t, newClient(t, s))
	c := newClient(t, s, func(o *rpc.Options) { o.RefusedFor = time.Nanosecond })
	step := stage.Steps[0]
	step.Status, step.Stopped = drone.StatusPassing, 101
	if err := c.UpdateStep(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	s.Fault(rpctest.Fault{Call: rpctest.CallUpdate, Times: 20, Status: http.StatusInternalServerError, Body: "disk full"})
	stage.Status, stage.Stopped = drone.StatusPassing, 101
	if err := c.Update(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	if got := s.Result(id).Stages[0].Status; got != drone.StatusPassing {
		t.Errorf("the stage is %s", got)
	}
}

// What databases and stores say of a log that is too much for them is the same as a proxy's 413.
func TestTooLargeForTheStore(t *testing.T) {
	for _, said := range []string{
		"Error 1406: Data too long for column 'log_data' at row 1",
		"Error 1153: Got a packet bigger than 'max_allowed_packet' bytes",
		"string or blob too big",
		"EntityTooLarge: Your proposed upload exceeds the maximum allowed size",
	} {
		s := rpctest.NewServer(t)
		s.Enqueue(rpctest.Build{})
		c := newClient(t, s)
		stage := running(t, c)
		s.Fault(rpctest.Fault{Call: rpctest.CallUpload, Times: -1, Status: http.StatusInternalServerError, Body: said})
		if err := refusals(c, stage)[rpctest.CallUpload](t); !errors.Is(err, rpc.ErrTooLarge) {
			t.Errorf("%s: error %v", said, err)
		}
	}
}

// Errors reach the server as every database takes them.
func TestErrorsAreClipped(t *testing.T) {
	for name, text := range map[string]string{
		"long":      strings.Repeat("é", 400),
		"longer":    "x" + strings.Repeat("😀", 400),
		"NUL":       "a\x00b",
		"not UTF-8": "a\xffb",
	} {
		s := rpctest.NewServer(t)
		id := s.Enqueue(rpctest.Build{})
		c := newClient(t, s)
		stage := running(t, c)
		step := stage.Steps[0]
		step.Status, step.Error, step.ExitCode, step.Stopped = drone.StatusError, text, 255, 101
		if err := c.UpdateStep(t.Context(), step); err != nil {
			t.Fatal(err)
		}
		stage.Status, stage.Error, stage.ExitCode, stage.Stopped = drone.StatusError, text, 255, 101
		if err := c.Update(t.Context(), stage); err != nil {
			t.Fatal(err)
		}
		got := s.Result(id).Stages[0]
		for _, kept := range []string{got.Error, got.Steps[0].Error} {
			if len(kept) > 500 || len(kept) < 2 || !utf8.ValidString(kept) || strings.Contains(kept, "\x00") {
				t.Errorf("%s: %d bytes, %q", name, len(kept), kept)
			}
		}
		if stage.Error != text || step.Error != text {
			t.Errorf("%s: the caller's records were changed", name)
		}
	}
}
