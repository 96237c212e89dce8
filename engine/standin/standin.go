// Package standin gives tests an image to run, on machines that reach no registry.
//
// The one rule to keep: a test that can't have its image fails, and says how to get it.
package standin

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"
)

// building is held while the script runs, so that the tests of a package don't wait for each
// other's builds within their own time.
var building sync.Mutex

// Image is the reference of the stand-in image of that name (busybox, git, docker; see
// scripts/standins). It is built if the daemon doesn't have it.
func Image(tb testing.TB, name string) string {
	tb.Helper()
	ref := "standin/" + name + ":1"
	if has(tb, ref) {
		return ref
	}
	building.Lock()
	defer building.Unlock()
	if has(tb, ref) {
		return ref
	}
	script := filepath.Join(root(tb), "scripts", "standins")
	if out, err := exec.CommandContext(tb.Context(), script, name).CombinedOutput(); err != nil {
		tb.Fatalf("this test needs the image %s, and %s %s, which builds it, failed: %v\n%s", ref, script, name, err, out)
	}
	return ref
}

// has asks the daemon; it fails the test if there is none.
func has(tb testing.TB, ref string) bool {
	tb.Helper()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		tb.Fatalf("this test needs docker: %v", err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	if _, err := c.Ping(ctx); err != nil {
		// The script starts a daemon where there is none, so only its failure is final.
		return false
	}
	_, err = c.ImageInspect(ctx, ref)
	return err == nil
}

// root is the folder of go.mod above the test's.
func root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Fatal("this test finds scripts/standins by the go.mod above it, and there is none")
		}
		dir = up
	}
}
