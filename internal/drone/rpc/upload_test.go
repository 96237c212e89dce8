package rpc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// source counts how often it was opened and closed. It hides what it reads from: the length isn't
// known.
type source struct {
	text         string
	opened, open atomic.Int32
	overlap      atomic.Bool
}

func (s *source) Open() (io.ReadCloser, error) {
	s.opened.Add(1)
	if s.open.Add(1) > 1 {
		s.overlap.Store(true)
	}
	return &reading{Reader: strings.NewReader(s.text), s: s}, nil
}

type reading struct {
	io.Reader
	s      *source
	closed atomic.Bool
}

func (r *reading) Read(p []byte) (int, error) {
	if r.closed.Load() {
		return 0, errors.New("read after close")
	}
	return struct{ io.Reader }{r.Reader}.Read(p)
}

func (r *reading) Close() error {
	if !r.closed.Swap(true) {
		r.s.open.Add(-1)
	}
	return nil
}

// bigLog is a log of more than three megabytes.
func bigLog() string {
	var b strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&b, `,{"pos":%d,"out":"this is line number %d of many, with some more text\n","time":0}`, i, i)
	}
	return "[" + b.String()[1:] + "]"
}

// A log is opened anew for each attempt, closed before the next, and arrives whole.
func TestUploadFrom(t *testing.T) {
	for name, fault := range map[string]*rpctest.Fault{
		"no fault":   nil,
		"cut":        {Drop: true, Times: 2},
		"cut after":  {Drop: true, Applied: true},
		"502":        {Status: 502, Times: 2},
		"500 after":  {Status: 500, Applied: true},
		"duplicate":  {Status: 500, Body: "pq: duplicate key value violates unique constraint \"logs_pkey\"", Applied: true},
		"duplicate2": {Status: 500, Body: "Error 1062: Duplicate entry '7' for key 'PRIMARY'", Applied: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a server that cuts a large body takes half a second to hang up
			s := rpctest.NewServer(t)
			id := s.Enqueue(rpctest.Build{})
			c := newClient(t, s)
			stage := running(t, c)
			src := &source{text: bigLog()}
			if fault != nil {
				fault.Call = rpctest.CallUpload
				s.Fault(*fault)
			}
			if err := c.UploadFrom(t.Context(), stage.Steps[0].ID, src.Open); err != nil {
				t.Fatal(err)
			}
			if got := s.Result(id).Step("one"); got.Lines != 40000 {
				t.Errorf("%d lines arrived", got.Lines)
			}
			if src.open.Load() != 0 || src.overlap.Load() {
				t.Errorf("%d are open, overlap %v", src.open.Load(), src.overlap.Load())
			}
			if want := int32(len(s.Requests(rpctest.CallUpload))); src.opened.Load() != want {
				t.Errorf("opened %d times for %d requests", src.opened.Load(), want)
			}
		})
	}
}

// A source that can't be opened or read is the caller's trouble: it is told at once.
func TestUploadSourceFails(t *testing.T) {
	s := rpctest.NewServer(t)
	s.Enqueue(rpctest.Build{})
	c := newClient(t, s)
	stage := running(t, c)
	broken := errors.New("the disk is gone")
	for name, open := range map[string]func() (io.ReadCloser, error){
		"open": func() (io.ReadCloser, error) { return nil, broken },
		"read": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(bigLog()[:100000]), failing{broken})), nil
		},
	} {
		if err := c.UploadFrom(t.Context(), stage.Steps[0].ID, open); !errors.Is(err, broken) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if s.Result(1).Step("one").Uploaded {
		t.Error("half a log was taken for whole")
	}
	s.Violations() // one of them is the half log
	stage.Steps[0].Status, stage.Steps[0].Stopped = drone.StatusPassing, 1
	if err := c.UpdateStep(t.Context(), stage.Steps[0]); err != nil {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A known length is announced; a large body asks for leave before it is sent, and a refusal then is
// told as such.
func TestUploadLength(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	var length atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		length.Store(r.ContentLength)
		if r.ContentLength > 1<<20 {
			// Not one byte of the body is read, as with a proxy that looks at the header alone.
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}))
	defer server.Close()
	c := rpc.New(rpc.Options{Endpoint: server.URL + "/"})
	defer c.Close()
	for _, row := range []struct {
		name string
		open func() (io.ReadCloser, error)
		want int64
		err  error
	}{
		{"file", func() (io.ReadCloser, error) { return os.Open(file) }, 2, nil},
		{"rest of a file", func() (io.ReadCloser, error) {
			f, err := os.Open(file)
			if err == nil {
				_, err = f.Seek(1, io.SeekStart)
			}
			return f, err
		}, 1, nil},
		{"stream", (&source{text: "[]"}).Open, -1, nil},
		{"large", func() (io.ReadCloser, error) { return large{bytes.NewReader(make([]byte, 50<<20))}, nil }, 50 << 20, rpc.ErrTooLarge},
	} {
		if err := c.UploadFrom(t.Context(), 1, row.open); !errors.Is(err, row.err) {
			t.Errorf("%s: error %v", row.name, err)
		}
		if got := length.Load(); got != row.want {
			t.Errorf("%s: the length is %d, want %d", row.name, got, row.want)
		}
	}
}

type large struct{ *bytes.Reader }

func (large) Close() error { return nil }

// A server below a path is found there.
func TestPrefix(t *testing.T) {
	var path atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { path.Store(r.URL.RequestURI()) }))
	defer server.Close()
	c := rpc.New(rpc.Options{Endpoint: server.URL + "/drone/"})
	defer c.Close()
	if err := c.Ping(t.Context(), ""); err != nil || path.Load() != "/drone/rpc/v2/ping" {
		t.Errorf("%v, %v", path.Load(), err)
	}
}

// A certificate that nobody vouches for is refused, with advice, and accepted on demand.
func TestSkipVerify(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	strict := rpc.New(rpc.Options{Endpoint: server.URL})
	defer strict.Close()
	if err := strict.Ping(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "DRONE_RPC_SKIP_VERIFY") {
		t.Errorf("error %v", err)
	}
	lax := rpc.New(rpc.Options{Endpoint: server.URL, SkipVerify: true})
	defer lax.Close()
	if err := lax.Ping(t.Context(), ""); err != nil {
		t.Error(err)
	}
}
