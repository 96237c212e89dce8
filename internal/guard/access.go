package guard

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"golang.org/x/sync/errgroup"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// mostShown is how many credentials of a stage are remembered.
const mostShown = 32

// asksAtOnce bounds the questions to registries at a time about images that a stage may not have.
const asksAtOnce = 8

// shown are the registry credentials that a client has sent with its requests: they say which of
// the images that came here with somebody's credentials are for it as well.
type shown struct {
	mu   sync.Mutex
	list []registry.AuthConfig
}

func (s *shown) add(c registry.AuthConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.ServerAddress == "" {
		c.ServerAddress = "docker.io" // as docker login has it
	}
	if !slices.Contains(s.list, c) && len(s.list) < mostShown {
		s.list = append(s.list, c)
	}
}

// all returns the credentials, the latest first.
func (s *shown) all() []registry.AuthConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.list)
	slices.Reverse(out)
	return out
}

// addPull remembers what comes with a pull; a header that can't be read is the daemon's to complain
// of.
func (s *shown) addPull(p pull) registry.AuthConfig {
	var c registry.AuthConfig
	text := p.header.Get("X-Registry-Auth")
	if text == "" {
		return c
	}
	b, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		b, err = base64.RawURLEncoding.DecodeString(text)
	}
	if err != nil || json.Unmarshal(b, &c) != nil {
		return registry.AuthConfig{}
	}
	if c.ServerAddress == "" {
		c.ServerAddress = reference.Domain(p.ref)
	}
	s.add(c)
	return c
}

// sharedImage returns an image as the rules of access see it; ref is what the daemon knows it by,
// its id or a name.
func sharedImage(ref string, n names.ImageNames) Image {
	if _, is := names.ImageID(ref); is {
		ref = ""
	}
	return Image{Name: ref, Tags: n.Shared, Digests: n.SharedDigests}
}

// made reports whether the stage has made an image, or given it a name.
func (g *Guard) made(id string, n names.ImageNames) bool {
	return len(n.Own)+len(n.OwnDigests) > 0 || g.images.knows(id)
}

// mayHave reports whether a shared image is for this stage: everybody may pull it, or these
// credentials that it has shown.
func (g *Guard) mayHave(ctx context.Context, ref string, n names.ImageNames) bool {
	if g.opts.OpenImages {
		return true
	}
	may, err := g.runner.MayHave(ctx, sharedImage(ref, n), g.shown.all())
	if err != nil {
		g.log.debug("an image is kept from the stage", err, "image", ref)
	}
	return may
}

// knownToHave is mayHave for each image of a list, by what is known.
func (g *Guard) knownToHave(ctx context.Context, list []listedImage) ([]bool, error) {
	runner := g.runner
	if g.opts.OpenImages {
		runner = noRunner{}
	}
	images := make([]Image, len(list))
	for i := range list {
		images[i] = sharedImage(list[i].ID, list[i].names)
	}
	known, err := runner.KnownToHave(ctx, images, g.shown.all())
	if err == nil && len(known) != len(list) {
		err = fmt.Errorf("ask the runner about %d images: it answers for %d", len(list), len(known))
	}
	return known, err
}

// notePull notes that the client's credentials were good for what was pulled by a tag. A pull by a
// digest says nothing: the daemon needn't have asked the registry.
func (g *Guard) notePull(ctx context.Context, p pull) error {
	if _, tagged := p.ref.(reference.Tagged); !tagged || g.opts.OpenImages {
		return nil
	}
	if _, digested := p.ref.(reference.Digested); digested {
		return nil
	}
	var in imageInspection
	err := g.up.Call(ctx, http.MethodGet, "/images/"+p.ref.String()+"/json", nil, nil, &in)
	if apierror.IsNotFound(err) {
		return nil // for another platform it has no shared name
	}
	if err != nil {
		return err
	}
	g.runner.Pulled(ctx, sharedImage(p.ref.String(), g.tags.Sort(in.RepoTags, in.RepoDigests)), g.shown.addPull(p))
	return nil
}

// withheld returns the shared names of images that the daemon has, and that aren't for this stage
// as far as it has shown. BuildKit would take them from the daemon's disk.
func (g *Guard) withheld(ctx context.Context) ([]string, error) {
	if g.opts.OpenImages {
		return nil, nil
	}
	list, err := g.images.listAll(ctx, nil)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(asksAtOnce)
	found := make([][]string, len(list))
	for at, i := range list {
		group.Go(func() error {
			for _, name := range slices.Concat(i.names.Shared, i.names.SharedDigests) {
				if !g.mayHave(ctx, name, i.names) {
					found[at] = append(found[at], names.Canonical(name))
				}
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(found...), nil
}

// checkHeld refuses an image for BuildKit that the daemon has, and that isn't for this stage.
func (g *Guard) checkHeld(ctx context.Context, ref reference.Named) error {
	if g.opts.OpenImages {
		return nil
	}
	name := reference.TagNameOnly(ref).String()
	if d, ok := ref.(reference.Digested); ok {
		name = reference.TrimNamed(ref).Name() + "@" + d.Digest().String()
	}
	var in imageInspection
	err := g.up.Call(ctx, http.MethodGet, "/images/"+name+"/json", nil, nil, &in)
	if apierror.IsNotFound(err) {
		return nil // BuildKit asks the registry
	}
	if err != nil {
		return err
	}
	n := g.tags.Sort(in.RepoTags, in.RepoDigests)
	if g.made(in.ID, n) || g.mayHave(ctx, name, n) {
		return nil
	}
	return apierror.Refuse(
		"the image "+apierror.Quote(reference.FamiliarString(ref)),
		"it came here with credentials that this stage hasn't shown",
		"docker login to its registry in this pipeline, or docker pull it, before the build",
	)
}
