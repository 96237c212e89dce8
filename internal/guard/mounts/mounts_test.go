package mounts

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pathOf is where an O_PATH descriptor points.
func pathOf(t *testing.T, fd int) string {
	t.Helper()
	p, err := os.Readlink(filepath.Join("/proc/self/fd", strconv.Itoa(fd)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOpenBeneath(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, d := range []string{"root/a/b", "out"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"in": "a/b", "up": "..", "abs": "/etc", "self": root + "/a", "loop": "loop", "a/back": "../in", "a/escape": "../../out", "proc": "/proc/self/root"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		rel    string
		create bool
		want   string
		err    error
	}{
		{"a", false, "a", nil}, {"a/b", false, "a/b", nil}, {"in", false, "a/b", nil}, {"a/back", false, "a/b", nil},
		{"up", false, "", ErrLeadsOut}, {"up/out", false, "", ErrLeadsOut}, {"abs", false, "", ErrLeadsOut}, {"self", false, "", ErrLeadsOut}, {"loop", false, "", ErrLeadsOut},
		{"a/escape", false, "", ErrLeadsOut}, {"proc/etc", false, "", ErrLeadsOut}, {"..", false, "", ErrLeadsOut}, {"/etc", false, "", ErrLeadsOut}, {"none", false, "", fs.ErrNotExist},
		{"x/y/z", true, "x/y/z", nil}, {"in/new", true, "a/b/new", nil}, {"a/escape/new", true, "", ErrLeadsOut}, {"abs/new", true, "", ErrLeadsOut},
	} {
		t.Run(tt.rel, func(t *testing.T) {
			fd, err := openBeneath(root, tt.rel, tt.create)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			defer unix.Close(fd)
			if got := pathOf(t, fd); got != filepath.Join(root, tt.want) {
				t.Errorf("opens %s", got)
			}
		})
	}
	if _, err := os.Lstat(filepath.Join(dir, "out", "new")); err == nil {
		t.Error("a folder was made outside")
	}
}

// TestOpenBeneathRace renames folders and links while paths through them are resolved. Whatever is
// opened is inside.
func TestOpenBeneathRace(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, d := range []string{"root/a/b", "root/spare", "out/b"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../out", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var swapping sync.WaitGroup
	swapping.Go(func() {
		a, link := filepath.Join(root, "a"), filepath.Join(root, "link")
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) // both exist throughout
			// fails on every other round
			_ = os.Rename(filepath.Join(root, "spare"), filepath.Join(root, "a", "moved"))
			_ = os.Rename(filepath.Join(root, "a", "moved"), filepath.Join(root, "spare"))
		}
	})
	for i := range 5000 {
		fd, err := openBeneath(root, "a/b", i%2 == 0)
		if err != nil {
			continue
		}
		if got := pathOf(t, fd); !strings.HasPrefix(got, root+"/") {
			t.Errorf("opens %s", got)
		}
		_ = unix.Close(fd)
	}
	stop.Store(true)
	swapping.Wait()
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
