package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick is a backoff for tests.
var quick = rpc.Backoff{Initial: time.Millisecond, Max: 5 * time.Millisecond}

// newClient makes a client of the server, with short pauses.
func newClient(t testing.TB, s *rpctest.Server, change ...func(*rpc.Options)) *rpc.Client {
	o := rpc.Options{Endpoint: s.URL(), Secret: s.Secret(), Backoff: quick}
	for _, f := range change {
		f(&o)
	}
	c := rpc.New(o)
	t.Cleanup(c.Close)
	return c
}

var linux = &client.Filter{Kind: "pipeline", Type: "docker", OS: "linux", Arch: "amd64"}

// request polls until there is work; a poll isn't repeated by the client.
func request(ctx context.Context, c *rpc.Client) (*drone.Stage, error) {
	for {
		stage, err := c.Request(ctx, linux)
		if stage != nil || ctx.Err() != nil {
			return stage, err
		}
	}
}

// life is all that a runner does with a stage of two steps, of which the second is skipped.
func life(ctx context.Context, c *rpc.Client) error {
	stage, err := request(ctx, c)
	if err != nil {
		return err
	}
	stage.Machine = "tester"
	if err := c.Accept(ctx, stage); err != nil {
		return err
	}
	if _, err := c.Detail(ctx, stage); err != nil {
		return err
	}
	stage.Status, stage.Started = drone.StatusRunning, 100
	for i, name := range []string{"one", "two"} {
		stage.Steps = append(stage.Steps, &drone.Step{StageID: stage.ID, Number: i + 1, Name: name, Status: drone.StatusPending})
	}
	if err := c.Update(ctx, stage); err != nil {
		return err
	}
	one, two := stage.Steps[0], stage.Steps[1]
	one.Status, one.Started = drone.StatusRunning, 100
	if err := c.UpdateStep(ctx, one); err != nil {
		return err
	}
	lines := []*drone.Line{{Number: 0, Message: "a\n"}, nil, {Number: 1, Message: "b", Timestamp: 1}}
	_ = c.Batch(ctx, one.ID, lines) // live lines may be missed
	if err := c.UploadCard(ctx, one.ID, &drone.CardInput{Schema: "https://example.com/s.json", Data: json.RawMessage(`{"a":1}`)}); err != nil {
		return err
	}
	one.Schema = "https://example.com/s.json"
	if err := c.UpdateStep(ctx, one); err != nil {
		return err
	}
	if err := c.Upload(ctx, one.ID, lines); err != nil {
		return err
	}
	one.Status, one.ExitCode, one.Stopped = drone.StatusFailing, 3, 102
	if err := c.UpdateStep(ctx, one); err != nil {
		return err
	}
	two.Status, two.Started, two.Stopped = drone.StatusSkipped, 102, 102
	if err := c.UpdateStep(ctx, two); err != nil {
		return err
	}
	stage.Status, stage.Stopped = drone.StatusFailing, 102
	return c.Update(ctx, stage)
}

// delivered is what the server must have in the end, whatever went wrong.
func delivered(t *testing.T, s *rpctest.Server, id int64) {
	t.Helper()
	r, err := s.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	got := r.Stages[0]
	want := rpctest.StageResult{
		Stage: drone.Stage{ID: got.ID, BuildID: id, Number: 1, Name: "default", Kind: "pipeline", Type: "docker", Status: "failure", Machine: "tester",
			OS: "linux", Arch: "amd64", Started: 100, Stopped: 102, OnSuccess: true},
		Steps: []rpctest.StepResult{{
			Step:     drone.Step{StageID: got.ID, Name: "one", Status: "failure", ExitCode: 3, Started: 100, Stopped: 102, Schema: "https://example.com/s.json"},
			Log:      []drone.Line{{Number: 0, Message: "a\n"}, {Number: 1, Message: "b", Timestamp: 1}},
			Uploaded: true, Lines: 2, Bytes: 3,
			Card: &drone.CardInput{Schema: "https://example.com/s.json", Data: json.RawMessage(`{"a":1}`)},
		}, {
			Step: drone.Step{StageID: got.ID, Name: "two", Status: "skipped", Started: 102, Stopped: 102},
		}},
	}
	if diff := cmp.Diff(want, got,
		cmpopts.IgnoreFields(drone.Stage{}, "Version", "Created", "Updated"),
		cmpopts.IgnoreFields(drone.Step{}, "Version", "ID", "Number"),
		cmpopts.IgnoreFields(rpctest.StepResult{}, "Live")); diff != "" {
		t.Errorf("the server lacks something (-want +got):\n%s", diff)
	}
}

func TestLife(t *testing.T) {
	s := rpctest.NewServer(t)
	id := s.Enqueue(rpctest.Build{})
	if err := life(t.Context(), newClient(t, s)); err != nil {
		t.Fatal(err)
	}
	delivered(t, s, id)
	if got := s.Result(id).Step("one").Live; len(got) != 2 {
		t.Errorf("live lines %v", got)
	}
}

// Whatever goes wrong with whichever call, once or thrice, before or after the server did what was
// asked: nothing is lost.
func TestFaults(t *testing.T) {
	faults := map[string]rpctest.Fault{
		"500":                {Status: 500, Body: "database is locked"},
		"500 after":          {Status: 500, Body: "database is locked", Applied: true},
		"502 page":           {Status: 502, Body: "<html>bad gateway</html>"},
		"502 after":          {Status: 502, Applied: true},
		"503":                {Status: 503},
		"429":                {Status: 429, Header: map[string]string{"Retry-After": "0"}},
		"408":                {Status: 408},
		"cut before":         {Drop: true},
		"cut after":          {Drop: true, Applied: true},
		"truncated":          {Truncate: 10},
		"404":                {Status: 404, Body: "404 page not found"},
		"page":               {Body: "<html>hello</html>"},
		"garbage":            {Body: "hello"},
		"garbage after":      {Body: "null", Applied: true},
		"empty":              {Status: 200},
		"another one's":      {Body: `{"id":77,"stage":{"id":77}}`},
		"another one's, too": {Body: `{"id":77,"stage":{"id":77}}`, Applied: true},
	}
	lies := map[string]bool{"garbage": true, "empty": true, "another one's": true}
	calls := []string{rpctest.CallAccept, rpctest.CallDetail, rpctest.CallUpdate, rpctest.CallUpdateStep, rpctest.CallUpload, rpctest.CallCard, rpctest.CallBatch}
	for name, fault := range faults {
		for _, call := range calls {
			contentless := call == rpctest.CallUpload || call == rpctest.CallCard || call == rpctest.CallBatch
			if contentless && lies[name] {
				continue // a success is all that these calls look at
			}
			for skip := range 4 {
				t.Run(fmt.Sprintf("%s/%s/%d", name, call, skip), func(t *testing.T) {
					s := rpctest.NewServer(t)
					id := s.Enqueue(rpctest.Build{})
					broken := fault
					broken.Call, broken.Skip, broken.Times = call, skip, 1+2*(skip%2)
					s.Fault(broken)
					if err := life(t.Context(), newClient(t, s)); err != nil {
						t.Fatal(err)
					}
					delivered(t, s, id)
				})
			}
		}
	}
}

// A server that goes away and comes back finds everything delivered.
func TestServerAway(t *testing.T) {
	s := rpctest.NewServer(t)
	id := s.Enqueue(rpctest.Build{})
	done := make(chan error, 1)
	go func() { done <- life(t.Context(), newClient(t, s)) }()
	for _, call := range []string{rpctest.CallAccept, rpctest.CallUpdate, rpctest.CallUpdateStep, rpctest.CallUpload} {
		for len(s.Requests(call)) == 0 && len(done) == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		s.Restart()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	delivered(t, s, id)
}

// One client serves many stages at once, while every seventh call fails in some way.
func TestManyAtOnce(t *testing.T) {
	const many = 20
	s := rpctest.NewServer(t)
	c := newClient(t, s)
	s.Fault(rpctest.Fault{Times: -1, Every: 7, Status: 500, Body: "database is locked"})
	s.Fault(rpctest.Fault{Times: -1, Every: 11, Drop: true, Applied: true})
	done := make(chan error, many)
	for range many {
		s.Enqueue(rpctest.Build{})
		go func() { done <- life(t.Context(), c) }()
	}
	for range many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for id := range int64(many) {
		delivered(t, s, id+1)
	}
}

// A first update that was applied and never answered: the steps are found in the server's record of
// the build, where everybody may read it, and are created again otherwise.
func TestLostIDs(t *testing.T) {
	for _, tc := range []struct {
		name  string
		build rpctest.Build
		lost  int
		fault rpctest.Fault // of the record
		want  []int         // the numbers of the steps
	}{
		{name: "public", lost: 1, want: []int{1, 2}},
		{name: "public, lost twice", lost: 2, want: []int{1, 2}},
		{name: "public, the record comes late", lost: 1, fault: rpctest.Fault{Call: rpctest.CallBuild, Status: 502, Times: 3}, want: []int{1, 2}},
		{name: "public, a server in private mode", lost: 1, fault: rpctest.Fault{Call: rpctest.CallBuild, Status: 401, Times: -1}, want: []int{3, 4}},
		{name: "private", build: rpctest.Build{Netrc: &drone.Netrc{Machine: "git.example.com"}}, lost: 1, want: []int{3, 4}},
		{name: "private, lost twice", build: rpctest.Build{Netrc: &drone.Netrc{Machine: "git.example.com"}}, lost: 2, want: []int{3, 4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := rpctest.NewServer(t)
			id := s.Enqueue(tc.build)
			s.Fault(rpctest.Fault{Call: rpctest.CallUpdate, Drop: true, Applied: true, Times: tc.lost})
			if tc.fault.Call != "" {
				s.Fault(tc.fault)
			}
			if err := life(t.Context(), newClient(t, s)); err != nil {
				t.Fatal(err)
			}
			delivered(t, s, id)
			var got []int
			for _, step := range s.Result(id).Stages[0].Steps {
				got = append(got, step.Number)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("the numbers of the steps (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRequestEmpty(t *testing.T) {
	s := rpctest.NewServer(t, rpctest.WithHold(time.Millisecond))
	stage, err := newClient(t, s).Request(t.Context(), linux)
	if stage != nil || err != nil {
		t.Errorf("got %v, %v", stage, err)
	}
}

func TestJoinLeave(t *testing.T) {
	s := rpctest.NewServer(t)
	var c client.Client = newClient(t, s)
	if c.Join(t.Context(), "m") != nil || c.Leave(t.Context(), "m") != nil || c.Ping(t.Context(), "m") != nil {
		t.Error("they fail")
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests, want the ping alone", n)
	}
}

// Details have what everybody relies on, and none of the lists holds nil.
func TestDetail(t *testing.T) {
	s := rpctest.NewServer(t)
	s.Enqueue(rpctest.Build{YAML: "kind: pipeline\nname: x\n", Secrets: map[string]string{"a": "b"}, Netrc: &drone.Netrc{Machine: "m"}})
	c := newClient(t, s)
	d, err := c.Detail(t.Context(), &drone.Stage{ID: 1})
	if err != nil {
		t.Fatal(err)
	}
	if string(d.Config.Data) != "kind: pipeline\nname: x\n" || d.Netrc.Machine != "m" || d.Secrets[0].Data != "b" || d.Repo.Timeout != 60 || d.Stage.Name != "x" {
		t.Errorf("%+v", d)
	}
	for body, want := range map[string]string{
		`{"stage":{"id":1}}`:                            `no "build"`,
		`{"stage":{"id":1},"build":{}}`:                 `no "repository"`,
		`{"stage":{"id":1},"build":{},"repository":{}}`: `no "config"`,
		`{"stage":{"id":1,"steps":[null]},"build":{"stages":[null]},"repository":{},"config":{},"secrets":[null]}`: "",
	} {
		s.Fault(rpctest.Fault{Body: body})
		d, err := c.Detail(t.Context(), &drone.Stage{ID: 1})
		switch {
		case want == "" && (err != nil || d.System == nil || len(d.Secrets) != 0 || len(d.Stage.Steps) != 0 || len(d.Build.Stages) != 0):
			t.Errorf("%s: %+v, %v", body, d, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: error %v, want %q", body, err, want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for _, row := range []struct{ endpoint, want string }{
		{"", "neither http nor https"},
		{"drone.example.com", "neither http nor https"},
		{"ftp://host", "neither http nor https"},
		{"http://", "names no host"},
		{"http://u:hidden@host:port/", "malformed"},
		{"http://host/?a=b", "has a query"},
	} {
		err := rpc.New(rpc.Options{Endpoint: row.endpoint}).Ping(t.Context(), "")
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "DRONE_RPC_HOST") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", row.endpoint, err)
		}
	}
}

// ExampleClient_UploadFrom shows where a log that lies in a file comes from.
func ExampleClient_UploadFrom() {
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(`[{"pos":0,"out":"hi\n","time":0}]`)), nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := rpc.New(rpc.Options{Endpoint: "http://drone.example.com"}).UploadFrom(ctx, 1, open)
	fmt.Println(err)
	// Output: upload the log of step 1: context canceled
}
