package guard

import (
	"context"
	"slices"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// buildQuery are the parameters of POST /build. BuildKit doesn't get cachefrom: see cacheTypes.
const buildQuery = "^dockerfile t+ extrahosts+ remote q nocache cachefrom pull -rm -forcerm memory memswap cpushares cpusetcpus cpusetmems cpuperiod cpuquota buildargs " +
	"shmsize squash labels networkmode platform target outputs version session buildid cgroupparent securityopt+ ulimits isolation"

// build answers POST /build, by the builder that the client asks for.
func build(ctx context.Context, c *call) error {
	b, err := c.readBuild(ctx)
	if err != nil {
		return err
	}
	switch v := c.query.Get("version"); v {
	case "", "1":
		return b.classic(ctx)
	case "2":
		return b.buildKit(ctx)
	default:
		return apierror.BadRequest("invalid version %q", v)
	}
}

// buildRequest is the parameters of a build, judged.
type buildRequest struct {
	*call
	policy.BuildPlan
	// tags are the daemon's names for the image.
	tags     []string
	warnings []string
}

// readBuild judges the parameters that both builders have.
func (c *call) readBuild(ctx context.Context) (*buildRequest, error) {
	plan, warnings, err := policy.Build(ctx, world{c.g}, c.query)
	if err != nil {
		return nil, err
	}
	b := &buildRequest{call: c, BuildPlan: plan, warnings: warnings}
	for _, t := range c.query["t"] {
		if t == "" {
			continue
		}
		name, err := c.g.tags.Target(t)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(b.tags, name) {
			b.tags = append(b.tags, name)
		}
	}
	if len(b.tags) == 0 {
		repo, tag := c.g.tags.Untagged()
		b.tags = []string{repo + ":" + tag}
	}
	b.Query["t"] = b.tags
	return b, nil
}
