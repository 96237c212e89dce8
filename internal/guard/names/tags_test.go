package names

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestPrivateNames(t *testing.T) {
	tags := NewTags("drone-abc")
	const d = "drone-abc.build.invalid/"
	for _, tt := range []struct{ name, client, daemon, shown string }{
		{"an official image", "golang:1.22", d + "docker.io/library/golang:1.22", "golang:1.22"},
		{"without a tag", "golang", d + "docker.io/library/golang:latest", "golang:latest"},
		{"a user's", "me/app:1", d + "docker.io/me/app:1", "me/app:1"},
		{"in the long form", "docker.io/library/golang:1", d + "docker.io/library/golang:1", "golang:1"},
		{"a path below library", "library/a/b:1", d + "docker.io/library/a/b:1", "library/a/b:1"},
		{"an image called library", "library:1", d + "docker.io/library/library:1", "library:1"},
		{"a registry", "ghcr.io/me/app:1", d + "ghcr.io/me/app:1", "ghcr.io/me/app:1"},
		{"a registry with an image called library", "ghcr.io/library/app:1", d + "ghcr.io/library/app:1", "ghcr.io/library/app:1"},
		{"a registry with a port", "reg.example:5000/app:1", d + "reg.example__5000/app:1", "reg.example:5000/app:1"},
		{"localhost", "localhost/app:1", d + "localhost/app:1", "localhost/app:1"},
		{"an address", "127.0.0.1:5000/a/b/c:x", d + "127.0.0.1__5000/a/b/c:x", "127.0.0.1:5000/a/b/c:x"},
		{"a host called x", "x:5000/app:1", d + "x__5000/app:1", "x:5000/app:1"},
		{"an IPv6 address", "[::1]:5000/app:1", d + "x_5b3a3a315d3a35303030/app:1", "[::1]:5000/app:1"},
		{"upper case", "REG.example/app:1", d + "x_5245472e6578616d706c65/app:1", "REG.example/app:1"},
		{"a user that looks like a host", "foo__5000/bar:1", d + "docker.io/foo__5000/bar:1", "foo__5000/bar:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tags.Target(tt.client)
			if err != nil || got != tt.daemon {
				t.Fatalf("the daemon's name is %q, %v; want %q", got, err, tt.daemon)
			}
			if shown := tags.ShowName(got); shown != tt.shown {
				t.Errorf("shown as %q, want %q", shown, tt.shown)
			}
			if full := string(tags.ShowFull([]byte(got))); Canonical(full) != reference.TagNameOnly(MustParse(tt.client)).String() {
				t.Errorf("shown in full as %q, want a form of %q", full, tt.client)
			}
			if !tags.Owns(got) || !Reserved(got) || tags.Anonymous(got) {
				t.Errorf("%q isn't taken for the stage's own", got)
			}
			if NewTags("drone-ab").Owns(got) || NewTags("c").Owns(got) {
				t.Errorf("%q is taken for another stage's", got)
			}
		})
	}
}

func TestRefusedNames(t *testing.T) {
	tags := NewTags("drone-abc")
	for _, tt := range []struct{ name, client, want string }{
		{"another build's", "drone-xyz.build.invalid/docker.io/library/app:1", "the runner's own"},
		{"the cache's", KeepName + ":1", "the runner's own"},
		{"a digest", "app@sha256:" + strings.Repeat("a", 64), "digest"},
		{"nonsense", "UPPER", "invalid reference format"},
		{"an id", strings.Repeat("a", 64), "invalid reference format"},
		{"a name that has no room", "a/" + strings.Repeat("b", 240), "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tags.Target(tt.client); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}

func TestShowText(t *testing.T) {
	tags := NewTags("drone-abc")
	for _, tt := range []struct{ name, text, want string }{
		{"JSON", `{"RepoTags":["drone-abc.build.invalid/docker.io/library/a:1","b:1"]}`, `{"RepoTags":["a:1","b:1"]}`},
		{"two in a line", "drone-abc.build.invalid/docker.io/library/a:1, drone-abc.build.invalid/ghcr.io/x/y:2.", "a:1, ghcr.io/x/y:2."},
		{"a push", "refers to repository [127.0.0.1:4000/drone-abc.build.invalid/ghcr.io/me/app]", "refers to repository [ghcr.io/me/app]"},
		{"without a name", "naming to drone-abc.build.invalid/untagged:0123abcd done", "naming to <none>:<none> done"},
		{"the repository of those without a name", `"drone-abc.build.invalid/untagged"`, `"<none>"`},
		{"another build's", "drone-xyz.build.invalid/docker.io/library/a:1", "drone-xyz.build.invalid/docker.io/library/a:1"},
		{"the domain alone", "lookup drone-abc.build.invalid: no such host", "lookup drone-abc.build.invalid: no such host"},
		{"a port that is none", "drone-abc.build.invalid/x_zz/app", "drone-abc.build.invalid/x_zz/app"},
		{"none", "nothing", "nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tags.ShowName(tt.text); got != tt.want {
				t.Errorf("shown as %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDomains(t *testing.T) {
	for _, tt := range []struct{ id, want string }{
		{"drone-abc", "drone-abc.build.invalid"},
		{"Upper_Case", "b-"},
		{"cache", "b-"},
		{strings.Repeat("a", 64), "b-"},
	} {
		got := NewTags(tt.id).Domain
		if !strings.HasPrefix(got, tt.want) || !strings.HasSuffix(got, TagSpace) || len(got) > 63+len(TagSpace) {
			t.Errorf("the domain of %q is %q", tt.id, got)
		}
		if _, err := NewTags(tt.id).Target("golang:1.22"); err != nil {
			t.Errorf("a name of stage %q: %v", tt.id, err)
		}
	}
}

// FuzzImageNames: whatever a client calls an image, the daemon's name for it is in the stage's own
// domain, and is shown as that again.
func FuzzImageNames(f *testing.F) {
	for _, s := range []string{"a", "golang:1.22", "docker.io/library/a", "[::1]:5/a", "h:5000/a/b__c-d.e:x", "x_ab/y", "drone-abc.build.invalid/a:1", "docker.io/l.00000/0"} {
		f.Add(s)
	}
	tags := NewTags("drone-abc")
	f.Fuzz(func(t *testing.T, name string) {
		private, err := tags.Target(name)
		if err != nil {
			return
		}
		ref, err := reference.ParseNormalizedNamed(private)
		if err != nil || reference.Domain(ref) != tags.Domain || ref.String() != private {
			t.Fatalf("%q becomes %q: %v", name, private, err)
		}
		want := reference.TagNameOnly(MustParse(name))
		if Canonical(reference.FamiliarString(want)) != want.String() {
			return // a name such as docker.io/a.b/c, whose short form Docker itself takes for another
		}
		if shown := tags.ShowName(private); Canonical(shown) != want.String() || shown != reference.FamiliarString(want) {
			t.Fatalf("%q becomes %q, which is shown as %q", name, private, shown)
		}
	})
}

// FuzzShow: no text breaks it, and no name of the stage's own is left in a text that it has shown.
func FuzzShow(f *testing.F) {
	f.Add("x drone-abc.build.invalid/docker.io/library/a/b:1 127.0.0.1:80/drone-abc.build.invalid/untagged:ab")
	f.Add("drone-abc.build.invalid/untagged:0drone-abc.build.invalid/00")
	tags := NewTags("drone-abc")
	f.Fuzz(func(t *testing.T, text string) {
		_ = tags.ShowFull([]byte(text))
		if shown := tags.ShowName(text); !strings.Contains(text, tags.Domain) && shown != text {
			t.Fatalf("%q is shown as %q", text, shown)
		}
	})
}
