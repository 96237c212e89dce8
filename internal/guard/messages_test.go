package guard

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/imagetar"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// earlyDaemon answers what takes an archive before it has read it, as BuildKit does from Docker 29
// on.
type earlyDaemon struct {
	fakeDaemon
	breaks bool // it then breaks off
}

func (d *earlyDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch _, path, _ := strings.Cut(r.URL.Path[1:], "/"); path {
	case "networks/" + fakeID + "-builder":
		_, _ = io.WriteString(w, `{"Id":"n","Name":"`+fakeID+`-builder","Labels":`+labels(fakeID, "")+`}`)
		return
	case "build", "images/load":
	default:
		d.fakeDaemon.ServeHTTP(w, r)
		return
	}
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/1.1 always can
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"stream":"begun"}`+"\n") // a guard that has gone fails the test
	_ = control.Flush()
	_, _ = io.Copy(io.Discard, r.Body) // it ends as the guard has it
	if d.breaks {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, `{"stream":"done"}`+"\n")
}

// An archive that is refused while the daemon answers already: the client reads why. Only an answer
// that the daemon broke off breaks off.
func TestArchiveIsRefusedBehindTheAnswersBegin(t *testing.T) {
	file := func(name, text string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o644})
		if _, e := w.Write([]byte(text)); err != nil || e != nil || w.Flush() != nil {
			t.Fatal(err, e)
		}
		return b.Bytes()
	}
	end := make([]byte, 1024)
	evil, good := file("Dockerfile", "FROM other.build.invalid/docker.io/library/theirs:1\n"), file("Dockerfile", "FROM scratch\n")
	twice := append(file(imagetar.ManifestFile, "[]"), file(imagetar.ManifestFile, "[]")...)
	for _, tt := range []struct {
		name, path string
		rest       []byte // of the archive, which the client sends when it sees the answer
		breaks     bool
		want       string
	}{
		{"the classic builder", "/build", evil, false, "No such image"},
		{"BuildKit", "/build?version=2", evil, false, "No such image"},
		{"load", "/images/load", twice, false, "manifest.json twice"},
		{"nothing wrong", "/build?version=2", good, false, "done"},
		{"a daemon that breaks off", "/build?version=2", good, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "g")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			socket := filepath.Join(dir, "d")
			serveUnix(t, socket, &earlyDaemon{fakeDaemon{version: policy.Versions.Newest}, tt.breaks})
			b := newFake(t, policy.Versions.Newest, func(o *Options) { o.Daemon = socket })

			body, archive := io.Pipe()
			seen := make(chan struct{})
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				// larger than what is buffered on the way
				_, _ = archive.Write(file("first", strings.Repeat("x", 1<<20)))
				<-seen
				_, _ = archive.Write(append(tt.rest, end...))
				_ = archive.Close()
			}()
			defer func() { <-sent }()
			defer body.Close() // what is refused isn't read to its end
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://docker"+tt.path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-tar")
			resp, err := b.http.Do(r)
			close(seen)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if broken := errors.Is(err, io.ErrUnexpectedEOF); broken != tt.breaks || err != nil && !broken {
				t.Errorf("the answer ends with %v", err)
			}
			if !strings.Contains(string(text), "begun") || !strings.Contains(string(text), tt.want) {
				t.Errorf("the answer is %s, want one with %q", text, tt.want)
			}
		})
	}
}

// What isn't done as the client wants it is said in the answer, for each request that has limits.
func TestWarningsReachTheClient(t *testing.T) {
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "d")
	serveUnix(t, socket, &earlyDaemon{fakeDaemon{version: policy.Versions.Newest}, false})
	b := newFake(t, policy.Versions.Newest, func(o *Options) { o.Daemon, o.Limits.Memory = socket, 1<<30 })

	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "Dockerfile", Size: 13, Mode: 0o644}), second(w.Write([]byte("FROM scratch\n"))), w.Close()); err != nil {
		t.Fatal(err)
	}
	const warning = "cut down to this runner's limit"
	for _, tt := range []struct {
		path, kind, body string
		warns            bool
	}{
		{"/containers/create", "application/json", `{"Image":"img","HostConfig":{"Memory":4294967296}}`, true},
		{"/containers/db/update", "application/json", `{"Memory":4294967296}`, true},
		{"/containers/db/update", "application/json", `{"Memory":4194304}`, false},
		{"/build?memory=4294967296", "application/x-tar", archive.String(), true},
		{"/build?memory=4194304", "application/x-tar", archive.String(), false},
		// its client prints all that comes as the image's id
		{"/build?memory=4294967296&q=1", "application/x-tar", archive.String(), false},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://docker"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", tt.kind)
		resp, err := b.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode >= 400 || strings.Contains(string(text), warning) != tt.warns {
			t.Errorf("%s %s is answered %d %s, %v; want a warning: %v", tt.path, tt.kind, resp.StatusCode, text, err, tt.warns)
		}
	}
}

func second[T any](_ T, err error) error { return err }
