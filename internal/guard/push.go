package guard

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/registryproxy"
)

// pushImage answers POST /images/{name}/push.
//
// The daemon pushes an image to where its name says, and a private name says nowhere. To give the
// image its real name, be it for a moment, would show it to all stages. So for the time of the push
// it gets a name at a registry on loopback, which is the guard: it passes the daemon's requests on
// to the real registry, with the client's credentials.
func pushImage(ctx context.Context, c *call) error {
	repo, private, err := c.pushed(ctx)
	if err != nil {
		return err
	}
	p, err := c.g.openPush(ctx, repo, c.r.Header.Get("X-Registry-Auth"))
	if err != nil {
		return err
	}
	defer p.Close()

	tags := make([]string, 0, len(private))
	ids := map[string]string{}
	for _, name := range private {
		tag := names.MustParse(name).(reference.Tagged).Tag()
		found, err := c.g.inspectImage(ctx, name)
		if err != nil {
			return err
		}
		tags, ids[tag] = append(tags, tag), found.id
		if err := c.g.tagForPush(ctx, found.id, p.Repository, tag); err != nil {
			return err
		}
	}
	defer func() {
		done := context.WithoutCancel(ctx)
		for _, tag := range tags {
			if err := c.g.up.Call(
				done, http.MethodDelete, "/images/"+p.Repository+":"+tag, url.Values{"noprune": {"1"}}, nil, nil,
			); err != nil &&
				!apierror.IsNotFound(err) {
				c.g.log.debug("cannot take away the name of a push", err, "image", repo.Name())
			}
		}
	}()
	q := url.Values{}
	if len(private) == 1 {
		q.Set("tag", tags[0])
	}
	if v := c.query.Get("platform"); v != "" {
		q.Set("platform", v)
	}
	resp, err := c.ask(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/images/" + p.Repository + "/push",
			Query:  q,
			Header: http.Header{"X-Registry-Auth": {p.Auth}},
		},
	)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return dockerd.RelayJSON(c.w, resp, func(b []byte) []byte {
		var m struct{ Aux struct{ Tag, Digest string } }
		if json.Unmarshal(b, &m) == nil && ids[m.Aux.Tag] != "" && m.Aux.Digest != "" {
			c.g.images.rememberPush(ids[m.Aux.Tag], repo.Name()+"@"+m.Aux.Digest)
		}
		return c.g.names.Answer(b)
	})
}

// pushed returns what a request wants pushed: a repository, and the private names of the stage's
// images in it.
func (c *call) pushed(ctx context.Context) (reference.Named, []string, error) {
	ref, err := c.g.tags.Parse(c.vars["name"])
	if err != nil {
		return nil, nil, err
	}
	if _, ok := ref.(reference.Digested); ok {
		return nil, nil, apierror.BadRequest("cannot push a digest reference")
	}
	repo := reference.TrimNamed(ref)
	tag := c.query.Get("tag")
	if tag == "" {
		if t, ok := ref.(reference.Tagged); ok {
			tag = t.Tag()
		}
	}
	if tag != "" {
		wanted, err := reference.WithTag(repo, tag)
		if err != nil {
			return nil, nil, apierror.BadRequest("invalid tag format: %.200s", tag)
		}
		found, err := c.g.findImage(ctx, wanted.String())
		if apierror.IsNotFound(err) {
			return nil, nil, apierror.New(
				http.StatusNotFound,
				"An image does not exist locally with the tag: "+reference.FamiliarName(repo),
			)
		}
		if err != nil {
			return nil, nil, err
		}
		if found.tag == "" {
			return nil, nil, apierror.Refuse(
				"push of "+apierror.Quote(reference.FamiliarString(wanted)),
				"it is shared by all stages, and this one didn't make it",
				"give it that name with docker tag first",
			)
		}
		return repo, []string{found.tag}, nil
	}
	list, err := c.g.images.listOwn(ctx)
	if err != nil {
		return nil, nil, err
	}
	own := c.g.tags.Repository(repo) + ":"
	var names []string
	for _, i := range list {
		names = append(
			names,
			slices.DeleteFunc(slices.Clone(i.names.Own), func(n string) bool { return !strings.HasPrefix(n, own) })...)
	}
	if len(names) == 0 {
		return nil, nil, apierror.New(
			http.StatusNotFound,
			"An image does not exist locally with the tag: "+reference.FamiliarName(repo),
		)
	}
	return repo, names, nil
}

func (g *Guard) tagForPush(ctx context.Context, id, repository, tag string) error {
	ctx, done, err := g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return g.up.Call(
		ctx,
		http.MethodPost,
		"/images/"+id+"/tag",
		url.Values{"repo": {repository}, "tag": {tag}},
		nil,
		nil,
	)
}

// openPush opens a way for the daemon to push to a repository with the client's credentials.
func (g *Guard) openPush(ctx context.Context, repo reference.Named, auth string) (*registryproxy.Proxy, error) {
	var info struct{ RegistryConfig registryproxy.Settings }
	if err := g.up.Call(ctx, http.MethodGet, "/info", nil, nil, &info); err != nil {
		return nil, err
	}
	return registryproxy.Open(ctx, g.base, registryproxy.Options{
		Repository: repo, Path: g.tags.Repository(repo), Auth: auth,
		Insecure: info.RegistryConfig.Insecure(ctx, reference.Domain(repo)), Log: g.log.standard(),
	})
}
