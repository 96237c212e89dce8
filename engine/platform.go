package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// daemonInfo is what the daemon runs on, asked once.
type daemonInfo struct {
	mu       sync.Mutex
	os, arch string
}

// platform is what to ask an image for when the spec wants another one than the daemon's own; nil
// leaves the choice to the daemon, which knows best what its machine runs (and takes images whose
// metadata are wrong, of which there are many).
func (d *Docker) platform(ctx context.Context, p spec.Platform) (*ocispec.Platform, error) {
	if p.Arch == "" {
		return nil, nil
	}
	os, arch, err := d.daemonPlatform(ctx)
	if err != nil {
		return nil, err
	}
	want := &ocispec.Platform{OS: strings.ToLower(p.OS), Architecture: strings.ToLower(p.Arch), Variant: strings.ToLower(p.Variant)}
	if want.OS == "" {
		want.OS = os
	}
	if want.OS == os && want.Architecture == arch && (want.Variant == "" || arch != "arm") {
		return nil, nil
	}
	return want, nil
}

func (d *Docker) daemonPlatform(ctx context.Context) (os, arch string, err error) {
	d.daemon.mu.Lock()
	os, arch = d.daemon.os, d.daemon.arch
	d.daemon.mu.Unlock()
	if arch != "" {
		return os, arch, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Inspect)
	defer cancel()
	v, err := d.client.ServerVersion(ctx)
	if err != nil {
		return "", "", fmt.Errorf("ask the docker daemon for its platform: %w", err)
	}
	d.daemon.mu.Lock()
	defer d.daemon.mu.Unlock()
	d.daemon.os, d.daemon.arch = v.Os, v.Arch
	return v.Os, v.Arch, nil
}

// platformText is the form that the daemon's pull takes: os/arch[/variant].
func platformText(p *ocispec.Platform) string {
	if p == nil {
		return ""
	}
	out := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		out += "/" + p.Variant
	}
	return out
}
