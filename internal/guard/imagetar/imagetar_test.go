package imagetar

import (
	"bytes"
	"slices"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
)

// FuzzLoadedNames: an archive of images never names one outside of the build's domain.
func FuzzLoadedNames(f *testing.F) {
	f.Add([]byte(`[{"Config":"c","RepoTags":["a:1"],"Layers":[]}]`), []byte(`{"manifests":[{"annotations":{"io.containerd.image.name":"docker.io/library/a:1"}}]}`))
	f.Add([]byte(`[{"repotags":["a:1"],"RepoTags":null}]`), []byte(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"a:1"}},{}]}`))
	tags := names.NewTags("drone-abc")
	f.Fuzz(func(t *testing.T, manifest, index []byte) {
		if b, err := hideManifest(tags, manifest); err == nil {
			var list []archivedImage
			if _, err := strictjson.Decode(b, &list); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			for _, i := range list {
				if len(i.RepoTags) == 0 || slices.ContainsFunc(i.RepoTags, func(n string) bool { return !tags.Owns(n) }) {
					t.Fatalf("%s becomes %s", manifest, b)
				}
			}
		}
		if b, err := hideIndex(tags, index); err == nil {
			if _, err := showIndex(tags, b); err != nil {
				t.Fatalf("%s becomes %s: %v", index, b, err)
			}
			if n := bytes.Count(b, []byte(annotationName)); n != bytes.Count(b, []byte(`"`+annotationName+`":"drone-abc.build.invalid/`)) {
				t.Fatalf("%s becomes %s", index, b)
			}
		}
	})
}
