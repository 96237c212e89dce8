package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/tarfile"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// classic has the daemon's classic builder build. The client's archive is streamed, with a Dockerfile that names no images but by id (build_dockerfile.go).
func (b *buildRequest) classic(ctx context.Context) error {
	if v := b.call.query.Get("remote"); v != "" {
		return apierror.Refuse("remote "+apierror.Quote(v), "the daemon would fetch it, from wherever it can reach", "clone or fetch it in the step, or use docker buildx build")
	}
	if b.call.query.Get("session") != "" || b.call.query.Get("buildid") != "" {
		return apierror.BadRequest("sessions are for BuildKit")
	}
	dockerfile := b.call.query.Get("dockerfile")
	if dockerfile == "" {
		dockerfile = "Dockerfile"
	}
	scope, err := b.network(ctx)
	if err != nil {
		return err
	}
	scope += proxyScope(b.args)
	if len(b.hosts) > 0 {
		scope = b.g.opts.ID
	}
	if scope != "" {
		args := map[string]*string{}
		maps.Copy(args, b.args)
		args[cacheScope] = &scope
		text, err := json.Marshal(args)
		if err != nil {
			return err
		}
		b.query.Set("buildargs", string(text))
	}
	if err := b.cacheFrom(ctx); err != nil {
		return err
	}

	out := &messages{call: b.call, quiet: b.flag("q")}
	if out.quiet {
		b.query.Set("q", "1")
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
	release := b.g.opts.Ledger.Hold(cache.Builder)
	defer release()
	file := &classicFile{args: b.args, target: b.call.query.Get("target"), scoped: scope != "", resolve: bases.resolve, shown: map[string]string{}}
	edit, ours := buildContext(ctx, dockerfile, file)
	b.query.Set("dockerfile", ours)

	body, done := tarfile.Body(b.w, b.r.Body, edit)
	resp, err := b.ask(ctx, dockerd.Request{Method: http.MethodPost, Path: "/build", Query: b.query, Header: dockerd.TarHeader(), Body: body, Length: -1})
	if err != nil {
		if e := done(); e != nil {
			err = e
		}
		b.settle()
		return out.fail(err)
	}
	defer resp.Body.Close()
	copied := out.copy(resp.Body, func(m []byte) []byte { return b.message(m, file.shown) })
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
	if err := b.g.removeBuilders(ctx); err != nil {
		b.g.log.WithError(err).Warn("cannot remove what a docker build has left")
	}
}

// network puts the builder's containers onto a network: by default one that only they are on. scope is what keeps the steps of another one apart in the cache: on one of the
// build's, its containers may answer by any name, "github.com" for one; and a step that does its best without a network has made something else.
func (b *buildRequest) network(ctx context.Context) (scope string, err error) {
	mode := b.call.query.Get("networkmode")
	switch {
	case mode == "" || mode == "default" || mode == names.Bridge:
		mode, err = b.g.builderNetwork(ctx)
		b.query.Set("networkmode", mode)
		return "", err
	case mode == network.NetworkNone:
		b.query.Set("networkmode", mode)
		return mode, nil
	}
	v := reflect.ValueOf(&mode).Elem()
	if err := networkMode(&checking{Context: ctx, c: b.call}, "networkmode", v); err != nil {
		return "", err
	}
	b.query.Set("networkmode", mode)
	return b.g.opts.ID, nil
}

// builderNetwork is the network of the builder's containers; it's created with the first build. It has the owner's labels, so it goes with the build, and not the guard's, so
// no client sees it or joins it: what is built there goes into the cache of all builds, and mustn't meet names that one build has made up.
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
	o := network.CreateRequest{Name: name, CreateOptions: network.CreateOptions{Driver: names.Bridge, Labels: g.opts.Labels}}
	if err := g.up.Call(ctx, http.MethodPost, "/networks/create", nil, o, &made); err != nil {
		return "", fmt.Errorf("create the network for docker builds: %w", err)
	}
	return made.ID, nil
}

// cacheFrom has the images that a build may take steps from, by id; those that don't exist are left out, as the daemon does.
func (b *buildRequest) cacheFrom(ctx context.Context) error {
	var names []string
	if text := b.call.query.Get("cachefrom"); text != "" && text != "null" {
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
	b.query.Set("cachefrom", string(text))
	return nil
}

// message is the daemon's message as the client sees it; nil leaves it out.
func (b *buildRequest) message(m []byte, shown map[string]string) []byte {
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
		if strings.HasPrefix(v.Stream, "Step ") {
			for from, to := range shown {
				m = []byte(strings.Replace(string(m), from, to, 1))
			}
		}
	}
	return b.g.names.Answer(m)
}
