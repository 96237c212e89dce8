package rpctest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// sample is a request to a real Drone 2.25.0 and what it answered.
type sample struct {
	Method       string          `json:"method"`
	Path         string          `json:"path"`
	Status       int             `json:"status"`
	Request      json.RawMessage `json:"request"`
	RequestText  string          `json:"request_text"`
	Response     json.RawMessage `json:"response"`
	ResponseText string          `json:"response_text"`
}

func samples(t *testing.T) map[string]sample {
	t.Helper()
	data, err := os.ReadFile("testdata/wire.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]sample
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// wire sends plain requests, as any HTTP client could.
type wire struct {
	t *testing.T
	s *rpctest.Server
	c *http.Client
}

func newWire(t *testing.T, s *rpctest.Server) *wire {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &wire{t: t, s: s, c: &http.Client{Transport: transport}}
}

func (w *wire) do(method, path, body string) (int, string, http.Header) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.s.URL()+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("X-Drone-Token", w.s.Secret())
	res, err := w.c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, string(answer), res.Header
}

// replay sends a sample's request and wants its status; the answer comes back.
func (w *wire) replay(name string, sm sample) string {
	w.t.Helper()
	body := string(sm.Request) + sm.RequestText
	status, answer, _ := w.do(sm.Method, sm.Path, body)
	if status != sm.Status {
		w.t.Fatalf("%s: status %d, a real server %d: %s", name, status, sm.Status, answer)
	}
	if sm.ResponseText != "" && strings.TrimSpace(answer) != strings.TrimSpace(sm.ResponseText) {
		w.t.Errorf("%s: %q, a real server %q", name, answer, sm.ResponseText)
	}
	return answer
}

// same wants equal JSON, but for the time of the last change.
func same(t *testing.T, name string, got string, want json.RawMessage) {
	t.Helper()
	a, b := parse(t, got), parse(t, string(want))
	for _, doc := range []map[string]any{a, b} {
		delete(doc, "updated")
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("%s differs from a real server's (-real +ours):\n%s", name, diff)
	}
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return doc
}

// shape is a document with its values replaced by their types, and lists by their first element.
// Numbers and strings are enough to tell types.
func shape(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, inner := range v {
			if key != "pull_request" { // of some secrets only
				out[key] = shape(inner)
			}
		}
		return out
	case []any:
		if len(v) > 0 {
			return []any{shape(v[0])}
		}
		return []any{}
	case float64:
		return "number"
	case string:
		return "text"
	}
	return value
}

func sameShape(t *testing.T, name string, got string, want json.RawMessage) {
	t.Helper()
	a, b := shape(parse(t, got)), shape(parse(t, string(want)))
	dropBools(a)
	dropBools(b)
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("%s has another shape than a real server's (-real +ours):\n%s", name, diff)
	}
}

// dropBools makes all booleans true: their values are no part of the shape.
func dropBools(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if _, ok := inner.(bool); ok {
				v[key] = true
			}
			dropBools(inner)
		}
	case []any:
		for _, inner := range v {
			dropBools(inner)
		}
	}
}

// The life of the first sampled stage, request by request, is answered as the real server did.
func TestWireLife(t *testing.T) {
	all := samples(t)
	s := rpctest.NewServer(t, rpctest.WithHold(20*time.Millisecond))
	w := newWire(t, s)
	w.replay("ping", all["ping"])

	file := configOf(t, all["detail public"].Response)
	s.Enqueue(rpctest.Build{YAML: file, Trusted: true})
	sameShape(t, "request", w.replay("request", all["request"]), all["request"].Response)
	sameShape(t, "accept", w.replay("accept", all["accept"]), all["accept"].Response)
	w.replay("request empty", all["request empty"])
	sameShape(t, "detail public", w.replay("detail public", all["detail public"]), all["detail public"].Response)
	same(t, "update running", w.replay("update running", all["update running"]), all["update running"].Response)
	same(t, "step running", w.replay("step running", all["step running"]), all["step running"].Response)
	w.replay("batch", all["batch"])
	w.replay("upload", all["upload"])
	same(t, "step success", w.replay("step success", all["step success"]), all["step success"].Response)
	if v := s.Violations(); len(v) > 0 {
		t.Errorf("what the reference runner does is said to be wrong: %q", v)
	}
	w.replay("step stale", all["step stale"])
	w.replay("upload twice", all["upload twice"])
	w.replay("accept unknown", all["accept unknown"])
	again := all["accept taken"]
	again.Path = "/rpc/v2/stage/1?machine=peer"
	w.replay("accept taken", again)
	w.replay("card garbage", all["card garbage"])
	s.Violations() // those last requests are wrong on purpose
}

func configOf(t *testing.T, response json.RawMessage) string {
	t.Helper()
	var d struct{ Config struct{ Data []byte } }
	if err := json.Unmarshal(response, &d); err != nil {
		t.Fatal(err)
	}
	return string(d.Config.Data)
}

// The second sampled build: private, with secrets, a card, a failing step and a stage that waits.
func TestWirePrivate(t *testing.T) {
	all := samples(t)
	s := rpctest.NewServer(t, rpctest.WithHold(20*time.Millisecond))
	w := newWire(t, s)
	s.Enqueue(rpctest.Build{
		YAML: configOf(t, all["detail private"].Response), Secrets: map[string]string{"mysecret": "s3cr3tvalue", "multi": "line-one\nline-two"},
		Netrc: &drone.Netrc{Machine: "git.example.com", Login: "scm-token", Password: "x-oauth-basic"},
	})
	// The samples' ids count from the build before.
	renumber := func(sm sample) sample {
		sm.Request = bytes.ReplaceAll(sm.Request, []byte(`"build_id": 2`), []byte(`"build_id": 1`))
		return sm
	}
	w.replay("request", all["request"])
	accept := all["accept"]
	w.replay("accept", accept)
	detail := all["detail private"]
	detail.Path = "/rpc/v2/stage/1"
	sameShape(t, "detail private", w.replay("detail private", detail), detail.Response)

	failure := renumber(all["update failure"])
	var final drone.Stage
	if err := json.Unmarshal(failure.Request, &final); err != nil {
		t.Fatal(err)
	}
	running := final
	running.ID, running.Version, running.Status, running.Stopped, running.Steps = 1, 2, drone.StatusRunning, 0, nil
	for _, step := range final.Steps {
		running.Steps = append(running.Steps, &drone.Step{StageID: 1, Number: step.Number, Name: step.Name, Status: drone.StatusPending})
	}
	body, err := json.Marshal(running)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer, _ := w.do("PUT", "/rpc/v2/stage/1", string(body)); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	final.ID = 1
	for i, step := range final.Steps {
		step.ID, step.StageID, step.Version, step.Schema = int64(i+1), 1, 1, ""
	}
	body, err = json.Marshal(final)
	if err != nil {
		t.Fatal(err)
	}
	status, answer, _ := w.do("PUT", "/rpc/v2/stage/1", string(body))
	if status != http.StatusOK {
		t.Fatal(status, answer)
	}
	got, want := parse(t, answer), parse(t, string(failure.Response))
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		t.Errorf("the keys of a final stage are %q, a real server's %q", g, w)
	}
	// The stage behind it runs on failure too, so it is offered now.
	if status, answer, _ := w.do("POST", "/rpc/v2/stage", string(all["request"].Request)); status != http.StatusOK || parse(t, answer)["name"] != "second" {
		t.Errorf("after the failure the poll says %d %s", status, answer)
	}
}

func TestWireUnauthorized(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithSecret("another"))
	w := newWire(t, s)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL()+"/rpc/v2/stage", strings.NewReader("{}"))
	req.Header.Set("X-Drone-Token", "wrong")
	res, err := w.c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", res.StatusCode)
	}
	for _, path := range []string{"/rpc/v2/nodes/peer", "/", "/rpc/v2/stage/x"} {
		if status, _, _ := w.do("POST", path, ""); status != http.StatusNotFound {
			t.Errorf("%s: status %d", path, status)
		}
	}
}

// JSON comes as text/plain, uncached.
func TestWireHeaders(t *testing.T) {
	s := rpctest.NewServer(t)
	s.Enqueue(rpctest.Build{})
	_, _, h := newWire(t, s).do("POST", "/rpc/v2/stage", `{"kind":"pipeline","type":"docker","os":"","arch":"","variant":"","kernel":""}`)
	if got := h.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	if got := h.Get("X-Accel-Expires"); got != "0" {
		t.Errorf("X-Accel-Expires %q", got)
	}
}
