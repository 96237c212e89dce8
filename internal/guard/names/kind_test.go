package names

import (
	"strings"
	"testing"
)

func TestKindOfName(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for name, want := range map[string]Kind{
		"golang:1.26":                      Shared,
		"golang" + digest:                  Shared,
		KeepName + ":0123":                 OfCache,
		KeepName + digest:                  OfCache,
		KeepName + "s:0123":                OfStage,
		"drone-a.build.invalid/x:1":        OfStage,
		"drone-a.build.invalid/x" + digest: OfStage,
		"127.0.0.1:5/drone-a.build.invalid/docker.io/library/x:1": OfStage,
	} {
		if got := KindOf(name); got != want {
			t.Errorf("%s is of the kind %d, want %d", name, got, want)
		}
	}
}
