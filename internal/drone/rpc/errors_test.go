package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// What the server refuses for good is refused at once, in an error of its type that says what,
// where, why and what to do.
func TestFinalErrors(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault rpctest.Fault
		is    error
		want  []string
	}{
		{"401", rpctest.Fault{Status: 401}, rpc.ErrUnauthorized, []string{"DRONE_RPC_SECRET is wrong", "401 Unauthorized"}},
		{"403", rpctest.Fault{Status: 403}, rpc.ErrUnauthorized, []string{"DRONE_RPC_SECRET is wrong"}},
		{"400", rpctest.Fault{Status: 400, Body: `{"message":"unexpected EOF"}`}, nil, []string{"400 Bad Request: unexpected EOF"}},
		{"409", rpctest.Fault{Status: 409, Body: "Optimistic Lock Error"}, client.ErrOptimisticLock, []string{"Optimistic Lock Error"}},
		{"500 lock", rpctest.Fault{Status: 500, Body: "1 error occurred:\n\t* Optimistic Lock Error\n\n"}, client.ErrOptimisticLock, []string{"1 error occurred: * Optimistic"}},
		{"500 no rows", rpctest.Fault{Status: 500, Body: "sql: no rows in result set"}, rpc.ErrNotFound, []string{"no rows"}},
		{"413", rpctest.Fault{Status: 413, Body: "<html>too big</html>"}, rpc.ErrTooLarge, []string{"413", "a page of HTML", "DRONE_RUNNER_LOG_LIMIT"}},
		{"301", rpctest.Fault{Status: 301, Header: map[string]string{"Location": "https://drone.example.com/x"}}, nil,
			[]string{"points to https://drone.example.com/x", "set DRONE_RPC_PROTO=https"}},
		{"302 elsewhere", rpctest.Fault{Status: 302, Header: map[string]string{"Location": "/login"}}, nil, []string{"/login", "set DRONE_RPC_HOST"}},
		{"303 nowhere", rpctest.Fault{Status: 303}, nil, []string{"points to nowhere"}},
		{"long text", rpctest.Fault{Status: 400, Body: strings.Repeat("ä", 1000)}, nil, []string{"ä…"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := rpctest.NewServer(t)
			row.fault.Times = -1
			s.Fault(row.fault)
			c := newClient(t, s)
			errs := once(t, c)
			for name, err := range errs {
				var status *rpc.StatusError
				if !errors.As(err, &status) || status.Status != row.fault.Status || row.is != nil && !errors.Is(err, row.is) {
					t.Errorf("%s: %T %v", name, err, err)
					continue
				}
				for _, want := range append(row.want, name, s.Host()) {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %v: lacks %q", name, err, want)
					}
				}
				if strings.Contains(err.Error(), "\n") || len(err.Error()) > 600 {
					t.Errorf("%s: %q", name, err)
				}
			}
			if n := len(s.Requests()); n != len(errs) {
				t.Errorf("%d requests for %d calls: some were repeated", n, len(errs))
			}
		})
	}
}

// once makes every call of a client, and is what each ends with.
func once(t *testing.T, c *rpc.Client) map[string]error {
	t.Helper()
	stage, step := &drone.Stage{ID: 1, Status: "running", Version: 1}, &drone.Step{ID: 1, Status: "running", Version: 1}
	_, requested := c.Request(t.Context(), linux)
	_, detailed := c.Detail(t.Context(), stage)
	_, watched := c.Watch(t.Context(), 1)
	return map[string]error{
		"ping":        c.Ping(t.Context(), ""),
		"request":     requested,
		"accept":      c.Accept(t.Context(), stage),
		"details":     detailed,
		"update":      c.Update(t.Context(), stage),
		"update step": c.UpdateStep(t.Context(), step),
		"watch":       watched,
		"lines":       c.Batch(t.Context(), 1, []*drone.Line{{}}),
		"log":         c.Upload(t.Context(), 1, nil),
		"card":        c.UploadCard(t.Context(), 1, &drone.CardInput{Data: []byte("{}")}),
	}
}

// What isn't the server's own word is a proxy's, whose server is away: it is no refusal, and no
// answer.
func TestProxyWithoutServer(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault rpctest.Fault
		want  string
	}{
		{"404", rpctest.Fault{Status: 404, Body: "404 page not found"}, "404 Not Found: 404 page not found"},
		{"a page", rpctest.Fault{Status: 200, Header: map[string]string{"Content-Type": "text/html; charset=utf-8"}, Body: "We'll be back soon"}, "a page of HTML"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := rpctest.NewServer(t)
			row.fault.Times = -1
			s.Fault(row.fault)
			for name, err := range once(t, newClient(t, s, func(o *rpc.Options) { o.Backoff.Tries = 2 })) {
				for _, want := range []string{row.want, name, s.Host(), "DRONE_RPC_HOST"} {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %v: lacks %q", name, err, want)
					}
				}
			}
			// Three are made once, whatever comes of them: it is the caller who asks again.
			if n, want := len(s.Requests()), 3+7*2; n != want {
				t.Errorf("%d requests, want %d", n, want)
			}
		})
	}
}

func TestWrongSecret(t *testing.T) {
	s := rpctest.NewServer(t)
	c := newClient(t, s, func(o *rpc.Options) { o.Secret = "guess" })
	err := c.Ping(t.Context(), "")
	if !errors.Is(err, rpc.ErrUnauthorized) || strings.Contains(err.Error(), "guess") {
		t.Errorf("error %v", err)
	}
}

// A batch without a stream is an error of its own, final.
func TestStreamNotFound(t *testing.T) {
	s := rpctest.NewServer(t)
	s.Fault(rpctest.Fault{Call: rpctest.CallBatch, Status: 500, Body: "stream: not found"})
	err := newClient(t, s).Batch(t.Context(), 3, []*drone.Line{{Message: "x\n"}})
	if !errors.Is(err, rpc.ErrStreamNotFound) || !strings.Contains(err.Error(), "step 3") {
		t.Errorf("error %v", err)
	}
}

// The end of the context ends the pauses at once, and the error tells what went wrong until then.
func TestContextEndsRetry(t *testing.T) {
	s := rpctest.NewServer(t)
	s.Fault(rpctest.Fault{Status: 500, Body: "database is locked", Times: -1})
	logger, hook := logtest.NewNullLogger()
	c := newClient(t, s, func(o *rpc.Options) {
		o.Backoff = rpc.Backoff{Initial: time.Hour, Max: time.Hour}
		o.Log = logger
	})
	for name, call := range map[string]func(context.Context) error{
		"update": func(ctx context.Context) error { return c.Update(ctx, &drone.Stage{ID: 1, Status: "running"}) },
		"watch":  func(ctx context.Context) error { _, err := c.Watch(ctx, 1); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		before := len(hook.AllEntries())
		go func() { done <- call(ctx) }()
		for len(hook.AllEntries()) == before {
			time.Sleep(time.Millisecond)
		}
		cancel()
		err := <-done
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "database is locked") {
			t.Errorf("%s: error %v", name, err)
		}
		if e := hook.LastEntry(); e.Level != logrus.WarnLevel || !strings.Contains(fmt.Sprint(e.Data[logrus.ErrorKey]), "database is locked") {
			t.Errorf("%s: log %v %q", name, e.Level, e.Message)
		}
	}
}

// The context's own cause comes back, from the midst of a call too.
func TestContextCause(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithHold(time.Hour))
	c := newClient(t, s)
	why := errors.New("the runner stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() { _, err := c.Request(ctx, linux); done <- err }()
	for len(s.Requests()) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestTries(t *testing.T) {
	s := rpctest.NewServer(t)
	s.Fault(rpctest.Fault{Status: 503, Times: -1, Header: map[string]string{"Retry-After": "0"}})
	c := newClient(t, s, func(o *rpc.Options) { o.Backoff.Tries = 3 })
	_, werr := c.Watch(t.Context(), 1)
	for _, err := range []error{c.UpdateStep(t.Context(), &drone.Step{ID: 1}), werr} {
		var status *rpc.StatusError
		if !errors.As(err, &status) || status.Status != 503 {
			t.Errorf("error %v", err)
		}
	}
	if n := len(s.Requests()); n != 6 {
		t.Errorf("%d requests", n)
	}
}

// Retry-After is obeyed.
func TestRetryAfter(t *testing.T) {
	s := rpctest.NewServer(t)
	id := s.Enqueue(rpctest.Build{})
	s.Fault(rpctest.Fault{Call: rpctest.CallDetail, Status: 429, Header: map[string]string{"Retry-After": "1"}})
	if err := life(t.Context(), newClient(t, s)); err != nil {
		t.Fatal(err)
	}
	delivered(t, s, id)
	r := s.Requests(rpctest.CallDetail)
	if pause := r[1].At.Sub(r[0].At); pause < time.Second {
		t.Errorf("asked again after %v", pause)
	}
}

// An attempt that stands still is given up, and made again.
func TestStall(t *testing.T) {
	s := rpctest.NewServer(t)
	id := s.Enqueue(rpctest.Build{})
	s.Fault(rpctest.Fault{Call: rpctest.CallDetail, Delay: time.Hour})
	s.Fault(rpctest.Fault{Call: rpctest.CallUpload, Delay: time.Hour})
	logger, hook := logtest.NewNullLogger()
	c := newClient(t, s, func(o *rpc.Options) { o.CallTimeout, o.Log = 300*time.Millisecond, logger })
	if err := life(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	delivered(t, s, id)
	if !strings.Contains(fmt.Sprint(hook.AllEntries()[0].Data[logrus.ErrorKey]), "nothing moved for 300ms") {
		t.Errorf("log %v", hook.AllEntries()[0].Data)
	}
}

// A lock that somebody else won is told, whatever was lost on the way.
func TestForeignLock(t *testing.T) {
	s := rpctest.NewServer(t)
	s.Enqueue(rpctest.Build{})
	c := newClient(t, s)
	stage, err := request(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	stage.Machine = "first"
	if err := c.Accept(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	second := *stage
	second.Machine = "second"
	for range 2 { // the second time after a lost answer
		if err := c.Accept(t.Context(), &second); !errors.Is(err, client.ErrOptimisticLock) {
			t.Errorf("error %v", err)
		}
		s.Fault(rpctest.Fault{Call: rpctest.CallAccept, Drop: true})
	}
}

// After a cancel the server's word stands: final updates are refused, also when an answer was lost
// in between.
func TestCancelledStage(t *testing.T) {
	for _, lost := range []bool{false, true} {
		s := rpctest.NewServer(t)
		id := s.Enqueue(rpctest.Build{})
		c := newClient(t, s)
		stage := running(t, c)
		s.Cancel(id)
		if lost {
			s.Fault(rpctest.Fault{Call: rpctest.CallUpdate, Drop: true})
			s.Fault(rpctest.Fault{Call: rpctest.CallUpdateStep, Drop: true})
		}
		step := stage.Steps[0]
		step.Status, step.Stopped = drone.StatusFailing, 101
		if err := c.UpdateStep(t.Context(), step); !errors.Is(err, client.ErrOptimisticLock) {
			t.Errorf("step, lost %v: error %v", lost, err)
		}
		stage.Status, stage.Stopped = drone.StatusFailing, 101
		if err := c.Update(t.Context(), stage); !errors.Is(err, client.ErrOptimisticLock) {
			t.Errorf("stage, lost %v: error %v", lost, err)
		}
		if got := s.Result(id).Stages[0].Status; got != drone.StatusKilled {
			t.Errorf("the stage is %s", got)
		}
	}
}

// running brings the next stage to running, with one step that runs.
func running(t *testing.T, c *rpc.Client) *drone.Stage {
	t.Helper()
	stage, err := request(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	stage.Machine = "tester"
	if err := c.Accept(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	stage.Status, stage.Started = drone.StatusRunning, 100
	stage.Steps = []*drone.Step{{StageID: stage.ID, Number: 1, Name: "one", Status: drone.StatusPending}}
	if err := c.Update(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	step := stage.Steps[0]
	step.Status, step.Started = drone.StatusRunning, 100
	if err := c.UpdateStep(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	return stage
}

// A stage that ends with a stale version of a step, or of its own, ends all the same.
func TestStaleEnd(t *testing.T) {
	for _, change := range []func(*drone.Stage){
		func(stage *drone.Stage) { stage.Steps[0].Version += 7 },
		func(stage *drone.Stage) { stage.Version += 7 },
	} {
		s := rpctest.NewServer(t)
		id := s.Enqueue(rpctest.Build{})
		c := newClient(t, s)
		stage := running(t, c)
		stage.Steps[0].Status, stage.Steps[0].Stopped = drone.StatusPassing, 101
		if err := c.UpdateStep(t.Context(), stage.Steps[0]); err != nil {
			t.Fatal(err)
		}
		change(stage)
		stage.Status, stage.Stopped = drone.StatusPassing, 101
		if err := c.Update(t.Context(), stage); err != nil {
			t.Fatal(err)
		}
		if got := s.Result(id).Stages[0].Status; got != drone.StatusPassing {
			t.Errorf("the stage is %s", got)
		}
	}
}

// A stage that never began, as one with a lint error, ends without steps.
func TestEndWithoutSteps(t *testing.T) {
	s := rpctest.NewServer(t)
	id := s.Enqueue(rpctest.Build{})
	c := newClient(t, s)
	stage, err := request(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	stage.Machine = "tester"
	if err := c.Accept(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	stage.Status, stage.Error, stage.ExitCode, stage.Started, stage.Stopped = drone.StatusError, "linter: no", 255, 1, 1
	stage.Steps = []*drone.Step{{Number: 1, Name: "never created", Status: drone.StatusSkipped}}
	if err := c.Update(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	if got := s.Result(id).Stages[0]; got.Status != drone.StatusError || got.Error != "linter: no" {
		t.Errorf("%+v", got)
	}
}

// What the network says comes with what was being done, and with advice where there is some.
func TestTransportErrors(t *testing.T) {
	s := rpctest.NewServer(t)
	c := newClient(t, s, func(o *rpc.Options) { o.Endpoint = "https://" + s.Host() })
	err := c.Ping(t.Context(), "")
	var transport *rpc.TransportError
	if !errors.As(err, &transport) || !strings.Contains(err.Error(), "DRONE_RPC_PROTO=http") {
		t.Errorf("error %v", err)
	}
	s.Down()
	err = newClient(t, s).Ping(t.Context(), "")
	var refused *net.OpError
	if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "ping: http://"+s.Host()) || strings.Contains(err.Error(), "Post ") {
		t.Errorf("error %v", err)
	}
}

// Long answers are cut off, not swallowed.
func TestHugeAnswer(t *testing.T) {
	s := rpctest.NewServer(t)
	s.Fault(rpctest.Fault{Status: http.StatusOK, Body: strings.Repeat(" ", 65<<20)})
	_, err := newClient(t, s).Request(t.Context(), linux)
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v", err)
	}
}
