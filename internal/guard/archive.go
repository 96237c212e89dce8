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

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/imagetar"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/tarfile"
)

// loadImages streams an archive of images into the daemon. Their names are replaced in it by
// private ones on the way, so not for a moment do they touch those that others see.
func loadImages(ctx context.Context, c *call) error {
	q := url.Values{"quiet": {"0"}}
	for _, k := range []string{"quiet", "platform"} {
		if v, ok := c.query[k]; ok {
			q[k] = v
		}
	}
	body, done := tarfile.Body(c.w, c.r.Body, imagetar.Hide(c.g.tags))
	resp, err := c.ask(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/images/load",
			Query:  q,
			Header: dockerd.TarHeader(),
			Body:   body,
			Length: -1,
		},
	)
	if err != nil {
		if ours := done(); ours != nil {
			return ours
		}
		return err
	}
	defer resp.Body.Close()
	err = dockerd.RelayJSON(c.w, resp, func(b []byte) []byte {
		var m struct{ Stream string }
		if json.Unmarshal(b, &m) == nil {
			if name, ok := strings.CutPrefix(m.Stream, "Loaded image: "); ok {
				if name = strings.TrimSpace(name); c.g.tags.Anonymous(name) {
					return c.g.loadedID(ctx, name)
				}
			}
		}
		return c.g.names.Answer(b)
	})
	ours := done()
	if err != nil && !errors.Is(err, dockerd.ErrBroken) {
		return err
	}
	var e apierror.Status
	var r apierror.Refusal
	if errors.As(ours, &e) || errors.As(ours, &r) { // a daemon that has begun to answer stops when its archive does
		return c.endStream(ours)
	}
	return err
}

// loadedID returns the message about an image that was loaded without a name.
func (g *Guard) loadedID(ctx context.Context, name string) []byte {
	found, err := g.inspectImage(ctx, name)
	if err != nil {
		return nil
	}
	b, _ := json.Marshal(map[string]string{"stream": "Loaded image ID: " + found.id + "\n"}) // strings always encode
	return b
}

// saveImages streams images out of the daemon, under the client's names.
func saveImages(ctx context.Context, c *call) error {
	wanted := c.query["names"]
	if name := c.vars["name"]; name != "" {
		wanted = []string{name}
	}
	if len(wanted) == 0 {
		return apierror.BadRequest("no images to save are named")
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
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/images/get", Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dockerd.CopyHeader(c.w.Header(), resp.Header)
	c.w.WriteHeader(resp.StatusCode)
	if err := imagetar.Show(c.g.tags).Copy(resp.Body, c.w); err != nil {
		return fmt.Errorf("%w: %w", dockerd.ErrBroken, err)
	}
	return nil
}

// savedRefs returns what the daemon knows an image by that is to be saved. A name without a tag
// means all its tags.
func (g *Guard) savedRefs(ctx context.Context, name string) ([]string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if _, whole := names.ImageID(name); err == nil && !whole && reference.IsNameOnly(named) {
		list, err := g.images.listAll(ctx, nil)
		if err != nil {
			return nil, err
		}
		byShown := map[string]string{}
		for _, i := range list {
			for _, have := range slices.Concat(i.names.Shared, i.names.Own) {
				shown := mustShown(g.tags.ShowName(have))
				if shown == nil || shown.Name() != named.Name() {
					continue
				}
				if old := byShown[shown.String()]; old == "" || g.tags.Owns(have) {
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
