package buildkit

import (
	"context"
	"slices"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	policyapi "github.com/moby/buildkit/sourcepolicy/pb"
	"google.golang.org/protobuf/proto"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

type (
	bridgeResolveImage  = gatewayapi.ResolveImageConfigRequest
	bridgeResolveSource = gatewayapi.ResolveSourceMetaRequest
)

// checked is for requests in which there is nothing to judge but that they are known.
func checked(make func() proto.Message) func(context.Context, *call, []byte) ([]byte, error) {
	return func(_ context.Context, c *call, b []byte) ([]byte, error) {
		m := make()
		if err := c.readRequest(b, m); err != nil {
			return nil, err
		}
		return encodeMessage(m)
	}
}

// solveRequest judges a build.
func solveRequest(ctx context.Context, c *call, b []byte) ([]byte, error) {
	var m controlapi.SolveRequest
	if err := c.readRequest(b, &m); err != nil {
		return nil, err
	}
	if err := c.p.solve(ctx, &m); err != nil {
		return nil, err
	}
	return encodeMessage(&m)
}

func (p *Proxy) solve(ctx context.Context, m *controlapi.SolveRequest) error {
	switch {
	case m.Ref == "":
		return apierror.BadRequest("the build has no ref")
	case len(m.Entitlements) > 0:
		return apierror.Refuse(
			"the entitlement "+apierror.Quote(m.Entitlements[0]),
			"a build's steps get no more rights than a container",
			"leave --allow out",
		)
	case m.EnableSessionExporter:
		return apierror.Refuse("EnableSessionExporter", "what an image is called is judged before the build", "")
	case m.Internal:
		m.Internal = false
	}
	m.Ref = p.Ref(m.Ref)
	if m.Session != "" {
		if err := p.ownSession(ctx, m.Session); err != nil {
			return err
		}
	}
	p.sessions.build(m.Ref, m.Session)
	p.sessions.frontend(m.Ref, m.FrontendAttrs)
	if err := p.frontend(ctx, m.Frontend, m.FrontendAttrs, m.FrontendInputs, m.Definition); err != nil {
		return err
	}
	m.FrontendAttrs = p.scoped(m.Frontend, m.FrontendAttrs)
	if m.Cache != nil {
		if err := p.cache(append(slices.Clone(m.Cache.Exports), m.Cache.Imports...)); err != nil {
			return err
		}
		m.Cache.Imports, m.Cache.ImportRefsDeprecated = nil, nil
	}
	if m.ExporterDeprecated != "" {
		attrs, err := p.exporter(ctx, m.ExporterDeprecated, m.ExporterAttrsDeprecated)
		if err != nil {
			return err
		}
		m.ExporterAttrsDeprecated = attrs
	} else if len(m.ExporterAttrsDeprecated) > 0 {
		return apierror.BadRequest("the exporter has attributes and no type")
	}
	for i, e := range m.Exporters {
		if e == nil {
			return apierror.BadRequest("exporter %d is empty", i)
		}
		if i == 0 && e.Type == m.ExporterDeprecated {
			// The two are one, in the notations of two times: an image without a name gets one, not
			// two.
			e.Attrs = m.ExporterAttrsDeprecated
			continue
		}
		attrs, err := p.exporter(ctx, e.Type, e.Attrs)
		if err != nil {
			return err
		}
		e.Attrs = attrs
	}
	return p.sourcePolicy(ctx, m)
}

// image begins the identifier of an image as a source.
const image = "docker-image://"

// sourcePolicy has the build use its own images where it names them: BuildKit looks images up by
// itself, and this is its way to be told otherwise. Versions before 0.11 (Docker 24) know no
// policies; for them see filesync.go.
func (p *Proxy) sourcePolicy(ctx context.Context, m *controlapi.SolveRequest) error {
	if m.SourcePolicy == nil {
		m.SourcePolicy = &policyapi.Policy{Version: 1}
	}
	// Not EXACT: of that BuildKit makes no other name.
	rule := func(action policyapi.PolicyAction, identifier string) *policyapi.Rule {
		r := &policyapi.Rule{
			Action:   action,
			Selector: &policyapi.Selector{Identifier: image + identifier, MatchType: policyapi.MatchType_WILDCARD},
		}
		m.SourcePolicy.Rules = append(m.SourcePolicy.Rules, r)
		return r
	}
	if m.FrontendAttrs["image-resolve-mode"] != pb.AttrImageResolveModeForcePull { // which means the registry's
		own, err := p.world.OwnImages(ctx)
		if err != nil {
			return err
		}
		for _, private := range own {
			if !p.options.Names.Tags.Anonymous(private) {
				r := rule(
					policyapi.PolicyAction_CONVERT,
					names.Canonical(p.options.Names.Tags.ShowName(private)),
				)
				r.Updates = &policyapi.Update{Identifier: image + private}
			}
		}
	}
	held, err := p.world.Withheld(ctx)
	if err != nil {
		return err
	}
	for _, name := range held {
		rule(policyapi.PolicyAction_DENY, name)
	}
	// The last rule that fits wins: no stage's own names, but this one's.
	rule(policyapi.PolicyAction_DENY, "*"+names.TagSpace+"/*")
	rule(policyapi.PolicyAction_ALLOW, p.options.Names.Tags.Domain+"/*")
	return nil
}

// cacheTypes are where a build's cache may be kept, besides in the daemon: in its images, with a
// registry that the client has credentials for, with the client. It's written there, and never
// read: BuildKit takes a cache's word for what a step has made, and what it has taken from there is
// in the cache of all stages.
var cacheTypes = []string{"inline", "registry", "local"}

func (p *Proxy) cache(entries []*controlapi.CacheOptionsEntry) error {
	for _, e := range entries {
		if e == nil || !slices.Contains(cacheTypes, e.Type) {
			return apierror.Refuse(
				"the cache of type "+apierror.Quote(e.GetType()),
				"the daemon would reach out for it, with what it knows",
				"use one of "+strings.Join(cacheTypes, ", "),
			)
		}
	}
	return nil
}

// solveResponse tells of the result by the client's names.
func solveResponse(c *call, b []byte) ([]byte, error) {
	var m controlapi.SolveResponse
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	for k, v := range m.ExporterResponse {
		switch k {
		case "containerimage.digest", "containerimage.config.digest":
			if id, ok := names.ImageID(v); ok {
				c.p.world.Made(id)
			}
		case "image.name":
			var names []string
			for name := range strings.SplitSeq(v, ",") {
				if !c.p.options.Names.Tags.Anonymous(name) {
					names = append(names, string(c.p.options.Names.Tags.ShowFull([]byte(name))))
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
func bridgeSolve(ctx context.Context, c *call, b []byte) ([]byte, error) {
	var m gatewayapi.SolveRequest
	if err := c.readRequest(b, &m); err != nil {
		return nil, err
	}
	c.p.sessions.frontend(c.ref, m.FrontendOpt)
	if err := c.p.frontend(ctx, m.Frontend, m.FrontendOpt, m.FrontendInputs, m.Definition); err != nil {
		return nil, err
	}
	m.FrontendOpt = c.p.scoped(m.Frontend, m.FrontendOpt)
	for _, e := range m.CacheImports {
		if e == nil || !slices.Contains(cacheTypes, e.Type) {
			return nil, apierror.Refuse(
				"the cache of type "+apierror.Quote(e.GetType()),
				"the daemon would reach out for it",
				"",
			)
		}
	}
	m.CacheImports = nil
	return encodeMessage(&m)
}
