package names

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// Tags translates between what a client calls its images and what the daemon does.
//
// The property: no tag that a stage makes is ever a name that another stage, or a step of a
// pipeline, could mean. The daemon knows "golang:1.22" of a stage as
// "ID.build.invalid/docker.io/library/golang:1.22", ID being the stage's own, and the name
// "golang:1.22" itself is moved by pulls alone.
//
// The whole of an image's name is in its private one, the registry first (its port behind "__", as
// a path has no colons), so it can be read back from any text.
type Tags struct {
	Domain string // "ID.build.invalid"
	inText *regexp.Regexp
}

// TagSpace ends the domain of every private tag. No registry can have such a name (RFC 2606), so
// nothing is ever pulled from there.
const TagSpace = ".build.invalid"

// KeepName is the repository whose tags keep images that no stage has a name for any longer: they
// are the cache of the builder. The tag is the image's id.
const KeepName = "cache" + TagSpace + "/image"

// Kept reports whether a name in the daemon is one that keeps an image. containerd's image store
// shows each name with the image's digest as well.
func Kept(name string) bool {
	return strings.HasPrefix(name, KeepName+":") || strings.HasPrefix(name, KeepName+"@")
}

// untagged is the repository, in a stage's domain, of images that the stage made without a name.
const untagged = "untagged"

// nameLimit is how long a name may be without its tag; of newer versions of the grammar, the path
// alone.
const nameLimit = 255

// None is what Docker shows for the name of an image that has none.
const None = "<none>"

var plainLabel = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`)

// NewTags returns the names of the images of the stage with the id.
func NewTags(id string) Tags {
	host := id
	if !plainLabel.MatchString(id) || id == "cache" {
		sum := sha256.Sum256([]byte(id))
		host = "b-" + hex.EncodeToString(sum[:16])
	}
	t := Tags{Domain: host + TagSpace}
	// A name that was pushed has the address of the push's proxy before it (package registryproxy).
	t.inText = regexp.MustCompile(
		`(?:127\.0\.0\.1:[0-9]+/)?` + regexp.QuoteMeta(
			t.Domain,
		) + `/([a-z0-9._-]+)(?:/(library/)?([a-z0-9._-]+)(/)?)?`,
	)
	return t
}

// Parse reads a client's name of an image, with its defaults. It refuses names that are the guards'
// own.
func (t Tags) Parse(name string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, apierror.BadRequest("invalid reference format: %.200s", name)
	}
	if strings.Contains(name, TagSpace+"/") {
		return nil, apierror.New(http.StatusNotFound, "No such image: "+name)
	}
	return ref, nil
}

// Private returns the daemon's name for what this stage calls ref. A digest isn't part of it; a
// name without a tag stays one.
func (t Tags) Private(ref reference.Named) (string, error) {
	s := t.Repository(ref)
	if len(s) > nameLimit {
		return "", apierror.BadRequest(
			"the name %.100s… is too long for an image of a stage's own: it has more than %d characters",
			reference.FamiliarName(ref),
			nameLimit-len(t.Domain)-1,
		)
	}
	if tagged, ok := ref.(reference.Tagged); ok {
		s += ":" + tagged.Tag()
	}
	if _, err := reference.ParseNormalizedNamed(s); err != nil {
		return "", apierror.BadRequest(
			"the name %s is malformed: %v",
			apierror.Quote(reference.FamiliarString(ref)),
			err,
		)
	}
	return s, nil
}

// Repository returns the stage's own repository for the reference's.
func (t Tags) Repository(ref reference.Named) string {
	return t.Domain + "/" + encodeDomain(reference.Domain(ref)) + "/" + reference.Path(ref)
}

// encodeDomain makes a component of a path of a registry's address. A port goes behind "__", which
// no host name has; what no path can hold is written in hex behind "x_".
func encodeDomain(domain string) string {
	host, port, _ := strings.Cut(domain, ":")
	if !pathComponent.MatchString(host) {
		return "x_" + hex.EncodeToString([]byte(domain))
	}
	if port == "" {
		return host
	}
	return host + "__" + port
}

var pathComponent = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|-+)[a-z0-9]+)*$`)

func decodeDomain(s string) (string, bool) {
	if h, ok := strings.CutPrefix(s, "x_"); ok && !strings.HasPrefix(h, "_") {
		b, err := hex.DecodeString(h)
		return string(b), err == nil
	}
	host, port, ok := strings.Cut(s, "__")
	if ok {
		host += ":" + port
	}
	return host, true
}

// Untagged returns a new name for an image that has none of the client's. Every image that a stage
// makes has a name in its domain: it's the proof of whose it is.
func (t Tags) Untagged() (repo, tag string) {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return t.Domain + "/" + untagged, hex.EncodeToString(b)
}

// Owns reports whether a name in the daemon is this stage's.
func (t Tags) Owns(name string) bool {
	return strings.HasPrefix(name, t.Domain+"/") ||
		strings.HasPrefix(name, "127.0.0.1:") && strings.Contains(name, "/"+t.Domain+"/")
}

// Anonymous reports whether a name in the daemon is one that the stage gave to an image without a
// name.
func (t Tags) Anonymous(name string) bool { return strings.HasPrefix(name, t.Domain+"/"+untagged+":") }

// AnonymousRepository reports whether a repository in the daemon is that of the stage's images
// without a name.
func (t Tags) AnonymousRepository(name string) bool { return name == t.Domain+"/"+untagged }

// Reserved reports whether a name in the daemon is any stage's own, or keeps an image for the
// cache.
func Reserved(name string) bool {
	host, rest, _ := strings.Cut(name, "/")
	if strings.HasPrefix(host, "127.0.0.1:") {
		host, _, _ = strings.Cut(rest, "/")
	}
	return strings.HasSuffix(host, TagSpace)
}

// Show makes a text for the client of one of the daemon's: private names in it become what the
// client calls them, in their short form.
func (t Tags) Show(text []byte) []byte {
	if t.inText == nil || !bytes.Contains(text, []byte(t.Domain)) {
		return text
	}
	return t.rename(text, func(domain, library, first string, more bool) string {
		switch {
		case domain == "docker.io" && library != "" && !more:
			return first
		case domain == "docker.io":
			return library + first
		}
		return domain + "/" + library + first
	})
}

// ShowFull is show with names in their long form, as some formats want them.
func (t Tags) ShowFull(text []byte) []byte {
	return t.rename(text, func(domain, library, first string, _ bool) string { return domain + "/" + library + first })
}

// rename replaces each private name's beginning in a text: its registry, "library/" if that is
// next, and the path's (next) component; more reports whether another follows.
func (t Tags) rename(text []byte, name func(domain, library, first string, more bool) string) []byte {
	var out []byte
	at := 0
	matches := t.inText.FindAllSubmatchIndex(text, -1)
	for i, m := range matches {
		part := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return string(text[m[2*i]:m[2*i+1]])
		}
		out = append(out, text[at:m[0]]...)
		at = m[1]
		library, first, more := part(2), part(3), part(4) != ""
		domain, ok := decodeDomain(part(1))
		switch {
		case part(1) == untagged:
			out = append(out, None...)
			if at < len(text) && text[at] == ':' { // its tag says nothing
				end := len(text)
				if i+1 < len(matches) {
					end = matches[i+1][0] // the next name may begin as a tag goes on
				}
				for at++; at < end && (text[at] >= '0' && text[at] <= '9' || text[at] >= 'a' && text[at] <= 'f'); at++ {
				}
				out = append(out, ":"+None...)
			}
			continue
		case !ok || first == "":
			out = append(out, text[m[0]:m[1]]...)
			continue
		}
		out = append(out, name(domain, library, first, more)...)
		if more {
			out = append(out, '/')
		}
	}
	return append(out, text[at:]...)
}

// ShowName is show of a single name.
func (t Tags) ShowName(name string) string { return string(t.Show([]byte(name))) }
