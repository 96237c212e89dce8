package policy

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// facts are what the World has answered about what a request refers to.
type facts struct {
	// image is that of the container.
	image   Image
	gateway netip.Addr
	caller  Caller
	daemon  Daemon
	// containers, networks and images are by the client's words; containers are by their ids as
	// well.
	containers map[string]Container
	networks   map[string]Network
	images     map[string]Image
}

// unresolved is the error of a reference that no question was asked about: a rule reads what
// resolve hasn't seen.
func unresolved(kind, ref string) error {
	return fmt.Errorf("judge a request: the %s %q isn't among what it refers to", kind, ref)
}

func (f facts) container(ref string) (Container, error) {
	c, ok := f.containers[ref]
	if !ok {
		return c, unresolved("container", ref)
	}
	return c, nil
}

func (f facts) network(ref string) (Network, error) {
	n, ok := f.networks[ref]
	if !ok {
		return n, unresolved("network", ref)
	}
	return n, nil
}

func (f facts) imageOf(ref string) (Image, error) {
	i, ok := f.images[ref]
	if !ok {
		return i, unresolved("image", ref)
	}
	return i, nil
}

// references are what a request refers to, in the client's words.
type references struct {
	image                        string
	containers, networks, images []string
	// joins are containers that have to be there when another is made, linked those that have to be
	// for a link. later are those that may come until it is started.
	joins, linked, later []string
	// strict says that networks may not come later either.
	strict                  bool
	gateway, caller, daemon bool
}

// resolve asks the world about each reference.
func (r references) resolve(ctx context.Context, w World) (f facts, err error) {
	f = facts{containers: map[string]Container{}, networks: map[string]Network{}, images: map[string]Image{}}
	if r.gateway {
		if f.gateway, err = w.Gateway(ctx); err != nil {
			return f, err
		}
	}
	if r.image != "" {
		if f.image, err = w.Image(ctx, r.image); err != nil {
			return f, err
		}
	}
	for _, ref := range r.containers {
		c, err := w.Container(ctx, ref)
		if err != nil {
			return f, err
		}
		f.containers[ref], f.containers[c.ID] = c, c
	}
	for _, ref := range slices.Concat(r.joins, r.linked, r.later) {
		c, err := r.find(ctx, w, ref)
		if err != nil {
			return f, err
		}
		f.containers[ref], f.containers[c.ID] = c, c
	}
	for _, ref := range r.networks {
		f.networks[ref], err = w.Network(ctx, ref)
		if apierror.IsNotFound(err) && !r.strict && names.ValidNetwork(ref) && ref != network.NetworkHost {
			// The daemon, too, misses it only when the container is started. An answer of 404 now
			// has clients pull the image.
			f.networks[ref], err = Network{Name: w.Absent(ref)}, nil
		}
		if err != nil {
			return f, misses(err)
		}
	}
	for _, ref := range r.images {
		if f.images[ref], err = w.Image(ctx, ref); err != nil {
			return f, err
		}
	}
	if r.caller {
		if f.caller, err = w.Caller(ctx); err != nil {
			return f, err
		}
	}
	if r.daemon {
		f.daemon, err = w.Daemon(ctx)
	}
	return f, err
}

// find looks for a container that a new one refers to.
func (r references) find(ctx context.Context, w World, ref string) (Container, error) {
	c, err := w.Container(ctx, ref)
	switch {
	case !apierror.IsNotFound(err):
	case slices.Contains(r.joins, ref):
		err = misses(err)
	case slices.Contains(r.linked, ref):
		err = apierror.BadRequest("could not get container for %.200s: No such container: %.200s", ref, ref)
	case names.Valid(ref):
		return Container{ID: w.Absent(ref), Name: w.Absent(ref)}, nil
	}
	return c, err
}

// misses makes a bad request of the absence of what a container refers to, as the daemon does: at
// 404 clients pull the image.
func misses(err error) error {
	if apierror.IsNotFound(err) {
		return apierror.BadRequest("%s", err.Error())
	}
	return err
}

// of collects what a new container refers to.
func (r *references) of(c *container.CreateRequest) {
	h := c.HostConfig
	r.image, r.gateway, r.daemon = c.Image, true, asksDaemon(h)
	r.joined(string(h.PidMode))
	r.joined(string(h.IpcMode))
	r.mode(string(h.NetworkMode))
	r.linked = append(r.linked, targets(h.Links)...)
	for _, s := range h.VolumesFrom {
		ref, _, _ := strings.Cut(s, ":")
		r.joins = append(r.joins, strings.TrimPrefix(ref, "/"))
	}
	for name, e := range c.NetworkingConfig.EndpointsConfig {
		r.endpoint(e)
		if onBridge(h) {
			r.networks = append(r.networks, name)
		}
	}
	for _, m := range h.Mounts {
		switch m.Type {
		case mount.TypeImage:
			r.images = append(r.images, m.Source)
		case mount.TypeBind:
			r.caller = r.caller || needsCaller(m.Source)
		}
	}
	for _, s := range h.Binds {
		if src, _, _ := strings.Cut(s, ":"); path.IsAbs(src) && src != s {
			r.caller = r.caller || needsCaller(src)
		}
	}
}

// joined collects the container whose namespace is joined.
func (r *references) joined(mode string) {
	if ref, ok := strings.CutPrefix(mode, joinedPrefix); ok {
		r.joins = append(r.joins, ref)
	}
}

// mode collects what a network mode refers to.
func (r *references) mode(mode string) {
	switch {
	case isDefault(mode), mode == network.NetworkNone, mode == network.NetworkHost:
	case strings.HasPrefix(mode, joinedPrefix):
		r.later = append(r.later, strings.TrimPrefix(mode, joinedPrefix))
	default:
		r.networks = append(r.networks, mode)
	}
}

// now wants all that is referred to to be there now, as what begins at once does.
func (r *references) now() {
	r.strict = true
	r.joins, r.later = append(r.joins, r.later...), nil
}

// targets are the containers of links.
func targets(links []string) []string {
	var out []string
	for _, l := range links {
		ref, _ := cutLink(l)
		out = append(out, ref)
	}
	return out
}

func (r *references) endpoint(e *network.EndpointSettings) {
	if e != nil {
		r.later = append(r.later, targets(e.Links)...)
	}
}
