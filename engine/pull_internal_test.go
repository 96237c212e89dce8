package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

func TestPullsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flights atomic.Int32
		var p pulls
		p.pull = func(ctx context.Context, what pull, say func(string)) error {
			flights.Add(1)
			say("begin")
			select {
			case <-time.After(time.Minute):
				say("end")
				return errors.New("as the test wants")
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		type result struct {
			lines []string
			err   error
		}
		results := make(chan result)
		do := func(ctx context.Context, image string) {
			var r result
			r.err = p.do(ctx, pull{Image: image}, func(line string) { r.lines = append(r.lines, line) })
			results <- r
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go do(impatient, "a") // the first to come is the first to go
		synctest.Wait()
		go do(t.Context(), "a")
		go do(t.Context(), "b")
		time.Sleep(30 * time.Second)
		go do(t.Context(), "a")

		if r := <-results; !errors.Is(r.err, context.DeadlineExceeded) || !slices.Equal(r.lines, []string{"begin"}) {
			t.Errorf("the impatient: %+v", r)
		}
		for range 3 {
			if r := <-results; r.err == nil || r.err.Error() != "as the test wants" || !slices.Equal(r.lines, []string{"begin", "end"}) {
				t.Errorf("a patient one: %+v", r)
			}
		}
		if flights.Load() != 2 {
			t.Errorf("%d pulls, want one for a and one for b", flights.Load())
		}
	})
}

func TestPullEndsWithItsLastCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pulls
		ended := false
		p.pull = func(ctx context.Context, _ pull, _ func(string)) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.do(ctx, pull{}, nil); !errors.Is(err, context.DeadlineExceeded) || !ended {
			t.Errorf("error %v, ended %t", err, ended)
		}
		if err := p.do(ctx, pull{}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

func TestPullFailures(t *testing.T) {
	const image = "registry.example/team/tool:1"
	for _, row := range []struct {
		err  string
		want failure
		says string
	}{
		{"pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", failedDenied, "wants credentials and none are given"},
		{"unauthorized: authentication required", failedDenied, "image_pull_secrets"},
		{`Head "https://registry.example/v2/": no basic auth credentials`, failedDenied, "DRONE_DOCKER_CONFIG"},
		{"unexpected status from HEAD request to https://x: 403 Forbidden", failedDenied, ""},
		{"manifest for x not found: manifest unknown", failedAbsent, "check repository and tag"},
		{`unknown: {"errors":[{"code":"MANIFEST_UNKNOWN","message":"Unknown manifest"}]}`, failedAbsent, ""},
		{`unknown: {"errors":[{"code":"NAME_UNKNOWN","message":"Unknown name"}]}`, failedAbsent, ""},
		{`unknown: {"errors":[{"code":"DENIED","message":"no"}]}`, failedDenied, ""},
		{"no matching manifest for linux/amd64 in the manifest list entries", failedAbsent, ""},
		{"received unexpected HTTP status: 502 Bad Gateway", failedForNow, "can't be reached"},
		{"dial tcp: lookup registry.example: no such host", failedForNow, "registry.example"},
		{"net/http: TLS handshake timeout", failedForNow, ""},
		{"read: connection reset by peer", failedForNow, ""},
		{"toomanyrequests: You have reached your pull rate limit", failedForNow, "mirror"},
	} {
		t.Run(row.err, func(t *testing.T) {
			err := errors.New(row.err)
			if got := pullFailure(err); got != row.want {
				t.Errorf("kind %d, want %d", got, row.want)
			}
			got := explainPull(pull{Image: image}, err)
			if !errors.Is(got, err) || !strings.Contains(got.Error(), row.says) || !strings.Contains(got.Error(), image) {
				t.Errorf("it says %q", got)
			}
		})
	}
	if explainPull(pull{}, nil) != nil {
		t.Error("success is explained")
	}
}

func TestPullProgressIsAFewLines(t *testing.T) {
	var got []string
	p := newPullProgress(true, func(line string) { got = append(got, line) })
	for _, m := range []jsonmessage.JSONMessage{
		{Status: "Pulling from team/tool", ID: "1"},
		{Status: "Pulling fs layer", ID: "aaa"},
		{Status: "Waiting", ID: "aaa"},
		{Status: "Downloading", ID: "aaa"},
		{Status: "Downloading", ID: "aaa"},
		{Status: "Verifying Checksum", ID: "aaa"},
		{Status: "Download complete", ID: "aaa"},
		{Status: "Download complete", ID: "aaa"},
		{Status: "Extracting", ID: "aaa"},
		{Status: "Pull complete", ID: "aaa"},
		{Status: "Digest: sha256:1"},
		{Status: "Status: Downloaded newer image"},
		{},
	} {
		p.show(m)
	}
	want := []string{"1: Pulling from team/tool", "aaa: Pulling fs layer", "aaa: Download complete", "aaa: Pull complete", "Digest: sha256:1", "Status: Downloaded newer image"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestRegistryAuth(t *testing.T) {
	for _, row := range []struct{ image, server string }{
		{"docker.io/library/alpine:3", "https://index.docker.io/v1/"},
		{"alpine", "https://index.docker.io/v1/"},
		{"ghcr.io/a/b:1", "ghcr.io"},
		{"localhost:5000/a", "localhost:5000"},
	} {
		header, err := registryAuth(pull{Image: row.image, Auth: spec.Auth{Address: "other.example", Username: "jane", Password: "s3cret"}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := registry.DecodeAuthConfig(header)
		if err != nil || got.Username != "jane" || got.Password != "s3cret" || got.ServerAddress != row.server {
			t.Errorf("%s: %+v, %v", row.image, got, err)
		}
	}
	if header, err := registryAuth(pull{Image: "alpine"}); header != "" || err != nil {
		t.Errorf("anonymous: %q, %v", header, err)
	}
	// Nothing that prints a pull prints a password.
	if text := fmt.Sprintf("%v %+v %#v", pull{Auth: spec.Auth{Password: "s3cret"}}, pull{Auth: spec.Auth{Password: "s3cret"}}, pull{Auth: spec.Auth{Password: "s3cret"}}); strings.Contains(text, "s3cret") {
		t.Error(text)
	}
}

func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct {
			name    string
			timeout time.Duration
			cancel  time.Duration // of the parent; 0 never
			want    time.Duration
		}{
			{"its own end", time.Minute, 0, time.Minute},
			{"grace after the parent's", time.Minute, time.Second, 11 * time.Second},
			{"its own end within the grace", 5 * time.Second, time.Second, 5 * time.Second},
			{"no end of its own", 0, time.Hour, time.Hour + 10*time.Second},
		} {
			parent, cancel := context.WithCancel(t.Context())
			if row.cancel > 0 {
				time.AfterFunc(row.cancel, cancel)
			}
			ctx, stop := linger(parent, row.timeout, 10*time.Second)
			begin := time.Now()
			<-ctx.Done()
			if got := time.Since(begin); got != row.want {
				t.Errorf("%s: it ended after %s, want %s", row.name, got, row.want)
			}
			stop()
			cancel()
		}
	})
}

func TestAddressPools(t *testing.T) {
	for text, want := range map[string]bool{
		"Error response from daemon: could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network": true,
		"Error response from daemon: all predefined address pools have been fully subnetted":                                                     true,
		"Error response from daemon: something else":                                                                                             false,
	} {
		if got := addressPoolsExhausted(errors.New(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
