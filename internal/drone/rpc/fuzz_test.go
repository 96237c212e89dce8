package rpc

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
)

// canned answers every request alike.
type canned struct {
	status int
	body   []byte
}

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = req.Body.Close()
	}
	return &http.Response{StatusCode: c.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(c.body)), Request: req}, nil
}

// FuzzAnswers has every call meet whatever a server may answer: it fails with an error that says
// something, or brings back what its caller may rely on. Nothing panics.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{
		"", "null", "[]", "{}", `{"id":1}`, `{"id":1,"steps":[null,{"id":2,"number":1,"version":3}]}`, `{"id":1,"version":9223372036854775807}`,
		`{"stage":{"id":1,"status":"running","machine":"m","version":5,"steps":[null]},"build":{"stages":[null,{"id":1}]},"repository":{},"config":{"Data":"YQ=="}}`,
		`{"stage":{"id":1,"status":"success"},"secrets":[null]}`, `{"stage":null}`, `{"config":{"Data":"%"}}`, "<html>", "Optimistic Lock Error",
		"stream: not found", "sql: no rows in result set", "UNIQUE constraint failed: logs.log_id", `{"message":"` + "\xff" + `"}`, "12345678901",
	} {
		for _, status := range []int{200, 204, 302, 401, 409, 429, 500} {
			f.Add(status, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			status = 200 + int(uint(status)%400)
		}
		c := New(Options{Endpoint: "http://drone.example.com", Dump: io.Discard, DumpBody: true,
			Backoff: Backoff{Initial: time.Nanosecond, Max: time.Nanosecond, Tries: 2}})
		c.http.Transport = canned{status, body}
		ctx := t.Context()
		check := func(err error) {
			if err != nil && (err.Error() == "" || len(err.Error()) > 2000+len(body)) {
				t.Errorf("the error of %d bytes %.100q", len(err.Error()), err)
			}
		}
		stage, err := c.Request(ctx, &client.Filter{})
		check(err)
		if err == nil && stage != nil && stage.ID <= 0 {
			t.Errorf("stage %+v", stage)
		}
		d, err := c.Detail(ctx, &drone.Stage{ID: 1})
		check(err)
		if err == nil && (d.Build == nil || d.Stage == nil || d.Config == nil || d.Repo == nil || d.System == nil) {
			t.Errorf("details %+v", d)
		}
		for _, status := range []string{drone.StatusRunning, drone.StatusPassing} {
			stage := &drone.Stage{ID: 1, Machine: "m", Status: status, Steps: []*drone.Step{nil, {Number: 1, Name: "one"}}}
			if err := c.Update(ctx, stage); err == nil && status == drone.StatusRunning && stage.Steps[1].ID == 0 {
				t.Error("a step without an id")
			}
		}
		step := &drone.Step{ID: 1, StageID: 1}
		for _, err := range []error{
			c.Ping(ctx, ""),
			c.Accept(ctx, &drone.Stage{ID: 1, Machine: "m"}),
			c.UpdateStep(ctx, step),
			c.Batch(ctx, 1, []*drone.Line{{Message: "x\n"}}),
			c.Upload(ctx, 1, []*drone.Line{{Message: "x\n"}}),
			c.UploadCard(ctx, 1, &drone.CardInput{Data: json.RawMessage(`{}`)}),
		} {
			check(err)
		}
		_, err = c.Watch(ctx, 1)
		check(err)
	})
}

// A Retry-After is seconds or a date, and never longer than two minutes.
func TestRetryAfterHeader(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "x": 0, "-1": 0, "0": 0, "3": 3 * time.Second, "99999": 2 * time.Minute, "99999999999999999999": 0,
		"Thu, 01 Jan 1970 00:00:00 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": 2 * time.Minute,
	} {
		if got := retryAfter(&http.Response{Header: http.Header{"Retry-After": {value}}}); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
