package buildkit

import (
	"context"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// exporterAttrs are the attributes of results that become images of the daemon, besides their
// names. annotations have their key behind.
var exporterAttrs = []string{
	"oci-mediatypes", "oci-artifact", "attestation-inline", "attestation-prefix", "prefer-nondist-layers",
	"source-date-epoch", "compression", "force-compression", "compression-level",
	"rewrite-timestamp", "unpack", "store", "buildinfo", "buildinfo-attrs", "name-canonical",
	"containerimage.config", "containerimage.digest",
}

// exporter judges where a result goes: to the client through its session, or among the images of
// the daemon, under a name of the stage's own.
func (p *Proxy) exporter(ctx context.Context, kind string, attrs map[string]string) (map[string]string, error) {
	switch kind {
	case "local", "tar", "oci", "docker":
		return attrs, nil
	case "moby", "image":
	default:
		return nil, apierror.Refuse("the exporter "+apierror.Quote(kind), "the guard doesn't know it", "")
	}
	out := map[string]string{}
	for k, v := range attrs {
		switch {
		case k == "name":
		case k == "push" || k == "push-by-digest":
			if v != "" && v != "true" {
				continue
			}
			client, err := p.clientPushes(ctx, kind, k)
			if err != nil {
				return nil, err
			}
			if !client {
				return nil, apierror.Refuse(
					"the attribute "+apierror.Quote(k)+" of the exporter",
					"the daemon would push an image under a name that isn't only this stage's",
					"build with --load, and push then",
				)
			}
		case slices.Contains(exporterAttrs, k), strings.HasPrefix(k, "annotation"):
			out[k] = v
		default: // dropped; so is load, of compose, which is what happens in any case
		}
	}
	var names []string
	for name := range strings.SplitSeq(attrs["name"], ",") {
		if name = strings.TrimSpace(strings.Trim(name, `"`)); name == "" {
			continue
		}
		if name == "*" {
			return nil, apierror.Refuse(
				"the name * of the exporter",
				"what an image is called is judged before the build",
				"",
			)
		}
		private, err := p.options.Names.Tags.Target(name)
		if err != nil {
			return nil, err
		}
		names = append(names, private)
	}
	if len(names) == 0 {
		repo, tag := p.options.Names.Tags.Untagged()
		names = append(names, repo+":"+tag)
	}
	out["name"] = strings.Join(names, ",")
	return out, nil
}

// clientPushes reports whether a client that has BuildKit make an image for it to be pushed pushes
// it itself, by the API, when it's there: where the daemon keeps images in a driver of its own, its
// exporter "moby" ignores the wish, and buildx knows (build/build.go there, DirectPush). With
// containerd's store the daemon itself would push, under a name that isn't the client's.
func (p *Proxy) clientPushes(ctx context.Context, kind, attr string) (bool, error) {
	if kind != "moby" || attr != "push" {
		return false, nil
	}
	containerd, err := p.world.ContainerdImages(ctx)
	return err == nil && !containerd, err
}
