package server_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/server"
)

func TestReadiness(t *testing.T) {
	var daemon error
	r := server.NewReadiness("starting", map[string]string{"sandbox": "none"})
	url, _ := start(t, r.Part(func() error { return daemon }))
	expect := func(status int, parts ...string) {
		t.Helper()
		got, body := get(t, http.MethodGet, url+"/readyz")
		if got != status {
			t.Errorf("status %d, want %d: %s", got, status, body)
		}
		for _, want := range append(parts, `"sandbox":"none"`) {
			if !strings.Contains(body, want) {
				t.Errorf("the answer lacks %s: %s", want, body)
			}
		}
	}
	expect(http.StatusServiceUnavailable, `"status":"not ready"`, `"reason":"starting"`)
	r.Ready()
	expect(http.StatusOK, `"status":"ready"`)
	daemon = errors.New("the Docker daemon stopped")
	expect(http.StatusServiceUnavailable, "the Docker daemon stopped")
	daemon = nil
	r.NotReady("draining")
	expect(http.StatusServiceUnavailable, `"reason":"draining"`)
}

// What the Drone server says is the reason: at once at the start, and later once it says so
// repeatedly.
func TestReadinessFollowsTheServer(t *testing.T) {
	r := server.NewReadiness("starting", nil)
	url, _ := start(t, r.Part(nil))
	expect := func(status int, want string) {
		t.Helper()
		if got, body := get(t, http.MethodGet, url+"/readyz"); got != status || !strings.Contains(body, want) {
			t.Errorf("status %d, want %d with %s: %s", got, status, want, body)
		}
	}
	wrong := errors.New("DRONE_RPC_SECRET is wrong")
	r.Answered(wrong)
	expect(http.StatusServiceUnavailable, "DRONE_RPC_SECRET is wrong")
	r.Answered(nil)
	expect(http.StatusOK, "ready")
	for range 2 {
		r.Answered(wrong)
		expect(http.StatusOK, "ready")
	}
	r.Answered(nil)
	r.Answered(wrong)
	r.Answered(wrong)
	expect(http.StatusOK, "ready")
	r.Answered(wrong)
	expect(http.StatusServiceUnavailable, "DRONE_RPC_SECRET is wrong")
	r.Answered(nil)
	expect(http.StatusOK, "ready")
}
