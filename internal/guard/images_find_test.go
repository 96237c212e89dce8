package guard

import (
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
