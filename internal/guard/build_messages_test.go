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
)

// earlyDaemon answers what takes an archive before it has read it, as BuildKit does from Docker 29 on.
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

// An archive that is refused while the daemon answers already: the client reads why. Only an answer that the daemon broke off breaks off.
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
			serveUnix(t, socket, &earlyDaemon{fakeDaemon{version: newestVersion}, tt.breaks})
			b := newFake(t, newestVersion, func(o *Options) { o.Daemon = socket })

			body, archive := io.Pipe()
			seen := make(chan struct{})
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = archive.Write(file("first", strings.Repeat("x", 1<<20))) // larger than what is buffered on the way
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
