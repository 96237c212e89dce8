package guard

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// creation is a container on its way into existence.
type creation struct {
	checking
	req  *container.CreateRequest
	name string // the client's, or "" if it gave none
	real string // the daemon's
	// version of the API for the request to the daemon; the client's, or newer if the guard needs a field that the client's doesn't have.
	version string
	image   imageFound
	net     *buildNetwork
	caller  *caller
	// links of the default network, for the build's, which stands in for it.
	links []string
	// from are the places at which volumes of other containers (VolumesFrom) come in.
	from map[string]bool
}

// createContainer answers POST /containers/create: it judges the request field by field, fills in what is the guard's (labels, names, network, mounts), and sends the
// daemon what came out, encoded from the struct.
func createContainer(ctx context.Context, c *call) error {
	cr := &creation{req: &container.CreateRequest{}, version: c.version}
	cr.checking = checking{Context: ctx, c: c, create: cr}
	if err := c.decode(cr.req); err != nil {
		return err
	}
	if cr.req.Config == nil || cr.req.Image == "" {
		return apierror.BadRequest("config cannot be empty in order to create a container: it has no image")
	}
	if cr.req.HostConfig == nil {
		cr.req.HostConfig = &container.HostConfig{}
	}
	if cr.req.NetworkingConfig == nil {
		cr.req.NetworkingConfig = &network.NetworkingConfig{}
	}
	cr.name = c.g.names.Strip(strings.TrimPrefix(c.query.Get("name"), "/"))
	switch {
	case cr.name == "":
		cr.real = c.g.names.Random()
	case !names.Valid(cr.name):
		return apierror.BadRequest("Invalid container name (%.200s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", cr.name)
	default:
		cr.real = c.g.names.Scope(cr.name)
	}

	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	cr.Context = ctx
	if cr.net, err = c.g.buildNet(ctx); err != nil {
		return err
	}
	if cr.image, err = c.g.findImage(ctx, cr.req.Image); err != nil {
		return err
	}
	c.g.opts.Ledger.AboutToUse(cr.image.id)
	cr.req.Image = cr.image.ref
	if err := cr.judge(); err != nil {
		return err
	}
	return cr.send(ctx)
}

// judge applies the policy.
func (cr *creation) judge() error {
	if err := cr.enforce("", reflect.ValueOf(cr.req.Config).Elem(), configRules); err != nil {
		return err
	}
	if err := cr.enforce("HostConfig", reflect.ValueOf(cr.req.HostConfig).Elem(), hostRules); err != nil {
		return err
	}
	return cr.enforce("NetworkingConfig", reflect.ValueOf(cr.req.NetworkingConfig).Elem(), networkingRules)
}

// send asks the daemon for the container, and remembers whose it is.
func (cr *creation) send(ctx context.Context) error {
	body, length, err := dockerd.JSONBody(cr.req)
	if err != nil {
		return err
	}
	q := url.Values{"name": {cr.real}}
	if p := cr.c.query.Get("platform"); p != "" {
		q.Set("platform", p)
	}
	resp, err := cr.c.ask(ctx, dockerd.Request{Method: http.MethodPost, Version: cr.version, Path: "/containers/create", Query: q, Header: dockerd.JSONHeader(), Body: body, Length: length})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return cr.c.transform(resp, func(b []byte) ([]byte, error) {
		var made container.CreateResponse
		if err := json.Unmarshal(b, &made); err != nil {
			return nil, err
		}
		cr.c.g.own.rememberContainer(made.ID, ofClient)
		made.Warnings = slices.Concat([]string{}, made.Warnings, cr.warnings, cr.c.warnings())
		b, err := json.Marshal(made)
		return cr.c.g.names.Answer(b), err
	})
}

// rememberContainer notes the standing of a container.
func (o *ownership) rememberContainer(id string, s standing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.containers[id] = s
}

// owned is the labels of an object that the client makes: the client's, with the owner's over them. A client can't set labels of the runner's own: some mean that an
// object outlives its build.
func (g *Guard) owned(at string, labels map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(labels)+len(g.labels))
	for k, v := range labels {
		if mine, ok := g.labels[k]; strings.HasPrefix(k, labelSpace) && (!ok || mine != v) {
			return nil, apierror.Refuse(at+" "+apierror.Quote(k), "labels that begin with "+labelSpace+" are the runner's own", "")
		}
		out[k] = v
	}
	maps.Copy(out, g.labels)
	return out, nil
}
