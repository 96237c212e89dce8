package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// imageFilters of GET /images/json. What is about names is applied by the guard, to the names that
// the client sees.
var imageFilters = map[string]filterRule{
	"label": passed, "label!": passed, "until": passed, "before": thereImage, "since": thereImage,
	"reference": local, "dangling": local,
}

// listImages answers with the shared images and the stage's own.
func listImages(ctx context.Context, c *call) error {
	up, mine, err := c.rewriteFilters(ctx, imageFilters)
	if err != nil {
		return err
	}
	if f := c.query.Get("filter"); f != "" { // of clients before 1.25
		mine.Add("reference", f)
	}
	c.query.Del("filter")
	dangling := ""
	for _, v := range mine.Get("dangling") {
		switch v {
		case "1", "true":
			dangling = "true"
		case "0", "false":
			dangling = "false"
		default:
			return apierror.BadRequest("invalid filter 'dangling=[%.20s]'", v)
		}
	}
	q, err := encodeFilters(c.query, up)
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/images/json", Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		return c.g.showList(ctx, b, func(n *shownNames) (bool, error) {
			if dangling != "" && (dangling == "true") != (len(n.tags) == 0) {
				return false, nil
			}
			patterns := mine.Get("reference")
			if len(patterns) == 0 {
				return true, nil
			}
			for _, list := range []*[]string{&n.tags, &n.digests} {
				fitting := []string{}
				for _, name := range *list {
					fits, err := fitsAny(name, patterns)
					if err != nil {
						return false, err
					}
					if fits {
						fitting = append(fitting, name)
					}
				}
				*list = fitting
			}
			return len(n.tags)+len(n.digests) > 0, nil
		})
	})
}

// fitsAny reports whether a name is one of those that patterns mean.
func fitsAny(name string, patterns []string) (bool, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false, nil // <none>
	}
	for _, p := range patterns {
		fits, err := reference.FamiliarMatch(p, ref)
		if err != nil {
			return false, apierror.BadRequest("invalid filter 'reference=[%.200s]'", p)
		}
		if fits {
			return true, nil
		}
	}
	return false, nil
}

// showList returns a JSON list of images as a client sees it; keep judges each by its names there,
// and may leave some out.
func (g *Guard) showList(ctx context.Context, b []byte, keep func(*shownNames) (bool, error)) ([]byte, error) {
	var raws []json.RawMessage
	if err := json.Unmarshal(b, &raws); err != nil {
		return nil, err
	}
	list, err := g.images.readImages(raws)
	if err != nil {
		return nil, err
	}
	mine, err := g.ownTags(ctx)
	if err != nil {
		return nil, err
	}
	known, err := g.knownToHave(ctx, list)
	if err != nil {
		return nil, err
	}
	out := []json.RawMessage{}
	for at, i := range list {
		if !g.visible(i.ID, i.names) || !g.made(i.ID, i.names) && !known[at] {
			continue
		}
		n := g.show(i.names, mine)
		if len(i.names.Own) == 0 && len(n.tags)+len(n.digests) == 0 && !g.images.knows(i.ID) {
			continue // all its names are hidden by the stage's own
		}
		ok, err := keep(&n)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		shown, err := withNames(i.raw, n)
		if err != nil {
			return nil, err
		}
		out = append(out, g.names.Answer(shown))
	}
	return json.Marshal(out)
}

// ownTags returns the names, as clients write them, of which the stage has an image of its own:
// shared images of the same names are hidden behind them.
func (g *Guard) ownTags(ctx context.Context) (map[string]bool, error) {
	list, err := g.images.listOwn(ctx)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, i := range list {
		for _, name := range i.names.Own {
			if !g.tags.Anonymous(name) {
				own[g.tags.ShowName(name)] = true
			}
		}
	}
	return own, nil
}

// hidden is ownTags for the names of one image alone.
func (g *Guard) hidden(ctx context.Context, n names.ImageNames) (map[string]bool, error) {
	own := map[string]bool{}
	for _, name := range n.Shared {
		private, err := g.tags.Private(names.MustParse(name))
		if err != nil {
			continue // no stage can have it
		}
		err = g.up.Call(ctx, http.MethodGet, "/images/"+private+"/json", nil, nil, nil)
		if err != nil && !apierror.IsNotFound(err) {
			return nil, err
		}
		own[name] = err == nil
	}
	return own, nil
}

// shownNames are an image's names for the client.
type shownNames struct{ tags, digests []string }

// show returns what a client sees of an image's names; mine are ownTags.
func (g *Guard) show(n names.ImageNames, mine map[string]bool) shownNames {
	tags, digests := []string{}, []string{}
	for _, name := range n.Own {
		if shown := g.tags.ShowName(name); !g.tags.Anonymous(name) &&
			!slices.Contains(tags, shown) { // one that is being pushed has another beside it
			tags = append(tags, shown)
		}
	}
	for _, name := range n.Shared {
		if !mine[name] {
			tags = append(tags, name)
		}
	}
	for _, name := range slices.Concat(n.SharedDigests, n.Pushed) {
		if !slices.ContainsFunc(digests, func(d string) bool { return names.Canonical(d) == names.Canonical(name) }) {
			digests = append(digests, reference.FamiliarString(names.MustParse(name)))
		}
	}
	return shownNames{tags, digests}
}

// withNames puts names into a JSON object of an image.
func withNames(raw json.RawMessage, n shownNames) (json.RawMessage, error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("read the docker daemon's answer about an image: %w", err)
	}
	for key, names := range map[string][]string{"RepoTags": n.tags, "RepoDigests": n.digests} {
		b, err := json.Marshal(names)
		if err != nil {
			return nil, err
		}
		o[key] = b
	}
	for _, key := range []string{"Manifests", "Descriptor"} { // their annotations have names, too
		delete(o, key)
	}
	return json.Marshal(o)
}

// showImages cuts the list of images in a report of disk usage down to what the client may see.
func (g *Guard) showImages(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
	if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return raw, nil
	}
	return g.showList(ctx, raw, func(*shownNames) (bool, error) { return true, nil })
}

// ownImageEvent reports whether a client may see an event of an image: those of its own images, and
// of what it has pulled.
func (g *Guard) ownImageEvent(_ context.Context, m message) bool {
	name := m.Actor.Attributes["name"]
	switch {
	case g.tags.Owns(name), g.tags.Owns(m.Actor.ID):
		return true
	case names.Reserved(name), names.Reserved(m.Actor.ID):
		return false
	case m.Action == "pull":
		return g.images.hasPulled(names.Canonical(m.Actor.ID))
	}
	return g.images.knows(m.Actor.ID)
}

// showImage answers GET /images/{name}/json.
func showImage(ctx context.Context, c *call) error {
	found, err := c.g.findImage(ctx, c.vars["name"])
	if err != nil {
		return err
	}
	mine, err := c.g.hidden(ctx, found.names)
	if err != nil {
		return err
	}
	resp, err := c.ask(
		ctx,
		dockerd.Request{Method: http.MethodGet, Path: "/images/" + found.ref + "/json", Query: c.query},
	)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		b, err := withNames(b, c.g.show(found.names, mine))
		return c.g.names.Answer(b), err
	})
}

// imageHistory answers GET /images/{name}/history: layers that other stages have named show no
// names.
func imageHistory(ctx context.Context, c *call) error {
	found, err := c.g.findImage(ctx, c.vars["name"])
	if err != nil {
		return err
	}
	resp, err := c.ask(
		ctx,
		dockerd.Request{Method: http.MethodGet, Path: "/images/" + found.ref + "/history", Query: c.query},
	)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var layers []map[string]json.RawMessage
		if err := json.Unmarshal(b, &layers); err != nil {
			return nil, err
		}
		for _, l := range layers {
			var names []string
			if err := json.Unmarshal(l["Tags"], &names); err != nil || names == nil {
				continue // null
			}
			shown := c.g.show(c.g.tags.Sort(names, nil), nil)
			text := []byte("null")
			if len(shown.tags) > 0 {
				if text, err = json.Marshal(shown.tags); err != nil {
					return nil, err
				}
			}
			l["Tags"] = text
		}
		return json.Marshal(layers)
	})
}

// distribution asks a registry about an image, with the client's own credentials.
func distribution(ctx context.Context, c *call) error {
	ref, err := c.g.tags.Parse(c.vars["name"])
	if err != nil {
		return err
	}
	return c.send(
		ctx,
		dockerd.Request{
			Method: http.MethodGet,
			Path:   "/distribution/" + reference.FamiliarString(ref) + "/json",
			Header: c.registryAuth(),
		},
	)
}

// registryAuth returns the header with the client's credentials for a registry, if it sent any.
func (c *call) registryAuth() http.Header {
	h := http.Header{}
	for _, k := range []string{"X-Registry-Auth", "X-Registry-Config"} {
		if v := c.r.Header.Get(k); v != "" {
			h.Set(k, strings.TrimSpace(v))
		}
	}
	return h
}
