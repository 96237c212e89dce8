package standin

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed" // for the script below
	"io"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

//go:embed plugin.sh
var pluginScript string

// Plugin gives a stand-in for plugins/docker, with the docker command line in it, the name ref
// until the test ends. The tests of several packages share a daemon, so the tag should be one that
// no other test has.
func Plugin(tb testing.TB, ref string) {
	tb.Helper()
	derive(tb, ref, "FROM "+Image(tb, "docker")+"\nCOPY plugin.sh /bin/plugin\nENTRYPOINT [\"/bin/plugin\"]\nCMD []\n", map[string]string{"plugin.sh": pluginScript})
}

// Named gives the stand-in image of that name another name until the test ends: what a pipeline
// calls docker:dind, for one.
func Named(tb testing.TB, name, ref string) {
	tb.Helper()
	derive(tb, ref, "FROM "+Image(tb, name)+"\n", nil)
}

// derive builds an image that has the name until the test ends.
func derive(tb testing.TB, ref, dockerfile string, files map[string]string) {
	tb.Helper()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
		defer cancel()
		if _, err := c.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true}); err != nil {
			tb.Errorf("remove the stand-in image: %v", err)
		}
	})
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	add := func(name, text string) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			tb.Fatal(err)
		}
	}
	add("Dockerfile", dockerfile)
	for name, text := range files {
		add(name, text)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	resp, err := c.ImageBuild(tb.Context(), &content, build.ImageBuildOptions{Tags: []string{ref}, Remove: true, Version: build.BuilderV1})
	if err != nil {
		tb.Fatalf("build the stand-in image %s: %v", ref, err)
	}
	defer resp.Body.Close()
	if out, err := io.ReadAll(resp.Body); err != nil || strings.Contains(string(out), `"errorDetail"`) {
		tb.Fatalf("build the stand-in image %s: %v\n%s", ref, err, out)
	}
}
