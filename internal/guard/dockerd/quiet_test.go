package dockerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
)

// talker is a daemon with one log that is followed: a line for each text that it is given; an empty
// one is the end.
type talker struct {
	lines chan string
	asked chan struct{}
}

func (d *talker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/version" {
		_, _ = io.WriteString(w, `{"ApiVersion":"1.41","MinAPIVersion":"1.12"}`)
		return
	}
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	d.asked <- struct{}{}
	for {
		select {
		case line := <-d.lines:
			if line == "" {
				return
			}
			_, _ = io.WriteString(w, line)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// TestQuiet: a log comes line by line, whole, and ends; whoever gives up isn't held; and the places
// that a log takes come back.
func TestQuiet(t *testing.T) {
	dir := t.TempDir()
	d := &talker{lines: make(chan string), asked: make(chan struct{}, 1)}
	socket := filepath.Join(dir, "d")
	serveUnix(t, socket, d)
	u := New(socket, apiversion.Range{Oldest: "1.24", Newest: "1.51"})
	defer u.Close()
	logs := Request{Method: http.MethodGet, Path: "/containers/a/logs"}
	open := func(ctx context.Context) *http.Response {
		t.Helper()
		resp, err := u.Do(ctx, logs)
		if err != nil {
			t.Fatal(err)
		}
		<-d.asked
		return resp
	}
	free := func() {
		t.Helper()
		if !u.quiets.TryAcquire(mostQuiet) {
			t.Fatal("a place for a log is taken by none")
		}
		u.quiets.Release(mostQuiet)
	}

	resp := open(t.Context())
	if _, ok := resp.Body.(*quietBody); !ok {
		t.Fatalf("the log is read by %T", resp.Body)
	}
	var got strings.Builder
	for i := range 3 {
		line := fmt.Sprintf("line %d\n", i)
		d.lines <- line
		b := make([]byte, 100)
		n, err := resp.Body.Read(b)
		if err != nil || string(b[:n]) != line {
			t.Fatalf("got %q, %v; want %q at once", b[:n], err, line)
		}
		got.Write(b[:n])
	}
	d.lines <- ""
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("the end is %q, %v", rest, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	free()

	// In the middle of a read that nothing comes for.
	ctx, cancel := context.WithCancel(t.Context())
	resp = open(ctx)
	var reading errgroup.Group
	reading.Go(func() error {
		_, err := io.ReadAll(resp.Body)
		return err
	})
	cancel()
	if err := reading.Wait(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the log of whoever gave up ends with %v, want it to be cut short", err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	free()

	// More logs than places are read in the ordinary way.
	var bodies []io.Closer
	ordinary := 0
	for range mostQuiet + 2 {
		resp := open(t.Context())
		if _, ok := resp.Body.(*quietBody); !ok {
			ordinary++
		}
		bodies = append(bodies, resp.Body)
	}
	for _, b := range bodies {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if ordinary != 2 {
		t.Errorf("%d logs were read in the ordinary way, want 2", ordinary)
	}
	free()

	// Daemons that aren't there, or hang up before they answer.
	if _, err := New(filepath.Join(dir, "none"), apiversion.Range{Oldest: "1.24", Newest: "1.51"}).Do(t.Context(), Request{Method: http.MethodGet, Path: "/containers/a/logs", Version: "1.41"}); err == nil {
		t.Error("a daemon that isn't there answers")
	}
	l, err := net.Listen("unix", filepath.Join(dir, "rude"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.Close() // before it has read the question
		}
	}()
	rude := New(filepath.Join(dir, "rude"), apiversion.Range{Oldest: "1.24", Newest: "1.51"})
	if _, err := rude.Do(t.Context(), Request{Method: http.MethodGet, Path: "/containers/a/logs", Version: "1.41"}); err == nil || !strings.Contains(err.Error(), "/containers/a/logs") {
		t.Errorf("a daemon that hangs up: %v", err)
	}
	if !rude.quiets.TryAcquire(mostQuiet) {
		t.Error("the failed log still has its place")
	}
}

// serveUnix serves h at a unix socket.
func serveUnix(t testing.TB, path string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { _ = s.Close(); done.Wait() })
}
