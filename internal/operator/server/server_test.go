package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server until the test ends, and returns its URL and the way to stop it, which
// returns what Run did.
func start(t *testing.T, parts ...server.Part) (url string, stop func() error) {
	t.Helper()
	s, err := server.New("127.0.0.1:0", parts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-result
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if !stopped {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return "http://" + s.Addr().String(), stop
}

func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestRoutes(t *testing.T) {
	url, _ := start(t, server.Part{Pattern: "GET /metrics", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "up 1")
	})})
	tests := []struct {
		name, method, path, body string
		status                   int
	}{
		{"health", "GET", "/healthz", `{"status":"ok"}`, 200},
		{"health by HEAD", "HEAD", "/healthz", "", 200},
		{"health isn't written to", "POST", "/healthz", "Method Not Allowed", 405},
		{"a part", "GET", "/metrics", "up 1", 200},
		{"nothing", "GET", "/nothing", "404 page not found", 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body := get(t, tt.method, url+tt.path)
			if status != tt.status || strings.TrimSpace(body) != tt.body {
				t.Errorf("got %d %q, want %d %q", status, body, tt.status, tt.body)
			}
		})
	}
}

func TestNewFailsAtOnceWhenTheAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, err = server.New(taken.Addr().String())
	if err == nil {
		t.Fatal("New succeeded at an address that is taken")
	}
	for _, want := range []string{taken.Addr().String(), "address already in use", "DRONE_HTTP_BIND"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q doesn't mention %q", err, want)
		}
	}
}

func TestRunLetsAnswersEnd(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	url, stop := start(t, server.Part{Pattern: "/slow", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = io.WriteString(w, "done")
	})})
	body := make(chan string, 1)
	go func() {
		res, err := http.Get(url + "/slow")
		if err != nil {
			body <- err.Error()
			return
		}
		data, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		body <- string(data)
	}()
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("Run returned %v before the answer was given", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := <-body; got != "done" {
		t.Errorf("the answer is %q", got)
	}
}

func TestRunEndsWithTheContextOfItsHandlers(t *testing.T) {
	begun := make(chan struct{})
	url, stop := start(t, server.Part{Pattern: "/stream", Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if res, err := http.Get(url + "/stream"); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-begun
	if err := stop(); err != nil {
		t.Error(err)
	}
	<-gone
}

func TestRunReportsALostListener(t *testing.T) {
	s, err := server.New("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run returned nil without having been stopped")
	}
}
