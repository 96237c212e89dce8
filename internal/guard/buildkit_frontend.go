package guard

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// frontendAttrs are the parameters of the Dockerfile frontend, and beginnings of such.
var (
	frontendAttrs = []string{
		"filename", "target", "source", "cmdline", "context", "contextkey", "contextsubdir", "dockerfilekey", "no-cache", "platform", "multi-platform", "image-resolve-mode",
		"hostname", "shm-size", "ulimit", "frontend.caps", "requestid",
	}
	frontendPrefixes = []string{"build-arg:", "label:", "context:", "input:", "input-metadata:", "attest:", "vcs:", "no-cache:"}
)

// frontend judges what is built: by one of BuildKit's own frontends with parameters, or by a definition of the client's.
func (o solveOpts) frontend(name string, attrs map[string]string, inputs map[string]*pb.Definition, def *pb.Definition) error {
	if name != "" && name != "dockerfile.v0" && name != "gateway.v0" {
		return apierror.Refuse("the frontend "+apierror.Quote(name), "the guard doesn't know it", "")
	}
	args := map[string]*string{}
	for k, v := range attrs {
		changed, known, err := o.attr(k, v)
		if err != nil {
			return err
		}
		if !known {
			o.g.log.WithField("parameter", k).Debug("guard drops what it does not know of a frontend")
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
	if host := proxyHost(args); host != "" {
		attrs["add-hosts"] = strings.TrimPrefix(attrs["add-hosts"]+","+host+"=127.0.0.1", ",")
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

// attr judges one parameter of a frontend. One that isn't known is dropped.
func (o solveOpts) attr(key, value string) (judged string, known bool, err error) {
	switch judged, err = o.judgeAttr(key, value); {
	case errors.Is(err, errUnknownAttr):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	return judged, true, nil
}

var errUnknownAttr = errors.New("unknown parameter of a frontend")

func (o solveOpts) judgeAttr(key, value string) (string, error) {
	switch key {
	case "force-network-mode":
		if value != "" && value != "none" && value != "default" && value != "sandbox" {
			return "", apierror.Refuse(key+" "+apierror.Quote(value), "the machine's network isn't shared", "leave --network out")
		}
		return value, nil
	case "devices", "gateway-devel":
		return "", apierror.Refuse("the parameter "+apierror.Quote(key)+" of the frontend", "a build's steps get no more than a container, and frontends come of images", "")
	case "cgroup-parent":
		return "", apierror.Refuse(key, "the cgroup of a build's steps is the runner's choice", "")
	case "add-hosts":
		return o.hosts(value)
	case "source":
		return o.own(value)
	case "cache-from":
		return value, nil
	case "cache-imports":
		var entries []*controlapi.CacheOptionsEntry
		if err := json.Unmarshal([]byte(value), &entries); err != nil {
			return "", apierror.BadRequest("cache-imports: %v", err)
		}
		return value, o.cache(entries)
	}
	switch {
	case strings.HasPrefix(key, "local-sessionid:"):
		return value, o.g.ownSession(o.ctx, value)
	case strings.HasPrefix(key, "label:"):
		return value, checkLabels("label", map[string]string{strings.TrimPrefix(key, "label:"): value})
	case strings.HasPrefix(key, "context:"):
		if name, ok := strings.CutPrefix(value, image); ok {
			private, err := o.own(name)
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

// own is the name of an image, the private one if it's the build's own.
func (o solveOpts) own(name string) (string, error) {
	private, _, err := o.find(name)
	return private, err
}

// find is own, with the instructions that the image adds to builds upon it. An image that isn't there yet has none.
func (o solveOpts) find(name string) (private string, onBuild []string, err error) {
	ref, err := o.g.tags.Parse(name)
	if err != nil {
		return "", nil, err
	}
	found, err := o.g.findNamed(o.ctx, name, ref)
	switch {
	case apierror.IsNotFound(err):
		return name, nil, o.g.checkHeld(o.ctx, ref)
	case err != nil:
		return "", nil, err
	}
	o.g.opts.Ledger.AboutToUse(found.id)
	if _, whole := ref.(reference.Digested); whole {
		return name, found.onBuild, o.g.checkHeld(o.ctx, ref)
	}
	if found.tag == "" {
		return name, found.onBuild, nil
	}
	return found.tag, found.onBuild, nil
}

// held refuses an image by its name, as BuildKit has it, that isn't for this build.
func (o solveOpts) held(name string) error {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil || names.Reserved(ref.String()) { // malformed, or judged by readRequest
		return nil
	}
	return o.g.checkHeld(o.ctx, ref)
}

// hosts makes the machine, as a client knows it, the gateway of the build's network.
func (o solveOpts) hosts(list string) (string, error) {
	var out []string
	for line := range strings.SplitSeq(list, ",") {
		name, addr, ok := cutHost(strings.TrimSpace(line))
		if !ok {
			return "", apierror.BadRequest("bad format for add-host: %s", apierror.Quote(line))
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
