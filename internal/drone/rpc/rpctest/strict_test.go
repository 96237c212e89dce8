package rpctest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// recorder is a TB that keeps what would fail a test.
type recorder struct {
	mu       sync.Mutex
	errors   []string
	cleanups []func()
}

func (*recorder) Helper()            {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

// run is a stage on its way, driven by plain requests.
type run struct {
	*wire
	stage drone.Stage
}

const filter = `{"kind":"pipeline","type":"docker","os":"linux","arch":"amd64","variant":"","kernel":""}`

// begun enqueues a build and brings its stage to running, with the steps one and two.
func begun(t *testing.T, s *rpctest.Server) *run {
	t.Helper()
	r := accepted(t, s)
	r.stage.Status, r.stage.Started = drone.StatusRunning, 100
	for i, name := range []string{"one", "two"} {
		r.stage.Steps = append(r.stage.Steps, &drone.Step{StageID: r.stage.ID, Number: i + 1, Name: name, Status: drone.StatusPending})
	}
	r.put("stage", r.stage.ID, &r.stage, http.StatusOK)
	return r
}

func accepted(t *testing.T, s *rpctest.Server) *run {
	t.Helper()
	r := &run{wire: newWire(t, s)}
	s.Enqueue(rpctest.Build{YAML: "kind: pipeline\nname: default\n"})
	r.post("/stage", filter, &r.stage, http.StatusOK)
	r.post(fmt.Sprintf("/stage/%d?machine=m", r.stage.ID), "", &r.stage, http.StatusOK)
	return r
}

func (r *run) post(path, body string, into any, want int) {
	r.t.Helper()
	status, answer, _ := r.do("POST", "/rpc/v2"+path, body)
	if status != want {
		r.t.Fatalf("POST %s: %d %s", path, status, answer)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(answer), into); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *run) put(kind string, id int64, value any, want int) {
	r.t.Helper()
	body, err := json.Marshal(value)
	if err != nil {
		r.t.Fatal(err)
	}
	status, answer, _ := r.do("PUT", fmt.Sprintf("/rpc/v2/%s/%d", kind, id), string(body))
	if status != want {
		r.t.Fatalf("PUT %s %d: %d %s", kind, id, status, answer)
	}
	if status == http.StatusOK {
		if err := json.Unmarshal([]byte(answer), value); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *run) step(i int) *drone.Step { return r.stage.Steps[i] }

// start, finish and end are what a runner should do.
func (r *run) start(i int) {
	r.t.Helper()
	r.step(i).Status, r.step(i).Started = drone.StatusRunning, 100
	r.put("step", r.step(i).ID, r.step(i), http.StatusOK)
}

func (r *run) finish(i int) {
	r.t.Helper()
	r.step(i).Status, r.step(i).Stopped = drone.StatusPassing, 101
	r.put("step", r.step(i).ID, r.step(i), http.StatusOK)
}

func (r *run) end(want int) {
	r.t.Helper()
	r.stage.Status, r.stage.Stopped = drone.StatusPassing, 101
	r.put("stage", r.stage.ID, &r.stage, want)
}

func (r *run) logs(i int, kind, lines string, want int) {
	r.t.Helper()
	r.post(fmt.Sprintf("/step/%d/logs/%s", r.step(i).ID, kind), lines, nil, want)
}

const hello = `[{"pos":0,"out":"hello\n","time":0}]`

// Everything that no runner should do is a violation, and says which.
func TestViolations(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(r *run)
		want string // "" is no violation at all
	}{
		{"a whole life", func(r *run) {
			r.start(0)
			r.logs(0, "batch", hello, 200)
			r.logs(0, "upload", hello, 200)
			r.finish(0)
			r.start(1)
			r.finish(1)
			r.end(200)
		}, ""},
		{"unknown field", func(r *run) { r.post("/stage", `{"kind":"x","color":"red"}`, nil, 204) }, `unknown field "color"`},
		{"garbage", func(r *run) { r.post("/stage", `{`, nil, 400) }, "no JSON"},
		{"no version", func(r *run) { r.stage.Version = 0; r.end(409) }, "no version"},
		{"another machine", func(r *run) { r.stage.Machine = "x"; r.finish(0); r.finish(1); r.end(200) }, `the machine is "x"`},
		{"running twice", func(r *run) { r.stage.Steps = nil; r.put("stage", r.stage.ID, &r.stage, 200) }, "is running already"},
		{"steps open at the end", func(r *run) { r.start(0); r.finish(0); r.end(200) }, `step "two" is pending`},
		{"no stop time", func(r *run) { r.stage.Status = "success"; r.put("stage", r.stage.ID, &r.stage, 200) }, "without a stop time"},
		{"step without a start time", func(r *run) { r.step(0).Status = "running"; r.put("step", 1, r.step(0), 200) }, "without a start time"},
		{"step never ran", func(r *run) { r.finish(0) }, "never ran"},
		{"step after its end", func(r *run) { r.start(0); r.finish(0); r.finish(0) }, "after its end"},
		{"step without its stage", func(r *run) { r.step(0).StageID = 0; r.start(0) }, "stage 0"},
		{"batch before the step", func(r *run) { r.logs(0, "batch", hello, 500) }, "before the step runs"},
		{"batch after the step", func(r *run) { r.start(0); r.finish(0); r.logs(0, "batch", hello, 500) }, "after step"},
		{"batch twice", func(r *run) { r.start(0); r.logs(0, "batch", hello, 200); r.logs(0, "batch", hello, 200) }, "line 0 comes after line 0"},
		{"empty batch", func(r *run) { r.start(0); r.logs(0, "batch", `[]`, 200) }, "no lines"},
		{"two lines in one", func(r *run) { r.start(0); r.logs(0, "batch", `[{"pos":0,"out":"a\nb\n","time":0}]`, 200) }, "more than one line"},
		{"no newline in the middle", func(r *run) {
			r.start(0)
			r.logs(0, "batch", `[{"pos":0,"out":"a","time":0},{"pos":1,"out":"b\n","time":0}]`, 200)
		}, "has no newline"},
		{"a date for a time", func(r *run) { r.start(0); r.logs(0, "batch", `[{"pos":0,"out":"a\n","time":1795257753}]`, 200) }, "seconds since"},
		{"upload before the step", func(r *run) { r.logs(0, "upload", hello, 200) }, "has not run"},
		{"upload twice", func(r *run) { r.start(0); r.logs(0, "upload", hello, 200); r.logs(0, "upload", hello, 500) }, "there already"},
		{"upload of something else", func(r *run) {
			r.start(0)
			r.logs(0, "batch", hello, 200)
			r.logs(0, "upload", `[{"pos":0,"out":"bye\n","time":0}]`, 200)
		}, `"hello\n" when it was sent live`},
		{"upload out of order", func(r *run) {
			r.start(0)
			r.logs(0, "upload", `[{"pos":1,"out":"b\n","time":0},{"pos":0,"out":"a\n","time":0}]`, 200)
		}, "line 0 comes after line 1"},
		{"upload cut", func(r *run) { r.start(0); r.logs(0, "upload", `[{"pos":1,"out":"b\n","time":0}`, 400) }, "no JSON list"},
		{"log not uploaded", func(r *run) {
			r.start(0)
			r.logs(0, "batch", hello, 200)
			r.finish(0)
			r.start(1)
			r.finish(1)
			r.end(200)
		}, "was not uploaded"},
		{"stage after its end", func(r *run) {
			for i := range 2 {
				r.start(i)
				r.finish(i)
			}
			r.end(200)
			r.end(200)
		}, "after its end"},
		{"card before the step", func(r *run) { r.post("/step/1/card", `{"schema":"s","data":{}}`, nil, 200) }, "has not run"},
		{"schema before the card", func(r *run) { r.step(0).Schema = "s"; r.start(0) }, "before its card"},
		{"accept without a machine", func(r *run) { r.post("/stage/1", "", nil, 500) }, "no machine"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := rpctest.NewServer(t, rpctest.WithHold(10*time.Millisecond))
			row.do(begun(t, s))
			got := strings.Join(s.Violations(), "\n")
			if row.want == "" && got != "" || !strings.Contains(got, row.want) {
				t.Errorf("violations %q, want one with %q", got, row.want)
			}
		})
	}
}

// A violation that nobody fetches fails the test.
func TestViolationFails(t *testing.T) {
	r := &recorder{}
	s := rpctest.NewServer(r)
	newWire(t, s).do("POST", "/rpc/v2/build/7/watch", "")
	for _, f := range r.cleanups {
		f()
	}
	if len(r.errors) != 1 || !strings.Contains(r.errors[0], "no such build") {
		t.Errorf("errors %q", r.errors)
	}
}

// New steps are checked as a whole.
func TestNewSteps(t *testing.T) {
	s := rpctest.NewServer(t)
	r := accepted(t, s)
	r.stage.Status, r.stage.Started = drone.StatusRunning, 100
	r.stage.Steps = []*drone.Step{{StageID: 1, ID: 5, Number: 2, Name: "x", Status: drone.StatusRunning}}
	r.put("stage", 1, &r.stage, http.StatusOK)
	got := strings.Join(s.Violations(), "\n")
	for _, want := range []string{"has the number 2, not 1", "a new step has"} {
		if !strings.Contains(got, want) {
			t.Errorf("violations %q, want %q", got, want)
		}
	}
}

// A cancel writes the states, tells who watches, and makes every later update stale.
func TestCancel(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithHold(10*time.Second))
	r := begun(t, s)
	r.start(0)
	told := make(chan int)
	go func() {
		status, _, _ := r.do("POST", "/rpc/v2/build/1/watch", "")
		told <- status
	}()
	if err := s.Until(t.Context(), 1, func(rpctest.Result) bool { return true }); err != nil {
		t.Fatal(err)
	}
	for s.Watching(1) == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Cancel(1)
	if status := <-told; status != http.StatusOK {
		t.Errorf("the watch says %d", status)
	}
	result, err := s.Wait(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	one, two := result.Step("one"), result.Step("two")
	if result.Build.Status != "killed" || result.Stage("default").Status != "killed" || one.Status != "killed" || one.ExitCode != 130 || two.Status != "skipped" {
		t.Errorf("%+v", result)
	}
	r.step(0).Status, r.step(0).Stopped = "killed", 101
	r.put("step", r.step(0).ID, r.step(0), http.StatusInternalServerError)
	r.end(http.StatusConflict)
}

// A cancel that falls between two watches is told to nobody.
func TestCancelForgotten(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithHold(20*time.Millisecond))
	r := begun(t, s)
	s.Cancel(1)
	if status, _, _ := r.do("POST", "/rpc/v2/build/1/watch", ""); status != http.StatusNoContent {
		t.Errorf("the watch says %d", status)
	}
}

// A restart forgets live logs; the update to running opens them again even if it's stale.
func TestRestart(t *testing.T) {
	s := rpctest.NewServer(t)
	r := begun(t, s)
	r.start(0)
	r.logs(0, "batch", hello, 200)
	s.Restart()
	r.c.CloseIdleConnections()
	r.logs(0, "batch", `[{"pos":1,"out":"b\n","time":0}]`, 500)
	r.step(0).Version--
	r.put("step", r.step(0).ID, r.step(0), http.StatusConflict)
	r.logs(0, "batch", `[{"pos":1,"out":"b\n","time":0}]`, 200)
}

func TestDownUp(t *testing.T) {
	s := rpctest.NewServer(t)
	w := newWire(t, s)
	s.Down()
	s.Down()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL()+"/rpc/v2/ping", nil)
	if res, err := w.c.Do(req); err == nil {
		res.Body.Close()
		t.Error("a server that is down answers")
	}
	s.Up()
	s.Up()
	if status, _, _ := w.do("POST", "/rpc/v2/ping", ""); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

// Labels match as a whole, and the platform if the runner names one.
func TestMatching(t *testing.T) {
	for _, row := range []struct {
		name, yaml, filter string
		want               int
	}{
		{"platform", "kind: pipeline\nname: x\n", filter, 200},
		{"no platform asked for", "kind: pipeline\nname: x\nplatform: {os: windows}\n", `{"kind":"pipeline","type":"docker"}`, 200},
		{"another arch", "kind: pipeline\nname: x\nplatform: {arch: arm64}\n", filter, 204},
		{"another type", "kind: pipeline\ntype: exec\nname: x\n", filter, 204},
		{"label lacking", "kind: pipeline\nname: x\nnode: {a: b}\n", filter, 204},
		{"label too many", "kind: pipeline\nname: x\n", `{"labels":{"a":"b"}}`, 204},
		{"labels", "kind: pipeline\nname: x\nnode: {a: b}\n", `{"labels":{"a":"b"}}`, 200},
		{"broken file", "a: [", filter, 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := rpctest.NewServer(t, rpctest.WithHold(10*time.Millisecond))
			s.Enqueue(rpctest.Build{YAML: row.yaml})
			if status, answer, _ := newWire(t, s).do("POST", "/rpc/v2/stage", row.filter); status != row.want {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
}

// A poll that waits gets a build that comes, and one that was offered in vain is offered again.
func TestLongPoll(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithHold(20*time.Second))
	w := newWire(t, s)
	got := make(chan int)
	go func() {
		status, _, _ := w.do("POST", "/rpc/v2/stage", filter)
		got <- status
	}()
	for len(s.Requests(rpctest.CallRequest)) == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Enqueue(rpctest.Build{})
	if status := <-got; status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if status, _, _ := w.do("POST", "/rpc/v2/stage", filter); status != http.StatusOK {
		t.Errorf("status %d when offered again", status)
	}
}

// A stage waits for what it depends on, and is skipped if that fails.
func TestDependsOn(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithHold(10*time.Millisecond))
	r := &run{wire: newWire(t, s)}
	id := s.Enqueue(rpctest.Build{YAML: "kind: pipeline\nname: a\n---\nkind: pipeline\nname: b\ndepends_on: [a]\n---\nkind: secret\nname: s\n"})
	r.post("/stage", filter, &r.stage, 200)
	r.post(fmt.Sprintf("/stage/%d?machine=m", r.stage.ID), "", &r.stage, 200)
	r.post("/stage", filter, nil, 204)
	r.stage.Status, r.stage.Started, r.stage.Stopped, r.stage.ExitCode = drone.StatusError, 100, 101, 255
	r.put("stage", r.stage.ID, &r.stage, 200)
	result, err := s.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Stages) != 2 || result.Stages[1].Status != drone.StatusSkipped || result.Build.Status != drone.StatusError {
		t.Errorf("%+v", result)
	}
}

func TestWaitObeysContext(t *testing.T) {
	s := rpctest.NewServer(t)
	id := s.Enqueue(rpctest.Build{})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := s.Wait(ctx, id); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

// Main serves outside of tests.
func TestMainTB(t *testing.T) {
	var out strings.Builder
	m := &rpctest.Main{Out: &out}
	s := rpctest.NewServer(m, rpctest.WithoutLogs())
	r := begun(t, s)
	r.start(0)
	r.logs(0, "batch", hello, 200)
	r.logs(0, "upload", hello, 200)
	if got := s.Result(1).Step("one"); got.Lines != 1 || got.Bytes != 6 || got.Log != nil {
		t.Errorf("%+v", got)
	}
	r.step(1).StageID = 9
	r.start(1)
	r.c.CloseIdleConnections()
	if m.Close() || !strings.Contains(out.String(), "stage 9") {
		t.Errorf("output %q", out.String())
	}
}
