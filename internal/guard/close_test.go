package guard

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestCloseWaitsForCreation: whoever removes the build's objects after Close must find what was
// being created.
func TestCloseWaitsForCreation(t *testing.T) {
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	started, finish := make(chan struct{}), make(chan struct{})
	var created atomic.Bool
	world := &fakeDaemon{version: "1.41"}
	serveUnix(t, filepath.Join(dir, "d"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/containers/create") {
			close(started)
			<-finish
			created.Store(true)
		}
		world.ServeHTTP(w, r)
	}))
	g, err := New(Options{ID: fakeID, OwnerLabel: fakeOwner, Labels: map[string]string{fakeOwner: fakeID}, Network: fakeID, Daemon: filepath.Join(dir, "d")})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "g")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { _ = g.Serve(t.Context(), l) })
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 15\r\n\r\n{\"Image\":\"img\"}"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-started:
	case <-time.After(time.Minute):
		t.Fatal("the daemon isn't asked for a container")
	}
	_ = conn.Close() // the client doesn't wait
	closed := make(chan error)
	go func() { closed <- g.Close() }()
	select {
	case <-closed:
		t.Error("Close doesn't wait")
	default:
	}
	close(finish)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if !created.Load() {
		t.Error("Close returned before the container was created")
	}
	done.Wait()
}
