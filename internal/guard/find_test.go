package guard

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFindImage is about which images a client sees, and by what.
func TestFindImage(t *testing.T) {
	g := imageDaemon(t)
	for _, tt := range []struct{ name, ref, id, daemon string }{
		{"its own", "app:1", imageOwn, "drone-abc.build.invalid/docker.io/library/app:1"},
		{"its own, in the long form", "docker.io/library/app:1", imageOwn, "drone-abc.build.invalid/docker.io/library/app:1"},
		{"its own, by its id", imageOwn, imageOwn, imageOwn},
		{"its own, by the id alone", strings.TrimPrefix(imageOwn, "sha256:"), imageOwn, imageOwn},
		{"its own, by the id's beginning", "1111", imageOwn, imageOwn},
		{"a shared one", "golang:1", imageBase, "golang:1"},
		{"a shared one, by the id's beginning", "sha256:2222", imageBase, imageBase},
		{"another's, by its id", imageOther, "", ""},
		{"another's, by the id's beginning", "3333", "", ""},
		{"another's, by its private name", "drone-xyz.build.invalid/docker.io/library/app:1", "", ""},
		{"another's, as a digest of any name", "golang@" + imageOther, "", ""},
		{"its own, by its private name", "drone-abc.build.invalid/docker.io/library/app:1", "", ""},
		{"none", "absent", "", ""},
		{"nonsense", "UPPER", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, err := g.findImage(t.Context(), tt.ref)
			if (err == nil) != (tt.id != "") || found.id != tt.id || err == nil && found.ref != tt.daemon {
				t.Errorf("found %q as %q: %v", found.id, found.ref, err)
			}
		})
	}
	g.images.remember(imageOther)
	if found, err := g.findImage(t.Context(), imageOther); err != nil || found.id != imageOther {
		t.Errorf("an image that was the build's own isn't found by its id: %v", err)
	}
}

const (
	imageOwn   = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	imageBase  = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	imageOther = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

// imageDaemon answers look-ups of three images: one of the stage's own, a shared one, and one of
// another stage's.
func imageDaemon(t testing.TB) *Guard {
	t.Helper()
	dir, err := os.MkdirTemp("", "g") // the path of a unix socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	image := func(id string, tags ...string) string {
		b, err := json.Marshal(map[string]any{"Id": id, "RepoTags": tags, "Os": "linux", "Architecture": "amd64"})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	own, base, other := image(imageOwn, "drone-abc.build.invalid/docker.io/library/app:1"), image(imageBase, "golang:1"), image(imageOther, "drone-xyz.build.invalid/docker.io/library/app:1")
	world := map[string]string{
		"/version":     `{"ApiVersion":"1.45","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}`,
		"/info":        `{"DriverStatus":[["driver-type","` + containerdImages + `"]]}`,
		"/images/json": "[" + own + "," + base + "," + other + "]",
		"/images/drone-abc.build.invalid/docker.io/library/app:1/json": own, "/images/" + imageOwn + "/json": own,
		"/images/docker.io/library/golang:1/json": base, "/images/" + imageBase + "/json": base,
		"/images/" + imageOther + "/json": other,
		"/networks/drone-abc":             `{"Id":"n","Name":"drone-abc","Labels":{"` + fakeOwner + `":"drone-abc"},"IPAM":{"Config":[{"Gateway":"172.20.0.1"}]}}`,
	}
	socket := filepath.Join(dir, "d")
	serveUnix(t, socket, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := r.URL.Path
		if strings.HasPrefix(p, "/v1.") {
			p = p[strings.Index(p[1:], "/")+1:]
		}
		if text, ok := world[p]; ok {
			_, _ = io.WriteString(w, text)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"no such thing"}`)
	}))
	g, err := New(Options{ID: fakeID, OwnerLabel: fakeOwner, Labels: map[string]string{fakeOwner: fakeID}, Network: fakeID, Daemon: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}
