package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/enginetest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// rig is a whole runner, from the poll to the last report, against a server on loopback and an
// engine in memory.
type rig struct {
	server *rpctest.Server
	engine *enginetest.Engine
	// steps are those of every stage.
	steps []*spec.Step
	// callTimeout is the client's; 0 is its default.
	callTimeout time.Duration
	// refusedFor is how long it is refused by the server; logs are the options of logs.
	refusedFor time.Duration
	logs       LogOptions

	stop, kill context.CancelCauseFunc
	done       sync.WaitGroup
}

// rigPause is the rig's longest pause between two attempts of a call, give or take a half.
const rigPause = 25 * time.Millisecond

// start makes the rig run until stop is called, or the test ends.
func (r *rig) start(t *testing.T, capacity int, options ...rpctest.Option) {
	t.Helper()
	if r.server == nil {
		r.server = rpctest.NewServer(t, options...)
	}
	if r.engine == nil {
		r.engine = enginetest.New(t)
	}
	c := rpc.New(rpc.Options{
		Endpoint: r.server.URL(), Secret: r.server.Secret(), CallTimeout: r.callTimeout, PollTimeout: 2 * r.callTimeout,
		Backoff: rpc.Backoff{Initial: 5 * time.Millisecond, Max: rigPause}, RefusedFor: r.refusedFor,
	})
	r.logs.Dir, r.logs.Interval = t.TempDir(), 10*time.Millisecond
	runner := &Runner{
		Client: c, Machine: "me", Log: quiet(), Logs: r.logs,
		Executor: &Executor{Engine: r.engine, Log: quiet()},
		Compile: func(_ context.Context, d *client.Context) (*spec.Spec, error) {
			if strings.Contains(string(d.Config.Data), "broken") {
				return nil, errors.New(".drone.yml:1: this is broken")
			}
			var steps []*spec.Step
			for _, s := range r.steps {
				steps = append(steps, s.Clone())
			}
			sp := specOf(steps...)
			sp.ID = fmt.Sprintf("spec-%d", d.Stage.ID)
			return sp, nil
		},
	}
	poll, stop := context.WithCancelCause(t.Context())
	builds, kill := context.WithCancelCause(context.WithoutCancel(t.Context()))
	r.stop, r.kill = stop, kill
	poller := &Poller{Client: c, Filter: &client.Filter{Kind: "pipeline", Type: "docker", OS: "linux", Arch: "amd64"}, Capacity: capacity, Dispatch: runner.Run, Log: quiet()}
	r.done.Go(func() { poller.Run(poll, builds) })
	t.Cleanup(func() {
		stop(nil)
		kill(ErrStopped)
		r.done.Wait()
		c.Close()
	})
}

// build enqueues a build of one stage.
func (r *rig) build(change ...func(*rpctest.Build)) int64 {
	b := rpctest.Build{YAML: "kind: pipeline\ntype: docker\nname: default\n"}
	for _, f := range change {
		f(&b)
	}
	return r.server.Enqueue(b)
}

// wait waits for the end of a build.
func (r *rig) wait(t *testing.T, id int64) rpctest.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	result, err := r.server.Wait(ctx, id)
	if err != nil {
		t.Fatalf("build %d: %v; it is %s", id, err, outcome(result))
	}
	return result
}

// until waits for a state of the build.
func (r *rig) until(t *testing.T, id int64, what string, condition func(rpctest.Result) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	if err := r.server.Until(ctx, id, condition); err != nil {
		t.Fatalf("build %d: %s: %v; it is %s", id, what, err, outcome(r.server.Result(id)))
	}
}

// idle stops the rig and waits for everything that is still being delivered.
func (r *rig) idle() {
	r.stop(nil)
	r.done.Wait()
}

// outcome is render for what a server holds, of the first stage.
func outcome(result rpctest.Result) string {
	if len(result.Stages) == 0 {
		return "no stage"
	}
	stage := result.Stages[0].Stage
	stage.Steps = nil
	for _, s := range result.Stages[0].Steps {
		stage.Steps = append(stage.Steps, &s.Step)
	}
	return render(stage)
}

// running waits until the named step runs, for the server.
func running(name string) func(rpctest.Result) bool {
	return func(result rpctest.Result) bool {
		s := result.Step(name)
		return s != nil && s.Status == drone.StatusRunning
	}
}

func TestEndToEndSuccess(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("clone"), step("db", service), step("build"), step("card"))}
	r.engine = enginetest.New(t)
	r.engine.Script("db", enginetest.Script{Output: []string{"ready\n"}, Block: true, StopOutput: "bye\n"})
	r.engine.Script("build", enginetest.Script{Output: []string{"one\ntw", "o\n", "the end"}, Delay: 50 * time.Millisecond})
	r.engine.Script("card", enginetest.Script{Output: []string{"before\n", "\x1b]1338;eyJzY2hlbWEiOiJodHRwczovL2V4YW1wbGUuY29tL2NhcmQuanNvbiIsImRhdGEiOnsiYSI6MX19", "\x1b]0m", "after\n"}})
	r.start(t, 1)
	id := r.build()
	result := r.wait(t, id)
	if got, want := outcome(result), "clone:success db:success build:success card:success => success"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, want := range map[string]string{"clone": "", "db": "ready\nbye\n", "build": "one\ntwo\nthe end", "card": "before\nafter\n"} {
		s := result.Step(name)
		if !s.Uploaded || s.Text() != want {
			t.Errorf("the log of %q is %q (uploaded: %v), want %q", name, s.Text(), s.Uploaded, want)
		}
	}
	if s := result.Step("card"); s.Card == nil || s.Schema != "https://example.com/card.json" {
		t.Errorf("the card is %+v, its schema %q", s.Card, s.Schema)
	}
	if !result.Step("db").Detached || result.Step("build").Detached {
		t.Error("the service alone is detached")
	}
}

func TestEndToEndFailure(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"), step("ignored", onError(spec.ErrIgnore)), step("b"), step("c"), step("d", policy(spec.RunOnFailure)))}
	r.engine = enginetest.New(t).Script("ignored", exits(1)).Script("b", exits(3))
	r.start(t, 1)
	result := r.wait(t, r.build())
	if got, want := outcome(result), "a:success ignored:failure/1 b:failure/3 c:skipped d:success => failure"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEndToEndImageError(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"), step("b"))}
	r.engine = enginetest.New(t).Script("a", enginetest.Script{PrepareErr: errors.New("pull image: no such host")})
	r.start(t, 1)
	result := r.wait(t, r.build())
	if got, want := outcome(result), "a:error/255 b:skipped => error/255"; got != want || result.Stages[0].Error != "pull image: no such host" {
		t.Errorf("got  %s, %q\nwant %s", got, result.Stages[0].Error, want)
	}
}

func TestEndToEndLintError(t *testing.T) {
	t.Parallel()
	r := &rig{}
	r.start(t, 1)
	result := r.wait(t, r.build(func(b *rpctest.Build) { b.YAML += "broken: true\n" }))
	if got := outcome(result); got != "=> error/255" || !strings.Contains(result.Stages[0].Error, "this is broken") {
		t.Errorf("got %s, %q", got, result.Stages[0].Error)
	}
}

func TestEndToEndCancel(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("db", service), step("a"), step("b"))}
	r.engine = enginetest.New(t).Script("a", enginetest.Script{Output: []string{"started\n"}, Block: true, StopOutput: "stopped\n"}).Script("db", blocks)
	r.start(t, 1, rpctest.WithHold(time.Hour))
	id := r.build()
	r.until(t, id, "the service runs", running("db"))
	r.until(t, id, "step a has said something", func(result rpctest.Result) bool { return running("a")(result) && len(result.Step("a").Live) > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	for r.server.Watching(id) == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	r.server.Cancel(id)
	r.idle()
	result := r.server.Result(id)
	// The server's own verdict stands, and the log is there all the same.
	if got, want := outcome(result), "db:killed/130 a:killed/130 b:skipped/130 => killed/130"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := result.Step("a").Text(); got != "started\nstopped\n" {
		t.Errorf("the log is %q", got)
	}
	if events := strings.Join(r.engine.Events(), " "); !strings.HasSuffix(events, "destroy") {
		t.Errorf("events %s", events)
	}
}

func TestEndToEndCancelBetweenTwoWatches(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"))}
	r.engine = enginetest.New(t).Script("a", blocks)
	// Nobody is told of a cancel by a watch that begins after it: this one doesn't get there
	// before, and so is it with those that follow.
	r.server = rpctest.NewServer(t, rpctest.WithHold(5*time.Second))
	cancelled := make(chan struct{})
	r.server.Fault(rpctest.Fault{Call: rpctest.CallWatch, Hold: cancelled})
	r.start(t, 1)
	id := r.build()
	r.until(t, id, "step a runs", running("a"))
	r.server.Cancel(id)
	close(cancelled)
	r.idle()
	if got, want := outcome(r.server.Result(id)), "a:killed/130 => killed/130"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEndToEndTimeout(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"), step("b"))}
	r.engine = enginetest.New(t).Script("a", blocks)
	r.server = rpctest.NewServer(t)
	c := rpc.New(rpc.Options{Endpoint: r.server.URL(), Secret: r.server.Secret()})
	defer c.Close()
	id := r.build()
	offered, err := c.Request(t.Context(), &client.Filter{Kind: "pipeline", Type: "docker", OS: "linux", Arch: "amd64"})
	if err != nil || offered == nil {
		t.Fatal(offered, err)
	}
	offered.Machine = "me"
	if err := c.Accept(t.Context(), offered); err != nil {
		t.Fatal(err)
	}
	// A repository's timeout is in minutes, so the shorter one goes by the executor.
	remote := NewRemote(t.Context(), c, LogOptions{Dir: t.TempDir()}, quiet())
	defer remote.Close()
	_, err = (&Executor{Engine: r.engine, Log: quiet()}).Run(t.Context(), Job{Spec: specOf(r.steps...), Stage: offered, Timeout: 10 * time.Second, Reporter: remote})
	if err != nil {
		t.Fatal(err)
	}
	result := r.server.Result(id)
	if got, want := outcome(result), "a:killed/137 b:skipped => killed/137"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if text := result.Step("a").Text(); !strings.Contains(text, "ran longer than 10s") {
		t.Errorf("the log is %q", text)
	}
}

func TestEndToEndAcceptedElsewhere(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"))}
	r.server = rpctest.NewServer(t)
	r.server.Fault(rpctest.Fault{Call: rpctest.CallAccept, Status: 409, Body: "Optimistic Lock Error"})
	r.start(t, 1)
	id := r.build()
	// The server offers it again, and then it's ours.
	if got := outcome(r.wait(t, id)); got != "a:success => success" {
		t.Errorf("got %s", got)
	}
	if n := len(r.server.Requests(rpctest.CallAccept)); n != 2 {
		t.Errorf("%d accepts, want 2", n)
	}
}

// TestEndToEndFaults shows that no single failure of the server leaves a stage behind, or changes
// how its build ends.
func TestEndToEndFaults(t *testing.T) {
	calls := []string{rpctest.CallRequest, rpctest.CallAccept, rpctest.CallDetail, rpctest.CallUpdate, rpctest.CallUpdateStep, rpctest.CallBatch, rpctest.CallUpload, rpctest.CallWatch, rpctest.CallCard}
	type fault struct {
		name string
		rpctest.Fault
	}
	var faults []fault
	for _, call := range calls {
		faults = append(faults,
			fault{"500 on the first " + call, rpctest.Fault{Call: call, Status: 500, Body: "database is locked"}},
			fault{"500 on the second " + call, rpctest.Fault{Call: call, Skip: 1, Status: 500, Body: "database is locked"}},
			fault{"a cut connection in the first " + call, rpctest.Fault{Call: call, Drop: true}},
			fault{"a lost answer to the first " + call, rpctest.Fault{Call: call, Drop: true, Applied: true}},
			fault{"a page as answer to the first " + call, rpctest.Fault{Call: call, Status: 200, Body: "<html>"}},
		)
	}
	faults = append(faults,
		fault{"a log that is too large", rpctest.Fault{Call: rpctest.CallUpload, Times: -1, Status: 413}},
		fault{"no live logs at all", rpctest.Fault{Call: rpctest.CallBatch, Times: -1, Status: 500, Body: "stream: not found"}},
		fault{"a card that is refused", rpctest.Fault{Call: rpctest.CallCard, Times: -1, Status: 400, Body: `{"message":"no"}`}},
		fault{"a server that can't be watched", rpctest.Fault{Call: rpctest.CallWatch, Times: -1, Status: 500}},
		fault{"a server that is slow", rpctest.Fault{Times: -1, Delay: 5 * time.Millisecond}},
	)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := &rig{steps: chain(step("a"), step("b"), step("c"))}
			r.engine = enginetest.New(t).Script("b", exits(1))
			r.engine.Script("a", enginetest.Script{Output: []string{"one\n\x1b]1338;eyJzY2hlbWEiOiJodHRwczovL2V4YW1wbGUuY29tL2NhcmQuanNvbiIsImRhdGEiOnsiYSI6MX19\x1b]0mtwo\n"}, Delay: 30 * time.Millisecond})
			r.server = rpctest.NewServer(t)
			r.server.Fault(f.Fault)
			r.start(t, 1)
			result := r.wait(t, r.build())
			r.idle()
			if got, want := outcome(result), "a:success b:failure/1 c:skipped => failure"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if f.Fault.Call != rpctest.CallUpload {
				if text := result.Step("a").Text(); text != "one\ntwo\n" {
					t.Errorf("the log is %q", text)
				}
			}
			if f.Fault.Call != rpctest.CallCard && result.Step("a").Card == nil {
				t.Error("the card is lost")
			}
			for _, v := range r.server.Violations() {
				t.Errorf("violation: %s", v)
			}
		})
	}
}

func TestEndToEndWrongSecret(t *testing.T) {
	t.Parallel()
	server := rpctest.NewServer(t)
	c := rpc.New(rpc.Options{Endpoint: server.URL(), Secret: "wrong"})
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&log)
	var polling sync.WaitGroup
	polling.Go(func() { (&Poller{Client: c, Filter: &client.Filter{}, Log: logger}).Run(ctx, t.Context()) })
	for deadline := time.Now().Add(testPatience); len(server.Requests(rpctest.CallRequest)) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Second)
	cancel()
	polling.Wait()
	if n := len(server.Requests(rpctest.CallRequest)); n != 1 {
		t.Errorf("%d requests in a second, want 1", n)
	}
	if text := log.String(); !strings.Contains(text, "DRONE_RPC_SECRET is wrong") || !strings.Contains(text, server.Host()) {
		t.Errorf("the log says %s", text)
	}
}

func TestEndToEndServerRestarts(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"), step("b"))}
	cont := make(chan struct{})
	r.engine = enginetest.New(t).Script("a", enginetest.Script{Output: []string{"before\n"}, Do: func(ctx context.Context, _ *spec.Step, w io.Writer) error {
		select {
		case <-cont:
		case <-ctx.Done():
			return ctx.Err()
		}
		fmt.Fprintln(w, "after")
		time.Sleep(100 * time.Millisecond)
		return nil
	}})
	r.start(t, 1)
	id := r.build()
	r.until(t, id, "the first line is there", func(result rpctest.Result) bool {
		s := result.Step("a")
		return s != nil && len(s.Live) > 0
	})
	r.server.Restart()
	close(cont)
	result := r.wait(t, id)
	if got, want := outcome(result), "a:success b:success => success"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if text := result.Step("a").Text(); text != "before\nafter\n" {
		t.Errorf("the log is %q", text)
	}
}

func TestEndToEndServerIsAwayAtTheEnd(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"))}
	cont := make(chan struct{})
	r.engine = enginetest.New(t).Script("a", enginetest.Script{Do: func(_ context.Context, _ *spec.Step, w io.Writer) error {
		<-cont
		fmt.Fprintln(w, "nobody hears this yet")
		return nil
	}})
	r.start(t, 1)
	id := r.build()
	r.until(t, id, "step a runs", running("a"))
	r.server.Down()
	close(cont)
	time.Sleep(200 * time.Millisecond)
	r.server.Up()
	result := r.wait(t, id)
	if got := outcome(result); got != "a:success => success" || result.Step("a").Text() != "nobody hears this yet\n" {
		t.Errorf("got %s, log %q", got, result.Step("a").Text())
	}
}

func TestEndToEndDrain(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"))}
	r.engine = enginetest.New(t).Script("a", takes(300*time.Millisecond))
	r.start(t, 2)
	first := r.build()
	r.until(t, first, "step a runs", running("a"))
	r.stop(ErrStopped)
	second := r.build()
	r.done.Wait()
	if got := outcome(r.server.Result(first)); got != "a:success => success" {
		t.Errorf("the build that ran is %s", got)
	}
	if got := r.server.Result(second).Stages[0]; got.Status != drone.StatusPending || got.Machine != "" {
		t.Errorf("a new build is %s on %q", got.Status, got.Machine)
	}
}

func TestEndToEndStopped(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("a"), step("b"))}
	r.engine = enginetest.New(t).Script("a", blocks)
	r.start(t, 1)
	id := r.build()
	r.until(t, id, "step a runs", running("a"))
	r.stop(ErrStopped)
	r.kill(ErrStopped)
	r.done.Wait()
	result := r.server.Result(id)
	if got, want := outcome(result), "a:killed/137 b:skipped => error/255"; got != want || !strings.Contains(result.Stages[0].Error, "the runner was stopped") {
		t.Errorf("got  %s, %q\nwant %s", got, result.Stages[0].Error, want)
	}
}

func TestEndToEndTwentyStagesAtOnce(t *testing.T) {
	t.Parallel()
	r := &rig{steps: chain(step("clone"), step("db", service), step("a"), step("b"), step("c"))}
	r.engine = enginetest.New(t).Script("db", blocks)
	r.engine.Script("a", enginetest.Script{Output: []string{strings.Repeat("a line of the log\n", 100)}, Delay: 50 * time.Millisecond})
	r.start(t, 20)
	var ids []int64
	for range 20 {
		ids = append(ids, r.build())
	}
	for _, id := range ids {
		result := r.wait(t, id)
		if got, want := outcome(result), "clone:success db:success a:success b:success c:success => success"; got != want {
			t.Errorf("build %d: got  %s\nwant %s", id, got, want)
		}
		if n := result.Step("a").Lines; n != 100 {
			t.Errorf("build %d: %d lines of 100", id, n)
		}
	}
}
