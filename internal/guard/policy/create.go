package policy

import (
	"context"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// CreateRequest is what a client asks for with a new container.
type CreateRequest struct {
	Body *container.CreateRequest
	// Name is the client's, or "" if it gives none.
	Name string
	// Version of the API that the client speaks.
	Version string
}

// CreatePlan is a container that may be created.
type CreatePlan struct {
	// Body is for the daemon; it is the request's, changed.
	Body *container.CreateRequest
	// Image is the container's.
	Image Image
	// Version of the API for the request to the daemon: the client's, or newer if a mount needs a
	// field that the client's doesn't have.
	Version string
}

// Create says what becomes of a request for a container, and warns of what isn't done as the client
// wants it. Volumes that the container mounts are made by then.
func Create(ctx context.Context, w World, r CreateRequest) (CreatePlan, []string, error) {
	c := r.Body
	if c.Config == nil || c.Image == "" {
		return CreatePlan{}, nil, apierror.BadRequest(
			"config cannot be empty in order to create a container: it has no image",
		)
	}
	if c.HostConfig == nil {
		c.HostConfig = &container.HostConfig{}
	}
	if c.NetworkingConfig == nil {
		c.NetworkingConfig = &network.NetworkingConfig{}
	}

	var refs references
	refs.of(c)
	f, err := refs.resolve(ctx, w)
	if err != nil {
		return CreatePlan{}, nil, err
	}

	j := &judgement{stage: w.Stage(), facts: f}
	if err := j.container(c); err != nil {
		return CreatePlan{}, nil, err
	}

	p := &placing{stage: j.stage, facts: f, world: w}
	if err := fill(ctx, p, j, r); err != nil {
		return CreatePlan{}, nil, err
	}
	if p.newest != "" {
		r.Version = p.newest
	}
	return CreatePlan{Body: c, Image: f.image, Version: r.Version}, j.warnings, nil
}

// container judges a new container: combinations first, then each field by the tables.
func (j *judgement) container(c *container.CreateRequest) error {
	if err := j.combined(c.HostConfig); err != nil {
		return err
	}
	if err := j.judge("", c.Config, configRules); err != nil {
		return err
	}
	if err := j.judge("HostConfig", c.HostConfig, hostRules); err != nil {
		return err
	}
	return j.judge("NetworkingConfig", c.NetworkingConfig, networkingRules)
}

// fill gives a container what is the stage's. Mounts come last: they make volumes, and nothing is
// made for a request that is refused.
func fill(ctx context.Context, p *placing, j *judgement, r CreateRequest) error {
	c, h := r.Body, r.Body.HostConfig
	c.Image = p.facts.image.Ref
	h.CgroupParent = p.stage.Limits.CgroupParent
	if warning := fillCPU(p.stage.Limits, "HostConfig.NanoCpus", &h.Resources); warning != "" {
		j.warn(warning)
	}
	fillHosts(p.stage, p.facts, h)
	if err := fillPorts(p.facts, c); err != nil {
		return err
	}
	if err := fillEndpoints(p.facts, c, r.Name, r.Version); err != nil {
		return err
	}
	return p.fillMounts(ctx, c)
}
