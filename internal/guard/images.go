package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// imageFound is an image that a client may run.
type imageFound struct {
	// ref is what the daemon knows it by.
	ref string
	// id is its content, "sha256:…".
	id string
	// volumes, ports and labels are those of its configuration.
	volumes map[string]struct{}
	ports   map[string]struct{}
	labels  map[string]string
	// onBuild are the instructions that it adds to builds upon it.
	onBuild []string
	// platform is its "os/architecture".
	platform string
	// tag is the private name that it was found by; empty if it's a shared one, or an id.
	tag string
	// names are all that the client may see.
	names names.ImageNames
}

// images are the daemon's, with the names that are the stage's to see. It remembers what can't be
// read off the daemon: which images were this stage's, though their names have moved on.
type images struct {
	up   *dockerd.Daemon
	tags names.Tags

	mu     sync.Mutex
	known  map[string]bool // by id
	pulled map[string]bool // names, for their events
	// pushed are digests, with the names that they were pushed under, by the image's id. The daemon
	// forgets them together with the name of the push (push.go).
	pushed map[string][]string
	// removed are long names of shared images that this build has removed: for it they are gone,
	// until it pulls them again.
	removed map[string]bool
}

func newImages(up *dockerd.Daemon, tags names.Tags) *images {
	return &images{up: up, tags: tags, known: map[string]bool{}, pulled: map[string]bool{}, pushed: map[string][]string{}, removed: map[string]bool{}}
}

func (i *images) rememberPush(id, digested string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !slices.Contains(i.pushed[id], digested) {
		i.pushed[id] = append(i.pushed[id], digested)
	}
}

// pushedBy returns the id of the image that was pushed with that digest.
func (i *images) pushedBy(digested string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id, names := range i.pushed {
		if slices.Contains(names, digested) {
			return id
		}
	}
	return ""
}

func (i *images) pushedAs(id string) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.pushed[id])
}

func (i *images) remember(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.known[id] = true
}

func (i *images) forget(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.known, id)
}

func (i *images) knows(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known[id]
}

func (i *images) rememberPull(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pulled[name] = true
}

// restore is remove undone, by a pull.
func (i *images) restore(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.removed, name)
}

// remove hides shared names from this build.
func (i *images) remove(names []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, name := range names {
		i.removed[name] = true
	}
}

// left are those of an image's names that the build hasn't removed. Digests go with the last name
// of their repository.
func (i *images) left(n names.ImageNames) names.ImageNames {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.removed) == 0 {
		return n
	}
	all := n.Shared
	n.Shared = nil
	kept, gone := map[string]bool{}, map[string]bool{}
	for _, name := range all {
		long := names.Canonical(name)
		repository := reference.TrimNamed(names.MustParse(name)).Name()
		if i.removed[long] {
			gone[repository] = true
			continue
		}
		kept[repository] = true
		n.Shared = append(n.Shared, name)
	}
	digests := n.SharedDigests
	n.SharedDigests = nil
	for _, name := range digests {
		if repository := reference.TrimNamed(names.MustParse(name)).Name(); !i.removed[names.Canonical(name)] && (kept[repository] || !gone[repository]) {
			n.SharedDigests = append(n.SharedDigests, name)
		}
	}
	return n
}

// hasRemoved reports whether the build has removed the shared image of that name.
func (i *images) hasRemoved(name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.removed) > 0 && i.removed[names.Canonical(name)]
}

func (i *images) hasPulled(name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.pulled[name]
}

// ImageName returns what the daemon knows an image by that this stage calls ref: its own of that
// name, or else the shared one. found is false if there is neither, or if the daemon can't be
// asked; ref is then to be pulled.
func (g *Guard) ImageName(ctx context.Context, ref string) (name string, found bool, err error) {
	image, err := g.findImage(ctx, ref)
	if apierror.IsNotFound(err) {
		return ref, false, nil
	}
	return image.ref, err == nil, err
}

// visible reports whether an image of these names, with that id, is one for this stage to see.
func (g *Guard) visible(id string, n names.ImageNames) bool {
	return len(n.Own)+len(n.OwnDigests)+len(n.Shared)+len(n.SharedDigests) > 0 || g.images.knows(id)
}

// imageInspection is what the guard reads of an image.
type imageInspection struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Os           string
	Architecture string
	Config       struct {
		Volumes      map[string]struct{}
		ExposedPorts map[string]struct{}
		Labels       map[string]string
		OnBuild      []string
	}
}

// inspectImage looks at the image that the daemon knows by ref. It's not found unless it's one for
// this stage to see.
func (g *Guard) inspectImage(ctx context.Context, ref string) (imageFound, error) {
	var in imageInspection
	if err := g.up.Call(ctx, http.MethodGet, "/images/"+ref+"/json", nil, nil, &in); err != nil {
		return imageFound{}, err
	}
	names := g.images.left(g.tags.Sort(in.RepoTags, in.RepoDigests))
	names.Pushed = g.images.pushedAs(in.ID)
	if g.images.hasRemoved(ref) || !g.visible(in.ID, names) || !g.made(in.ID, names) && !g.mayHave(ctx, ref, names) {
		return imageFound{}, apierror.New(http.StatusNotFound, "No such image: "+ref)
	}
	if len(names.Own) > 0 {
		g.images.remember(in.ID)
	}
	return imageFound{
		ref: ref, id: in.ID, names: names, platform: in.Os + "/" + in.Architecture,
		volumes: in.Config.Volumes, ports: in.Config.ExposedPorts, labels: in.Config.Labels,
		onBuild: in.Config.OnBuild,
	}, nil
}

// findImage resolves what a client calls an image: a name, first of the stage's own and then of the
// shared ones, an id, or the beginning of an id of an image that the client can see.
func (g *Guard) findImage(ctx context.Context, ref string) (imageFound, error) {
	absent := apierror.New(http.StatusNotFound, fmt.Sprintf("No such image: %s", ref))
	if id, ok := names.ImageID(ref); ok {
		found, err := g.inspectImage(ctx, id)
		if apierror.IsNotFound(err) {
			return found, absent
		}
		return found, err
	}
	if named, err := g.tags.Parse(ref); err == nil {
		found, err := g.findNamed(ctx, ref, named)
		if !apierror.IsNotFound(err) {
			return found, err
		}
	} else if apierror.IsNotFound(err) {
		return imageFound{}, err
	} else if !names.IsHex(strings.TrimPrefix(ref, "sha256:")) {
		return imageFound{}, err
	}
	begin := strings.TrimPrefix(ref, "sha256:")
	if !names.IsHex(begin) {
		return imageFound{}, absent
	}
	list, err := g.images.listAll(ctx, nil)
	if err != nil {
		return imageFound{}, err
	}
	var ids []string
	for _, i := range list {
		if strings.HasPrefix(strings.TrimPrefix(i.ID, "sha256:"), begin) && g.visible(i.ID, i.names) &&
			!slices.Contains(ids, i.ID) {
			ids = append(ids, i.ID)
		}
	}
	if len(ids) != 1 {
		return imageFound{}, absent
	}
	return g.inspectImage(ctx, ids[0])
}

// findNamed resolves a name. The shared ones are asked for by their long form, which the daemon
// can't take for an id.
func (g *Guard) findNamed(ctx context.Context, ref string, named reference.Named) (imageFound, error) {
	digested, isDigested := named.(reference.Digested)
	if !isDigested {
		private, err := g.tags.Private(named)
		if err != nil {
			return imageFound{}, err
		}
		found, err := g.inspectImage(ctx, private)
		if err == nil {
			found.tag = reference.TagNameOnly(names.MustParse(private)).String()
			return found, nil
		}
		if !apierror.IsNotFound(err) {
			return imageFound{}, err
		}
		found, err = g.inspectImage(ctx, reference.TagNameOnly(named).String())
		if err == nil {
			found.ref = ref
		}
		return found, err
	}
	// The daemon takes any name with an image's id for a digest as that image, so the digest must
	// be one that the image has under this name.
	want := reference.TrimNamed(named).Name() + "@" + digested.Digest().String()
	found, err := g.inspectImage(ctx, want)
	if err == nil &&
		slices.ContainsFunc(found.names.SharedDigests, func(d string) bool { return names.Canonical(d) == want }) {
		found.ref = want
		return found, nil
	}
	if err != nil && !apierror.IsNotFound(err) {
		return imageFound{}, err
	}
	if id := g.images.pushedBy(want); id != "" {
		return g.inspectImage(ctx, id)
	}
	return imageFound{}, apierror.New(http.StatusNotFound, "No such image: "+ref)
}

// listedImage is what the guard reads of an image in a list.
type listedImage struct {
	ID          string `json:"Id"`
	RepoTags    []string
	RepoDigests []string
	names       names.ImageNames
	raw         json.RawMessage
}

// listAll returns the daemon's images that have a name, or that match the query.
func (i *images) listAll(ctx context.Context, q url.Values) ([]listedImage, error) {
	var raws []json.RawMessage
	if err := i.up.Call(ctx, http.MethodGet, "/images/json", q, nil, &raws); err != nil {
		return nil, err
	}
	return i.readImages(raws)
}

// ownDepth is how many components private names have, at most, that the daemon is asked for. Deeper
// ones are legal, and no registry's.
const ownDepth = 12

// listOwn returns the images that have a private name of the stage's, and no other names of them.
func (i *images) listOwn(ctx context.Context) ([]listedImage, error) {
	var patterns []string
	for depth, pattern := 0, i.tags.Domain; depth < ownDepth; depth++ {
		pattern += "/*"
		patterns = append(patterns, pattern)
	}
	b, err := json.Marshal(map[string][]string{"reference": patterns})
	if err != nil {
		return nil, err
	}
	return i.listAll(ctx, url.Values{"filters": {string(b)}})
}

func (i *images) readImages(raws []json.RawMessage) ([]listedImage, error) {
	list := make([]listedImage, 0, len(raws))
	for _, raw := range raws {
		l := listedImage{raw: raw}
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, fmt.Errorf("read the docker daemon's list of images: %w", err)
		}
		l.names = i.left(i.tags.Sort(l.RepoTags, l.RepoDigests))
		l.names.Pushed = i.pushedAs(l.ID)
		list = append(list, l)
	}
	return list, nil
}

// deleted is a line of the answer to a removal.
type deleted struct {
	Untagged string `json:",omitempty"`
	Deleted  string `json:",omitempty"`
}

// untag takes private names away from an image. If nobody else has a lasting name for it, it's
// given one that keeps it first: the daemon deletes an image with its last name.
func (i *images) untag(ctx context.Context, id string, gone []string) ([]deleted, error) {
	var in imageInspection
	if err := i.up.Call(ctx, http.MethodGet, "/images/"+id+"/json", nil, nil, &in); err != nil {
		return nil, err
	}
	if len(i.tags.Sort(in.RepoTags, nil).Shared) == 0 {
		if err := i.up.Call(
			ctx, http.MethodPost, "/images/"+id+"/tag", names.RepoTag(url.Values{}, names.Keeper(id)), nil, nil,
		); err != nil {
			return nil, err
		}
	}
	answer := []deleted{}
	for _, name := range gone {
		err := i.up.Call(ctx, http.MethodDelete, "/images/"+name, url.Values{"noprune": {"1"}}, nil, nil)
		if err != nil && !apierror.IsNotFound(err) {
			return nil, err
		}
		if !i.tags.Anonymous(name) {
			answer = append(answer, deleted{Untagged: i.tags.ShowName(name)})
		}
	}
	return answer, nil
}
