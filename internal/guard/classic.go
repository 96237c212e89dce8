package guard

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerfile"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/tarfile"
)

// classic has the daemon's classic builder build. The client's archive is streamed, with a
// Dockerfile that names no images but by id (package dockerfile).
func (b *buildRequest) classic(ctx context.Context) error {
	if err := policy.BuildRemote(b.query.Get("remote")); err != nil {
		return err
	}
	if b.query.Get("session") != "" || b.query.Get("buildid") != "" {
		return apierror.BadRequest("sessions are for BuildKit")
	}
	path := cmp.Or(b.query.Get("dockerfile"), "Dockerfile")
	scope, err := b.network(ctx)
	if err != nil {
		return err
	}
	scope += policy.ProxyScope(b.Args)
	if len(b.Hosts) > 0 {
		scope = b.g.opts.ID
	}
	if scope != "" {
		args := map[string]*string{}
		maps.Copy(args, b.Args)
		args[dockerfile.ScopeArg] = &scope
		text, err := json.Marshal(args)
		if err != nil {
			return err
		}
		b.Query.Set("buildargs", string(text))
	}
	if err := b.cacheFrom(ctx); err != nil {
		return err
	}

	out := &messages{call: b.call, quiet: b.flag("q")}
	if out.quiet {
		b.Query.Set("q", "1")
	}
	bases := &bases{buildRequest: b, out: out, pull: b.flag("pull"), found: map[string]base{}}
	bases.auth, err = registryConfig(b.r.Header.Get("X-Registry-Config"))
	if err != nil {
		return err
	}
	for _, a := range bases.auth {
		b.g.shown.add(a)
	}
	// The builder goes from one image without a name to the next.
	b.g.runner.BuilderBusy(ctx, true)
	defer b.g.runner.BuilderBusy(context.WithoutCancel(ctx), false)
	file := dockerfile.NewClassic(
		dockerfile.Options{Args: given(b.Args), Target: b.query.Get("target"), Scoped: scope != ""},
		bases,
	)
	edit, ours := buildContext(ctx, path, file)
	b.Query.Set("dockerfile", ours)

	body, done := tarfile.Body(b.w, b.r.Body, edit)
	resp, err := b.ask(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/build",
			Query:  b.Query,
			Header: dockerd.TarHeader(),
			Body:   body,
			Length: -1,
		},
	)
	if err != nil {
		if e := done(); e != nil {
			err = e
		}
		b.settle()
		return out.fail(err)
	}
	defer resp.Body.Close()
	if err := out.warn(b.warnings); err != nil {
		return errors.Join(err, done())
	}
	copied := out.copy(resp.Body, func(m []byte) []byte { return b.message(m, file) })
	err = out.end(copied, done())
	b.settle()
	return err
}

// settle waits, if the guard has been closed meanwhile, until the builder's containers are gone.
func (b *buildRequest) settle() {
	if b.g.base.Err() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := (builders{b.g.own.owner, b.g.up}).remove(ctx); err != nil {
		b.g.log.warn("cannot remove what a docker build has left", err)
	}
}

// network puts the builder's containers onto a network: by default one that only they are on. scope
// is what keeps the steps of another one apart in the cache: on one of the stage's, its containers
// may answer by any name, such as "github.com"; and a step that does its best without a network has
// made something else.
func (b *buildRequest) network(ctx context.Context) (scope string, err error) {
	mode, own, err := policy.BuildNetwork(ctx, world{b.g}, b.query.Get("networkmode"))
	if err != nil {
		return "", err
	}
	switch {
	case own:
		scope = b.g.opts.ID
	case mode == "":
		if mode, err = b.g.builderNetwork(ctx); err != nil {
			return "", err
		}
	default:
		scope = mode
	}
	b.Query.Set("networkmode", mode)
	return scope, nil
}

// builderNetwork returns the network of the builder's containers; it's created with the first
// build. It has the owner's labels, so it goes with the stage, and not the guard's, so no client
// sees it or joins it: what is built there goes into the cache of all stages, and mustn't meet
// names that one stage has made up.
func (g *Guard) builderNetwork(ctx context.Context) (string, error) {
	unlock, err := g.lock.lock(ctx, "the builder's network")
	if err != nil {
		return "", err
	}
	defer unlock()
	name := g.opts.ID + "-builder"
	var n networkFound
	err = g.up.Call(ctx, http.MethodGet, "/networks/"+name, nil, nil, &n)
	if err == nil && n.Name == name && n.Labels[g.opts.OwnerLabel] == g.opts.ID {
		return n.ID, nil
	}
	if err == nil || !apierror.IsNotFound(err) {
		return "", errors.Join(errors.New("look at the network for docker builds"), err)
	}
	ctx, done, err := g.begin(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	var made struct {
		ID string `json:"Id"`
	}
	o := network.CreateRequest{
		Name:          name,
		CreateOptions: network.CreateOptions{Driver: names.Bridge, Labels: g.opts.Labels},
	}
	if err := g.up.Call(ctx, http.MethodPost, "/networks/create", nil, o, &made); err != nil {
		return "", fmt.Errorf("create the network for docker builds: %w", err)
	}
	return made.ID, nil
}

// cacheFrom has the images that a build may take steps from, by id; those that don't exist are left
// out, as the daemon does.
func (b *buildRequest) cacheFrom(ctx context.Context) error {
	var names []string
	if text := b.query.Get("cachefrom"); text != "" && text != "null" {
		if _, err := strictjson.Decode([]byte(text), &names); err != nil {
			return fmt.Errorf("cachefrom: %w", err)
		}
	}
	ids := []string{}
	for _, name := range names {
		found, err := b.g.findImage(ctx, name)
		if err != nil {
			if apierror.IsNotFound(err) {
				continue
			}
			return err
		}
		ids = append(ids, found.id)
	}
	if len(ids) == 0 {
		return nil
	}
	text, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	b.Query.Set("cachefrom", string(text))
	return nil
}

// message returns the daemon's message as the client sees it; nil leaves it out.
func (b *buildRequest) message(m []byte, file *dockerfile.Classic) []byte {
	var v struct {
		Stream string
		Aux    struct{ ID string }
	}
	if json.Unmarshal(m, &v) == nil {
		if id, ok := names.ImageID(v.Aux.ID); ok {
			b.g.images.remember(id)
		}
		if id, ok := names.ImageID(strings.TrimSpace(v.Stream)); ok {
			b.g.images.remember(id)
		}
		if name, ok := strings.CutPrefix(v.Stream, "Successfully tagged "); ok && b.g.tags.Anonymous(name) {
			return nil
		}
		if file != nil && strings.HasPrefix(v.Stream, "Step ") {
			m = file.Show(m)
		}
	}
	return b.g.names.Answer(m)
}
