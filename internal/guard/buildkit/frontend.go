package buildkit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// frontendAttrs are the parameters of the Dockerfile frontend, and beginnings of such.
var (
	frontendAttrs = []string{
		"filename", "target", "source", "cmdline", "context", "contextkey", "contextsubdir", "dockerfilekey",
		"no-cache", "platform", "multi-platform", "image-resolve-mode",
		"hostname", "shm-size", "ulimit", "frontend.caps", "requestid",
	}
	frontendPrefixes = []string{
		"build-arg:",
		"label:",
		"context:",
		"input:",
		"input-metadata:",
		"attest:",
		"vcs:",
		"no-cache:",
	}
)

// frontend judges what is built: by one of BuildKit's own frontends with parameters, or by a
// definition of the client's.
func (p *Proxy) frontend(
	ctx context.Context,
	name string,
	attrs map[string]string,
	inputs map[string]*pb.Definition,
	def *pb.Definition,
) error {
	if name != "" && name != "dockerfile.v0" && name != "gateway.v0" {
		return apierror.Refuse("the frontend "+apierror.Quote(name), "the guard doesn't know it", "")
	}
	args := map[string]*string{}
	for k, v := range attrs {
		changed, known, err := p.attr(ctx, k, v)
		if err != nil {
			return err
		}
		if !known {
			p.world.Dropped(k)
			delete(attrs, k)
			continue
		}
		attrs[k] = changed
		if arg, ok := strings.CutPrefix(k, "build-arg:"); ok {
			args[arg] = &v
		}
	}
	for _, k := range []string{"cache-from", "cache-imports"} { // see cache
		delete(attrs, k)
	}
	if host := ProxyHost(args); host != "" {
		attrs["add-hosts"] = strings.TrimPrefix(attrs["add-hosts"]+","+host+"=127.0.0.1", ",")
	}
	if err := p.definition(ctx, def, 0); err != nil {
		return err
	}
	for _, d := range inputs {
		if err := p.definition(ctx, d, 0); err != nil {
			return err
		}
	}
	return nil
}

// attr judges one parameter of a frontend. One that isn't known is dropped.
func (p *Proxy) attr(ctx context.Context, key, value string) (judged string, known bool, err error) {
	switch judged, err = p.judgeAttr(ctx, key, value); {
	case errors.Is(err, errUnknownAttr):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	return judged, true, nil
}

var errUnknownAttr = errors.New("unknown parameter of a frontend")

func (p *Proxy) judgeAttr(ctx context.Context, key, value string) (string, error) {
	switch key {
	case "force-network-mode":
		if value != "" && value != "none" && value != "default" && value != "sandbox" {
			return "", apierror.Refuse(
				key+" "+apierror.Quote(value),
				"the machine's network isn't shared",
				"leave --network out",
			)
		}
		return value, nil
	case "devices", "gateway-devel":
		return "", apierror.Refuse(
			"the parameter "+apierror.Quote(key)+" of the frontend",
			"a build's steps get no more than a container, and frontends come of images",
			"",
		)
	case "cgroup-parent":
		return "", apierror.Refuse(key, "the cgroup of a build's steps is the runner's choice", "")
	case "add-hosts":
		return p.hosts(ctx, value)
	case "source":
		return p.own(ctx, value)
	case "cache-from":
		return value, nil
	case "cache-imports":
		var entries []*controlapi.CacheOptionsEntry
		if err := json.Unmarshal([]byte(value), &entries); err != nil {
			return "", apierror.BadRequest("cache-imports: %v", err)
		}
		return value, p.cache(entries)
	}
	switch {
	case strings.HasPrefix(key, "local-sessionid:"):
		return value, p.ownSession(ctx, value)
	case strings.HasPrefix(key, "label:"):
		return value, policy.CheckLabels("label", map[string]string{strings.TrimPrefix(key, "label:"): value})
	case strings.HasPrefix(key, "context:"):
		if name, ok := strings.CutPrefix(value, image); ok {
			private, err := p.own(ctx, name)
			return image + private, err
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
	return "", errUnknownAttr
}

// own returns the name of an image, the private one if it's the stage's own.
func (p *Proxy) own(ctx context.Context, name string) (string, error) {
	private, _, err := p.find(ctx, name)
	return private, err
}

// find is own, with the instructions that the image adds to builds upon it. An image that isn't
// there yet has none.
func (p *Proxy) find(ctx context.Context, name string) (private string, onBuild []string, err error) {
	ref, err := p.options.Names.Tags.Parse(name)
	if err != nil {
		return "", nil, err
	}
	found, err := p.world.FindImage(ctx, name, ref)
	switch {
	case apierror.IsNotFound(err):
		return name, nil, p.world.CheckHeld(ctx, ref)
	case err != nil:
		return "", nil, err
	}
	if _, whole := ref.(reference.Digested); whole {
		return name, found.OnBuild, p.world.CheckHeld(ctx, ref)
	}
	return cmp.Or(found.Private, name), found.OnBuild, nil
}

// held refuses an image by its name, as BuildKit has it, that isn't for this stage.
func (p *Proxy) held(ctx context.Context, name string) error {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil || names.Reserved(ref.String()) { // malformed, or judged by readRequest
		return nil
	}
	return p.world.CheckHeld(ctx, ref)
}

// hosts makes the machine, as a client knows it, the gateway of the stage's network.
func (p *Proxy) hosts(ctx context.Context, list string) (string, error) {
	var out []string
	for line := range strings.SplitSeq(list, ",") {
		name, address, err := policy.Host(strings.TrimSpace(line))
		if err != nil {
			return "", err
		}
		if address == policy.HostGateway {
			gateway, err := p.world.Gateway(ctx)
			if err != nil {
				return "", err
			}
			address = gateway.String()
		}
		out = append(out, name+"="+address)
	}
	return strings.Join(out, ","), nil
}

// ProxyHost returns a name for /etc/hosts that stands for a scope of proxies with BuildKit: hosts
// are part of a step there, and of its key.
func ProxyHost(args map[string]*string) string {
	if scope := policy.ProxyScope(args); scope != "" {
		return scope + ".invalid"
	}
	return ""
}
