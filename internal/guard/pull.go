package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// createImage answers POST /images/create: a pull, or an import of a stream.
func createImage(ctx context.Context, c *call) error {
	switch src := c.query.Get("fromSrc"); {
	case c.query.Get("fromImage") != "" && src != "":
		return apierror.BadRequest("fromImage and fromSrc exclude each other")
	case c.query.Get("fromImage") != "":
		return pullImage(ctx, c)
	case src == "-":
		return importImage(ctx, c)
	case src != "":
		return policy.ImportSource(src)
	}
	return apierror.BadRequest("there is no image to pull: fromImage is empty")
}

// importImage makes an image of a stream, under a name of the stage's own.
func importImage(ctx context.Context, c *call) error {
	to, err := c.target(c.query.Get("repo"), c.query.Get("tag"))
	if err != nil {
		return err
	}
	q := url.Values{"fromSrc": {"-"}}
	for _, k := range []string{"message", "platform", "changes"} {
		if v, ok := c.query[k]; ok {
			q[k] = v
		}
	}
	if err := policy.Changes(q["changes"]); err != nil {
		return err
	}
	body, length := c.body()
	resp, err := c.ask(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/images/create",
			Query:  names.RepoTag(q, to),
			Header: dockerd.TarHeader(),
			Body:   body,
			Length: length,
		},
	)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return dockerd.RelayJSON(c.w, resp, func(b []byte) []byte {
		var m struct{ Status string }
		if json.Unmarshal(b, &m) == nil {
			if id, ok := names.ImageID(m.Status); ok {
				c.g.images.remember(id)
			}
		}
		return c.g.names.Answer(b)
	})
}

// pullImage has the daemon pull an image under its own name, which all stages share. It then takes
// the place of an image of the stage's own with that name.
func pullImage(ctx context.Context, c *call) error {
	ref, err := c.pullRef()
	if err != nil {
		return err
	}
	p := pull{ref: ref, platform: c.query.Get("platform"), header: c.registryAuth(), version: c.version}
	resp, finish, err := c.g.startPull(ctx, p)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	failed := false
	err = dockerd.RelayJSON(c.w, resp, func(b []byte) []byte {
		failed = failed || isFailure(b)
		return c.g.names.Answer(b)
	})
	if err != nil || failed {
		return err
	}
	return c.endStream(finish(ctx))
}

// isFailure reports whether a message of a stream says that what was asked for has failed.
func isFailure(b []byte) bool {
	var m struct {
		Error       string
		ErrorDetail *struct{}
	}
	return json.Unmarshal(b, &m) == nil && (m.Error != "" || m.ErrorDetail != nil)
}

// endStream ends a stream of messages with an error, if there is one: it's too late for another
// status.
func (c *call) endStream(err error) error {
	if err == nil {
		return nil
	}
	e := c.g.wordError(err)
	b, err := json.Marshal(map[string]any{"errorDetail": map[string]string{"message": e.Message}, "error": e.Message})
	if err != nil {
		return err
	}
	_, _ = c.w.Write(append(b, '\n')) // a client that has gone needs no answer
	return dockerd.ErrAnswered
}

// pullRef returns the image that a request wants pulled, all tags of it if it has none.
func (c *call) pullRef() (reference.Named, error) {
	name := c.query.Get("fromImage")
	if tag := c.query.Get("tag"); tag != "" {
		ref, err := c.g.tags.Parse(name)
		if err != nil {
			return nil, err
		}
		name = reference.TrimNamed(ref).Name() // a tag in the name gives way, as with the daemon
		if strings.Contains(tag, ":") {
			name += "@" + tag
		} else {
			name += ":" + tag
		}
	}
	return c.g.tags.Parse(name)
}

// pull is what is to be pulled.
type pull struct {
	ref      reference.Named
	platform string
	header   http.Header
	version  string // of the API; empty is the daemon's newest
}

// startPull asks the daemon for a pull. The answer is its progress; finish settles the stage's
// names when it has ended well.
//
// What is pulled for another platform than the daemon's is the stage's own: under its shared name
// all stages would get it. It's pulled by its digest, so that the shared name isn't touched.
func (g *Guard) startPull(
	ctx context.Context,
	p pull,
) (resp *http.Response, finish func(context.Context) error, err error) {
	foreign := false
	if p.platform != "" {
		if foreign, err = g.foreign(ctx, p.platform); err != nil {
			return nil, nil, err
		}
	}
	ref := p.ref
	_, isTagged := ref.(reference.Tagged)
	_, isDigested := ref.(reference.Digested)
	if foreign && !isDigested {
		if !isTagged {
			return nil, nil, apierror.Refuse(
				"a pull of all tags for platform "+apierror.Quote(p.platform),
				"it would change what other stages have",
				"pull one tag",
			)
		}
		want, err := g.remoteDigest(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		if ref, err = reference.WithDigest(reference.TrimNamed(ref), want); err != nil {
			return nil, nil, err
		}
	}
	q := url.Values{"fromImage": {reference.TrimNamed(ref).Name()}}
	if p.platform != "" {
		q.Set("platform", p.platform)
	}
	if d, ok := ref.(reference.Digested); ok {
		q.Set("tag", d.Digest().String())
	} else if t, ok := ref.(reference.Tagged); ok {
		q.Set("tag", t.Tag())
	}
	g.shown.addPull(p)
	g.images.rememberPull(ref.String())
	resp, err = g.up.Do(
		ctx,
		dockerd.Request{
			Method:  http.MethodPost,
			Version: p.version,
			Path:    "/images/create",
			Query:   q,
			Header:  p.header,
		},
	)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, nil, dockerd.AnswerError(resp)
	}
	g.images.restore(ref.String())
	return resp, func(ctx context.Context) error {
		ctx, done, err := g.begin(ctx)
		if err != nil {
			return err
		}
		defer done()
		if foreign && isTagged {
			return g.adopt(ctx, ref, p.ref)
		}
		return errors.Join(g.notePull(ctx, p), g.unshadow(ctx, p.ref))
	}, nil
}

// unshadow takes the stage's own names away that hide what has just been pulled.
func (g *Guard) unshadow(ctx context.Context, ref reference.Named) error {
	if _, ok := ref.(reference.Digested); ok {
		return nil
	}
	list, err := g.images.listOwn(ctx)
	if err != nil {
		return err
	}
	private, err := g.tags.Private(ref)
	if err != nil {
		return err
	}
	_, one := ref.(reference.Tagged)
	for _, i := range list {
		for _, name := range i.names.Own {
			if name == private || !one && strings.HasPrefix(name, private+":") {
				if _, err := g.images.untag(ctx, i.ID, []string{name}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// adopt gives an image that was pulled by its digest a name of the stage's own, in place of the
// digest.
func (g *Guard) adopt(ctx context.Context, digested reference.Named, as reference.Named) error {
	var in imageInspection
	if err := g.up.Call(ctx, http.MethodGet, "/images/"+digested.String()+"/json", nil, nil, &in); err != nil {
		return err
	}
	private, err := g.tags.Private(as)
	if err != nil {
		return err
	}
	if err := g.up.Call(
		ctx, http.MethodPost, "/images/"+in.ID+"/tag", names.RepoTag(url.Values{}, private), nil, nil,
	); err != nil {
		return err
	}
	g.images.remember(in.ID)
	return g.up.Call(ctx, http.MethodDelete, "/images/"+digested.String(), url.Values{"noprune": {"1"}}, nil, nil)
}

// remoteDigest asks the registry which content a name has.
func (g *Guard) remoteDigest(ctx context.Context, p pull) (digest.Digest, error) {
	resp, err := g.up.Do(
		ctx,
		dockerd.Request{Method: http.MethodGet, Path: "/distribution/" + p.ref.String() + "/json", Header: p.header},
	)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return "", dockerd.AnswerError(resp)
	}
	var d struct {
		Descriptor struct{ Digest digest.Digest }
	}
	b, err := dockerd.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return "", fmt.Errorf("read the docker daemon's answer about an image in its registry: %w", err)
	}
	return d.Descriptor.Digest, d.Descriptor.Digest.Validate()
}

// foreign reports whether a platform is another than the daemon's.
func (g *Guard) foreign(ctx context.Context, platform string) (bool, error) {
	var v struct{ Os, Arch string }
	if err := g.up.Call(ctx, http.MethodGet, "/version", nil, nil, &v); err != nil {
		return false, err
	}
	os, rest, _ := strings.Cut(strings.ToLower(platform), "/")
	arch, variant, _ := strings.Cut(rest, "/")
	if rest == "" { // "amd64" or "linux" alone
		if os == v.Os {
			return false, nil
		}
		os, arch = v.Os, os
	}
	for from, to := range map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"} {
		if arch == from {
			arch = to
		}
	}
	return os != v.Os || arch != v.Arch || variant != "" && (arch != "arm64" || variant != "v8"), nil
}
