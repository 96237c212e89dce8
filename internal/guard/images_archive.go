package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The files of an archive of images that hold names: Docker's own, the one of before 1.10, and OCI's.
const (
	manifestFile     = "manifest.json"
	repositoriesFile = "repositories"
	indexFile        = "index.json"
)

// The annotations of OCI indices that hold names.
const (
	annotationName    = "io.containerd.image.name"
	annotationRefName = ocispec.AnnotationRefName
)

func namesFile(name string) bool {
	return name == manifestFile || name == repositoriesFile || name == indexFile
}

// archivedImage is an entry of manifest.json. It has no Parent: a loaded image that claims to come of a shared one would be in the cache of builds upon that one.
type archivedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// loadImages streams an archive of images into the daemon. Their names are replaced in it by private ones on the way, so not for a moment do they touch those that others see.
func loadImages(ctx context.Context, c *call) error {
	q := url.Values{"quiet": {"0"}}
	for _, k := range []string{"quiet", "platform"} {
		if v, ok := c.query[k]; ok {
			q[k] = v
		}
	}
	body, done := c.edited(archiveEdit{namesFile, c.g.tags.hideNames})
	resp, err := c.ask(ctx, outgoing{method: http.MethodPost, path: "/images/load", query: q, header: streamHeader(), body: body, length: -1})
	if err != nil {
		if ours := done(); ours != nil {
			return ours
		}
		return err
	}
	defer resp.Body.Close()
	err = c.streamJSON(resp, func(b []byte) []byte {
		var m struct{ Stream string }
		if json.Unmarshal(b, &m) == nil {
			if name, ok := strings.CutPrefix(m.Stream, "Loaded image: "); ok {
				if name = strings.TrimSpace(name); c.g.tags.anonymous(name) {
					return c.g.loadedID(ctx, name)
				}
			}
		}
		return c.g.names.answer(b)
	})
	ours := done()
	if err != nil && !errors.Is(err, errBroken) {
		return err
	}
	var e statusError
	var r refusal
	if errors.As(ours, &e) || errors.As(ours, &r) { // a daemon that has begun to answer stops when its archive does
		return c.endStream(ours)
	}
	return err
}

// loadedID is the message about an image that was loaded without a name.
func (g *Guard) loadedID(ctx context.Context, name string) []byte {
	found, err := g.inspectImage(ctx, name)
	if err != nil {
		return nil
	}
	b, _ := json.Marshal(map[string]string{"stream": "Loaded image ID: " + found.id + "\n"}) // strings always encode
	return b
}

// hideNames replaces the names in an archive by private ones; what has none gets one. Docker's manifest.json is always among what comes out: without it the daemon would look for
// names elsewhere.
func (t tags) hideNames(taken []archiveFile) ([]archiveFile, error) {
	var out []archiveFile
	seen := map[string]bool{}
	for _, f := range taken {
		if seen[f.name] {
			return nil, badRequest("the archive has %s twice", f.name)
		}
		seen[f.name] = true
		var b []byte
		var err error
		switch f.name {
		case manifestFile:
			b, err = t.hideManifest(f.data)
		case indexFile:
			b, err = t.hideIndex(f.data)
		default: // repositories says nothing that manifest.json doesn't
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, archiveFile{name: f.name, data: b})
	}
	if !seen[manifestFile] && !seen[indexFile] {
		return nil, badRequest("the archive is none of images: it has no %s and no %s; archives of Docker before 1.10 must be saved anew", manifestFile, indexFile)
	}
	if !seen[manifestFile] {
		out = append(out, archiveFile{name: manifestFile, data: []byte("[]")})
	}
	return out, nil
}

func (t tags) hideManifest(b []byte) ([]byte, error) {
	var list []archivedImage
	if err := json.Unmarshal(b, &list); err != nil { // the daemon gets what came out, encoded anew
		return nil, badRequest("%s of the archive: %v", manifestFile, err)
	}
	for i := range list {
		names := []string{}
		for _, name := range list[i].RepoTags {
			private, err := t.target(name)
			if err != nil {
				return nil, err
			}
			names = append(names, private)
		}
		if len(names) == 0 {
			repo, tag := t.untagged()
			names = append(names, repo+":"+tag)
		}
		list[i].RepoTags = names
	}
	return json.Marshal(list)
}

func (t tags) hideIndex(b []byte) ([]byte, error) {
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, badRequest("%s of the archive: %v", indexFile, err)
	}
	for i := range index.Manifests {
		a := index.Manifests[i].Annotations
		name := a[annotationName]
		if name == "" {
			name = a[annotationRefName]
		}
		var private string
		if ref, err := reference.ParseNormalizedNamed(name); err == nil && (a[annotationName] != "" || strings.ContainsAny(name, "/:")) {
			if private, err = t.target(reference.TagNameOnly(reference.TrimNamed(ref)).String()); err != nil {
				return nil, err
			}
			if tagged, ok := ref.(reference.Tagged); ok {
				if private, err = t.target(ref.Name() + ":" + tagged.Tag()); err != nil {
					return nil, err
				}
			}
		} else {
			repo, tag := t.untagged()
			private = repo + ":" + tag
		}
		index.Manifests[i].Annotations = map[string]string{annotationName: private, annotationRefName: mustNamed(private).(reference.Tagged).Tag()}
	}
	return json.Marshal(index)
}

// saveImages streams images out of the daemon, under the client's names.
func saveImages(ctx context.Context, c *call) error {
	wanted := c.query["names"]
	if name := c.vars["name"]; name != "" {
		wanted = []string{name}
	}
	if len(wanted) == 0 {
		return badRequest("no images to save are named")
	}
	var refs []string
	for _, name := range wanted {
		found, err := c.g.savedRefs(ctx, name)
		if err != nil {
			return err
		}
		for _, ref := range found {
			if !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	q := url.Values{"names": refs}
	if p := c.query.Get("platform"); p != "" {
		q.Set("platform", p)
	}
	resp, err := c.ask(ctx, outgoing{method: http.MethodGet, path: "/images/get", query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	copyHeader(c.w.Header(), resp.Header)
	c.w.WriteHeader(resp.StatusCode)
	if err := (archiveEdit{namesFile, c.g.tags.showNames}).copy(resp.Body, c.w); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return nil
}

// savedRefs is what the daemon knows an image by that is to be saved. A name without a tag means all its tags.
func (g *Guard) savedRefs(ctx context.Context, name string) ([]string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if _, whole := fullImageID(name); err == nil && !whole && reference.IsNameOnly(named) {
		list, err := g.listAll(ctx, nil)
		if err != nil {
			return nil, err
		}
		byShown := map[string]string{}
		for _, i := range list {
			for _, have := range slices.Concat(i.names.shared, i.names.own) {
				shown := mustShown(g.tags.showName(have))
				if shown == nil || shown.Name() != named.Name() {
					continue
				}
				if old := byShown[shown.String()]; old == "" || g.tags.owns(have) {
					byShown[shown.String()] = have
				}
			}
		}
		if len(byShown) > 0 {
			var refs []string
			for _, ref := range byShown {
				refs = append(refs, ref)
			}
			slices.Sort(refs)
			return refs, nil
		}
	}
	found, err := g.findImage(ctx, name)
	if err != nil {
		return nil, err
	}
	if found.tag != "" {
		return []string{found.tag}, nil
	}
	return []string{found.ref}, nil
}

// mustShown reads a name of a list; nil for what is none.
func mustShown(name string) reference.Named {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil
	}
	return ref
}

// showNames replaces the private names in an archive by the client's.
func (t tags) showNames(taken []archiveFile) ([]archiveFile, error) {
	for i, f := range taken {
		var err error
		switch f.name {
		case manifestFile:
			taken[i].data, err = t.showManifest(f.data)
		case repositoriesFile:
			taken[i].data, err = t.showRepositories(f.data)
		case indexFile:
			taken[i].data, err = t.showIndex(f.data)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of the docker daemon's archive: %w", f.name, err)
		}
	}
	return taken, nil
}

func (t tags) showManifest(b []byte) ([]byte, error) {
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	for _, image := range list {
		var names []string
		if err := json.Unmarshal(image["RepoTags"], &names); err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return t.anonymous(n) || reserved(n) && !t.owns(n) })
		for i := range names {
			names[i] = t.showName(names[i])
		}
		if len(names) == 0 {
			names = nil
		}
		text, err := json.Marshal(names)
		if err != nil {
			return nil, err
		}
		image["RepoTags"] = text
	}
	return json.Marshal(list)
}

func (t tags) showRepositories(b []byte) ([]byte, error) {
	var repos, out map[string]json.RawMessage
	if err := json.Unmarshal(b, &repos); err != nil {
		return nil, err
	}
	out = map[string]json.RawMessage{}
	for name, tags := range repos {
		if reserved(name) && !t.owns(name) || name == t.domain+"/"+untagged {
			continue
		}
		out[t.showName(name)] = tags
	}
	return json.Marshal(out)
}

func (t tags) showIndex(b []byte) ([]byte, error) {
	var index map[string]json.RawMessage
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, err
	}
	var manifests []map[string]json.RawMessage
	if err := json.Unmarshal(index["manifests"], &manifests); err != nil {
		return nil, err
	}
	for _, m := range manifests {
		var a map[string]string
		if len(m["annotations"]) == 0 {
			continue
		}
		if err := json.Unmarshal(m["annotations"], &a); err != nil {
			return nil, err
		}
		name := a[annotationName]
		switch {
		case name == "":
			continue
		case t.anonymous(name) || reserved(name) && !t.owns(name):
			delete(a, annotationName)
			delete(a, annotationRefName)
		default:
			a[annotationName] = string(t.showFull([]byte(name)))
		}
		text, err := json.Marshal(a)
		if err != nil {
			return nil, err
		}
		m["annotations"] = text
	}
	text, err := json.Marshal(manifests)
	if err != nil {
		return nil, err
	}
	index["manifests"] = text
	return json.Marshal(index)
}
