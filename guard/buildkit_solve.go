package guard

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	policyapi "github.com/moby/buildkit/sourcepolicy/pb"
	"google.golang.org/protobuf/proto"
)

type (
	bridgeResolveImage  = gatewayapi.ResolveImageConfigRequest
	bridgeResolveSource = gatewayapi.ResolveSourceMetaRequest
)

// checked is for requests in which there is nothing to judge but that they are known.
func checked(make func() proto.Message) func(context.Context, *grpcCall, []byte) ([]byte, error) {
	return func(_ context.Context, _ *grpcCall, b []byte) ([]byte, error) {
		m := make()
		if err := decodeMessage(b, m); err != nil {
			return nil, err
		}
		return encodeMessage(m)
	}
}

// solveRequest judges a build.
func solveRequest(ctx context.Context, c *grpcCall, b []byte) ([]byte, error) {
	var m controlapi.SolveRequest
	if err := decodeMessage(b, &m); err != nil {
		return nil, err
	}
	if err := c.g.solve(ctx, &m); err != nil {
		return nil, err
	}
	return encodeMessage(&m)
}

func (g *Guard) solve(ctx context.Context, m *controlapi.SolveRequest) error {
	switch {
	case m.Ref == "":
		return badRequest("the build has no ref")
	case len(m.Entitlements) > 0:
		return refusal{"the entitlement " + quoted(m.Entitlements[0]), "a build's steps get no more rights than a container", "leave --allow out"}
	case m.EnableSessionExporter:
		return refuse("EnableSessionExporter", "what an image is called is judged before the build")
	case m.Internal:
		m.Internal = false
	}
	m.Ref = g.buildRef(m.Ref)
	if m.Session != "" {
		if err := g.sessions.wait(ctx, m.Session); err != nil {
			return err
		}
	}
	g.sessions.build(m.Ref, m.Session)
	g.sessions.frontend(m.Ref, m.FrontendAttrs)
	o := solveOpts{g, ctx}
	if err := o.frontend(m.Frontend, m.FrontendAttrs, m.FrontendInputs, m.Definition); err != nil {
		return err
	}
	if m.Cache != nil {
		if err := o.cache(append(slices.Clone(m.Cache.Exports), m.Cache.Imports...)); err != nil {
			return err
		}
	}
	if m.ExporterDeprecated != "" {
		attrs, err := o.exporter(m.ExporterDeprecated, m.ExporterAttrsDeprecated)
		if err != nil {
			return err
		}
		m.ExporterAttrsDeprecated = attrs
	} else if len(m.ExporterAttrsDeprecated) > 0 {
		return badRequest("the exporter has attributes and no type")
	}
	for i, e := range m.Exporters {
		if e == nil {
			return badRequest("exporter %d is empty", i)
		}
		if i == 0 && e.Type == m.ExporterDeprecated {
			// The two are one, in the notations of two times: an image without a name gets one, not two.
			e.Attrs = m.ExporterAttrsDeprecated
			continue
		}
		attrs, err := o.exporter(e.Type, e.Attrs)
		if err != nil {
			return err
		}
		e.Attrs = attrs
	}
	if m.FrontendAttrs["image-resolve-mode"] == pb.AttrImageResolveModeForcePull {
		return nil
	}
	return o.policy(m)
}

// solveOpts judges the parts of builds.
type solveOpts struct {
	g   *Guard
	ctx context.Context
}

// policy has the build use its own images where it names them: BuildKit looks images up by itself, and this is its way to be told otherwise. Versions before 0.11 (Docker 24) know no
// policies; for them see buildkit_session.go.
func (o solveOpts) policy(m *controlapi.SolveRequest) error {
	list, err := o.g.listOwn(o.ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		for _, private := range i.names.own {
			if o.g.tags.anonymous(private) {
				continue
			}
			if m.SourcePolicy == nil {
				m.SourcePolicy = &policyapi.Policy{Version: 1}
			}
			m.SourcePolicy.Rules = append(m.SourcePolicy.Rules, &policyapi.Rule{
				Action:   policyapi.PolicyAction_CONVERT,
				Selector: &policyapi.Selector{Identifier: "docker-image://" + canonical(o.g.tags.showName(private)), MatchType: policyapi.MatchType_EXACT},
				Updates:  &policyapi.Update{Identifier: "docker-image://" + private},
			})
		}
	}
	return nil
}

// exporterAttrs are the attributes of results that become images of the daemon, besides their names. annotations have their key behind.
var exporterAttrs = []string{
	"oci-mediatypes", "oci-artifact", "attestation-inline", "attestation-prefix", "prefer-nondist-layers", "source-date-epoch", "compression", "force-compression", "compression-level",
	"rewrite-timestamp", "unpack", "store", "buildinfo", "buildinfo-attrs", "name-canonical", "containerimage.config", "containerimage.digest",
}

// exporter judges where a result goes: to the client through its session, or among the images of the daemon, under a name of the build's own.
func (o solveOpts) exporter(kind string, attrs map[string]string) (map[string]string, error) {
	switch kind {
	case "local", "tar", "oci", "docker":
		return attrs, nil
	case "moby", "image":
	default:
		return nil, refuse("the exporter "+quoted(kind), "the guard doesn't know it")
	}
	out := map[string]string{}
	for k, v := range attrs {
		switch {
		case k == "name":
		case k == "push" && (v == "" || v == "true"), k == "push-by-digest" && (v == "" || v == "true"):
			return nil, refusal{"the attribute " + quoted(k) + " of the exporter", "the daemon would push an image under a name that isn't only this build's", "build with --load, and push then"}
		case k == "push" || k == "push-by-digest":
		case slices.Contains(exporterAttrs, k), strings.HasPrefix(k, "annotation"):
			out[k] = v
		default:
			return nil, refuse("the attribute "+quoted(k)+" of the exporter", "the guard doesn't know it")
		}
	}
	var names []string
	for name := range strings.SplitSeq(attrs["name"], ",") {
		if name = strings.TrimSpace(strings.Trim(name, `"`)); name == "" {
			continue
		}
		if name == "*" {
			return nil, refuse("the name * of the exporter", "what an image is called is judged before the build")
		}
		private, err := o.g.tags.target(name)
		if err != nil {
			return nil, err
		}
		names = append(names, private)
	}
	if len(names) == 0 {
		repo, tag := o.g.tags.untagged()
		names = append(names, repo+":"+tag)
	}
	out["name"] = strings.Join(names, ",")
	return out, nil
}

// cacheTypes are where a build's cache may be kept, besides in the daemon: in its images, with a registry that the client has credentials for, with the client.
var cacheTypes = []string{"inline", "registry", "local"}

func (o solveOpts) cache(entries []*controlapi.CacheOptionsEntry) error {
	for _, e := range entries {
		if e == nil || !slices.Contains(cacheTypes, e.Type) {
			return refusal{"the cache of type " + quoted(e.GetType()), "the daemon would reach out for it, with what it knows", "use one of " + strings.Join(cacheTypes, ", ")}
		}
	}
	return nil
}

// frontendAttrs are the parameters of the Dockerfile frontend, and beginnings of such.
var (
	frontendAttrs = []string{
		"filename", "target", "source", "cmdline", "context", "contextkey", "contextsubdir", "dockerfilekey", "no-cache", "platform", "multi-platform", "image-resolve-mode",
		"hostname", "shm-size", "ulimit", "cache-from", "cache-imports", "frontend.caps", "requestid",
	}
	frontendPrefixes = []string{"build-arg:", "label:", "context:", "input:", "input-metadata:", "attest:", "vcs:", "no-cache:"}
)

// frontend judges what is built: by one of BuildKit's own frontends with parameters, or by a definition of the client's.
func (o solveOpts) frontend(name string, attrs map[string]string, inputs map[string]*pb.Definition, def *pb.Definition) error {
	if name != "" && name != "dockerfile.v0" && name != "gateway.v0" {
		return refuse("the frontend "+quoted(name), "the guard doesn't know it")
	}
	for k, v := range attrs {
		changed, err := o.attr(k, v)
		if err != nil {
			return err
		}
		attrs[k] = changed
	}
	if err := o.definition(def, 0); err != nil {
		return err
	}
	for _, d := range inputs {
		if err := o.definition(d, 0); err != nil {
			return err
		}
	}
	return nil
}

// attr judges one parameter of a frontend.
func (o solveOpts) attr(key, value string) (string, error) {
	switch key {
	case "force-network-mode":
		if value != "" && value != "none" && value != "default" && value != "sandbox" {
			return "", refusal{key + " " + quoted(value), "the machine's network isn't shared", "leave --network out"}
		}
		return value, nil
	case "cgroup-parent":
		return "", refuse(key, "the cgroup of a build's steps is the runner's choice")
	case "add-hosts":
		return o.hosts(value)
	case "source":
		return o.own(value)
	case "cache-imports":
		var entries []*controlapi.CacheOptionsEntry
		if err := json.Unmarshal([]byte(value), &entries); err != nil {
			return "", badRequest("cache-imports: %v", err)
		}
		if err := o.cache(entries); err != nil {
			return "", err
		}
		b, err := json.Marshal(entries)
		return string(b), err
	}
	switch {
	case strings.HasPrefix(key, "local-sessionid:"):
		return value, o.g.sessions.wait(o.ctx, value)
	case strings.HasPrefix(key, "label:"):
		return value, checkLabels("label", map[string]string{strings.TrimPrefix(key, "label:"): value})
	case strings.HasPrefix(key, "context:"):
		if name, ok := strings.CutPrefix(value, "docker-image://"); ok {
			private, err := o.own(name)
			return "docker-image://" + private, err
		}
		return value, nil
	case slices.Contains(frontendAttrs, key):
		return value, nil
	}
	for _, p := range frontendPrefixes {
		if strings.HasPrefix(key, p) {
			return value, nil
		}
	}
	return "", refuse("the parameter "+quoted(key)+" of the frontend", "the guard doesn't know it")
}

// own is the name of an image, the private one if it's the build's own.
func (o solveOpts) own(name string) (string, error) {
	ref, err := o.g.tags.parse(name)
	if err != nil {
		return "", err
	}
	if _, ok := ref.(reference.Digested); ok {
		return name, nil
	}
	found, err := o.g.findNamed(o.ctx, name, ref)
	if err == nil && found.tag != "" {
		return found.tag, nil
	}
	if err != nil && !isNotFound(err) {
		return "", err
	}
	return name, nil
}

// hosts makes the machine, as a client knows it, the gateway of the build's network.
func (o solveOpts) hosts(list string) (string, error) {
	var out []string
	for line := range strings.SplitSeq(list, ",") {
		name, addr, ok := cutHost(strings.TrimSpace(line))
		if !ok {
			return "", badRequest("bad format for add-host: %s", quoted(line))
		}
		if addr == "host-gateway" {
			n, err := o.g.buildNet(o.ctx)
			if err != nil {
				return "", err
			}
			addr = n.gateway.String()
		}
		out = append(out, name+"="+addr)
	}
	return strings.Join(out, ","), nil
}

// definition judges a build graph. BuildKit names its vertices by their bytes, so they can't be changed, only refused.
func (o solveOpts) definition(d *pb.Definition, depth int) error {
	if d == nil {
		return nil
	}
	if depth > maxDepth {
		return badRequest("the build is nested too deeply")
	}
	for _, b := range d.Def {
		var op pb.Op
		if err := decodeMessage(b, &op); err != nil {
			return err
		}
		if s := op.GetSource(); s != nil && strings.Contains(s.Identifier, tagSpace+"/") {
			return statusError{404, "No such image: " + s.Identifier}
		}
		if s := op.GetSource(); s != nil {
			for _, k := range []string{pb.AttrLocalSessionID, pb.AttrOCILayoutSessionID} {
				if id := s.Attrs[k]; id != "" {
					if err := o.g.sessions.wait(o.ctx, id); err != nil {
						return err
					}
				}
			}
		}
		if e := op.GetExec(); e != nil {
			switch {
			case e.Network == pb.NetMode_HOST:
				return refuse("the network mode host of a step", "the machine's network isn't shared")
			case e.Security != pb.SecurityMode_SANDBOX:
				return refuse("the security mode "+e.Security.String()+" of a step", "a build's steps get no more rights than a container")
			case len(e.CdiDevices) > 0:
				return refuse("the devices of a step", "a build's steps get no devices")
			case e.Meta.GetCgroupParent() != "":
				return refuse("the cgroup parent of a step", "it is the runner's choice")
			}
		}
		if err := o.definition(op.GetBuild().GetDef(), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// solveResponse tells of the result by the client's names.
func solveResponse(c *grpcCall, b []byte) ([]byte, error) {
	var m controlapi.SolveResponse
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	for k, v := range m.ExporterResponse {
		switch k {
		case "containerimage.digest", "containerimage.config.digest":
			if id, ok := fullImageID(v); ok {
				c.g.images.remember(id)
			}
		case "image.name":
			var names []string
			for name := range strings.SplitSeq(v, ",") {
				if !c.g.tags.anonymous(name) {
					names = append(names, string(c.g.tags.showFull([]byte(name))))
				}
			}
			m.ExporterResponse[k] = strings.Join(names, ",")
		}
	}
	if m.ExporterResponse["image.name"] == "" {
		delete(m.ExporterResponse, "image.name")
	}
	return encodeMessage(&m)
}

// bridgeSolve judges a part of a build that a frontend in the client asks for.
func bridgeSolve(ctx context.Context, c *grpcCall, b []byte) ([]byte, error) {
	var m gatewayapi.SolveRequest
	if err := decodeMessage(b, &m); err != nil {
		return nil, err
	}
	c.g.sessions.frontend(c.ref, m.FrontendOpt)
	o := solveOpts{c.g, ctx}
	if err := o.frontend(m.Frontend, m.FrontendOpt, m.FrontendInputs, m.Definition); err != nil {
		return nil, err
	}
	for _, e := range m.CacheImports {
		if e == nil || !slices.Contains(cacheTypes, e.Type) {
			return nil, refuse("the cache of type "+quoted(e.GetType()), "the daemon would reach out for it")
		}
	}
	return encodeMessage(&m)
}
