package names

import (
	"net/url"
	"strings"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// ImageNames are the names of an image that are a client's to see, as the daemon has them.
type ImageNames struct {
	// Own are private tags, those of images without a name included; ownDigests are those of a push
	// under way.
	Own, OwnDigests []string
	// Pushed are digests that the image has in registries to which this stage has pushed it, as the
	// client has them.
	Pushed []string
	// Shared are tags and digests of images that came from their registry, or that the operator put
	// here.
	Shared, SharedDigests []string
}

// Sort takes apart the names of an image.
func (t Tags) Sort(repoTags, repoDigests []string) ImageNames {
	var n ImageNames
	for _, list := range []struct {
		names       []string
		own, shared *[]string
	}{{repoTags, &n.Own, &n.Shared}, {repoDigests, &n.OwnDigests, &n.SharedDigests}} {
		for _, name := range list.names {
			switch {
			case t.Owns(name):
				*list.own = append(*list.own, name)
			case !Reserved(name) && !strings.HasPrefix(name, None):
				*list.shared = append(*list.shared, name)
			}
		}
	}
	return n
}

// Target returns the daemon's name for an image that a client wants to call name.
func (t Tags) Target(name string) (string, error) {
	ref, err := t.Parse(name)
	if apierror.IsNotFound(err) {
		return "", apierror.Refuse(
			"the name "+apierror.Quote(name),
			"names that end a host in "+TagSpace+" are the runner's own",
			"",
		)
	}
	if err != nil {
		return "", err
	}
	if _, ok := ref.(reference.Digested); ok {
		return "", apierror.BadRequest("refusing to create a tag with a digest reference")
	}
	return t.Private(reference.TagNameOnly(ref))
}

// RepoTag returns a name as two query parameters.
func RepoTag(q url.Values, name string) url.Values {
	ref := MustParse(name)
	q.Set("repo", reference.TrimNamed(ref).Name())
	if tagged, ok := ref.(reference.Tagged); ok {
		q.Set("tag", tagged.Tag())
	}
	return q
}

// Keeper returns the name that keeps an image for the cache.
func Keeper(id string) string { return KeepName + ":" + strings.TrimPrefix(id, "sha256:") }

// ImageID returns the id that ref is, if it's a whole one.
func ImageID(ref string) (string, bool) {
	hex := strings.TrimPrefix(ref, "sha256:")
	return "sha256:" + hex, IsID(hex)
}

// Short returns an id as Docker shows it.
func Short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// Canonical returns the long form of a name; of what isn't one, the text itself.
func Canonical(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return ref.String()
}

// MustParse reads a name that has been checked before.
func MustParse(name string) reference.Named {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		panic("guard: a name that was checked is malformed: " + name)
	}
	return ref
}
