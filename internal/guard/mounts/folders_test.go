//go:build !unit

package mounts

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	root, points := filepath.Join(dir, "root"), filepath.Join(dir, "points")
	if err := os.MkdirAll(filepath.Join(root, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "a", "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	short, err := os.MkdirTemp("", "f") // unix sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	daemon := filepath.Join(short, "d")
	serveUnix(t, daemon, http.NotFoundHandler()) // a "daemon" in our own mount namespace

	f := New(points, daemon)
	at, err := f.Add(root, "a", false)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(at, "f")); err != nil || string(b) != "text" {
		t.Errorf("the mount point shows %q: %v", b, err)
	}
	file, err := f.Add(root, "a/f", false)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "text" {
		t.Errorf("the mounted file is %q: %v", b, err)
	}
	// What's at the path may change; what is mounted doesn't.
	if err := os.Rename(filepath.Join(root, "a"), filepath.Join(root, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(root, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(at, "f")); err != nil {
		t.Errorf("a later link changes the mount: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(points); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of mount points is still there: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "gone", "f")); err != nil || string(b) != "text" {
		t.Errorf("closing touched the volume: %q %v", b, err)
	}
	if _, err := f.Add(root, "gone", false); err == nil {
		t.Error("a closed one mounts")
	}
	if err := Clean(filepath.Join(dir, "none")); err != nil {
		t.Errorf("a folder that doesn't exist isn't clean: %v", err)
	}
}
