package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/docker/api/types/volume"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// world answers the policy's questions about the guard's stage.
type world struct{ g *Guard }

var _ policy.World = world{}

// Stage returns what doesn't change while the stage runs.
func (w world) Stage() policy.Stage {
	o := w.g.opts
	return policy.Stage{
		Labels:       w.g.labels,
		Network:      o.Network,
		Hosts:        o.Hosts,
		Socket:       o.Socket,
		SocketDir:    o.SocketDir,
		SocketGroup:  groupOf(o.Daemon),
		Unprivileged: o.Unprivileged,
		Limits:       o.Limits,
	}
}

// groupOf returns the number of a file's group, unless it is root's or unknown.
func groupOf(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Gid == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(st.Gid), 10)
}

// Absent returns the name that a client's own has.
func (w world) Absent(ref string) string { return w.g.names.Scope(ref) }

// Container finds a container of the stage, with its mounts.
func (w world) Container(ctx context.Context, ref string) (policy.Container, error) {
	found, err := w.g.own.inspectContainer(ctx, ref, "", nil)
	if err != nil {
		return policy.Container{}, err
	}
	var in struct {
		Mounts     []policy.Mount
		HostConfig struct {
			Mounts []struct {
				Target        string
				VolumeOptions *struct{ Subpath string }
			}
		}
	}
	if err := json.Unmarshal(found.raw, &in); err != nil {
		return policy.Container{}, fmt.Errorf("read the mounts of a container: %w", err)
	}
	for _, h := range in.HostConfig.Mounts {
		for i := range in.Mounts {
			if h.VolumeOptions != nil && in.Mounts[i].Destination == path.Clean(h.Target) {
				in.Mounts[i].Subpath = h.VolumeOptions.Subpath
			}
		}
	}
	c := policy.Container{ID: found.ID, Name: found.Name, Step: found.standing != ofClient, Mounts: in.Mounts}
	if !c.Step {
		c.Shown = w.g.names.Unscope(found.Name)
	}
	return c, nil
}

// Network finds a network of the stage.
func (w world) Network(ctx context.Context, ref string) (policy.Network, error) {
	n, err := w.g.own.findNetwork(ctx, ref)
	return policy.Network{ID: n.ID, Name: n.Name, Own: n.standing == ofRunner}, err
}

// Image finds an image that the stage may use.
func (w world) Image(ctx context.Context, ref string) (policy.Image, error) {
	i, err := w.g.findImage(ctx, ref)
	return policy.Image{Ref: i.ref, ID: i.id, Volumes: i.volumes, Ports: i.ports, Labels: i.labels}, err
}

// Volume finds the stage's volume of that name, and makes it if there is none.
func (w world) Volume(ctx context.Context, ref string, labels map[string]string) (policy.Volume, error) {
	g := w.g
	if !names.Valid(ref) {
		return policy.Volume{}, apierror.BadRequest("%s is no name of a volume", apierror.Quote(ref))
	}
	unlock, err := g.lock.lock(ctx, "volume "+ref)
	if err != nil {
		return policy.Volume{}, err
	}
	defer unlock()
	found, err := g.own.findVolume(ctx, ref, "")
	if apierror.IsNotFound(err) {
		o := volume.CreateOptions{Name: g.names.Scope(ref), Driver: "local", Labels: labels}
		err = g.up.Call(ctx, http.MethodPost, "/volumes/create", nil, o, &found)
	}
	return policy.Volume{Name: found.Name, Mountpoint: found.Mountpoint}, err
}

// Caller returns the mounts of the container that the request comes from.
func (w world) Caller(ctx context.Context) (policy.Caller, error) { return w.g.callerOf(ctx) }

// Part looks at a part of a volume, or mounts it.
func (w world) Part(_ context.Context, p policy.Part) (string, error) {
	if p.Mount {
		return w.g.mounts.Add(p.Root, p.Path, p.Create)
	}
	return "", w.g.mounts.Check(p.Root, p.Path, p.Create)
}

// Gateway returns the address of the daemon's machine on the stage's network.
func (w world) Gateway(ctx context.Context) (netip.Addr, error) {
	n, err := w.g.stageNet(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	return n.gateway, nil
}

// Subnets returns which addresses networks may have.
func (w world) Subnets(ctx context.Context) (s policy.Subnets, err error) {
	if s.Pools, err = w.g.subnetPools(ctx); err != nil {
		return s, err
	}
	if s.Taken, err = uplink.Networks(); err != nil {
		return s, fmt.Errorf("look which subnets are free: %w", err)
	}
	s.Reserved, err = w.g.runner.Reserved(ctx)
	return s, err
}

// Version returns the newest version of the API that the daemon and the guard speak.
func (w world) Version(ctx context.Context) (string, error) {
	newest, _, err := w.g.up.Versions(ctx)
	return newest, err
}

// Daemon returns what the daemon gives its containers anyway.
func (w world) Daemon(ctx context.Context) (policy.Daemon, error) {
	var info struct {
		DefaultRuntime  string
		SecurityOptions []string
	}
	if err := w.g.up.Call(ctx, http.MethodGet, "/info", nil, nil, &info); err != nil {
		return policy.Daemon{}, fmt.Errorf("ask the docker daemon what its containers have: %w", err)
	}
	has := func(option string) bool {
		return slices.ContainsFunc(info.SecurityOptions, func(s string) bool {
			name, _, _ := strings.Cut(s, ",")
			return name == option || name == "name="+option
		})
	}
	return policy.Daemon{
		Runtime:        info.DefaultRuntime,
		UserNamespaces: has("userns"),
		SELinux:        has("selinux"),
		HardLimits:     w.g.up.HardLimits(),
	}, nil
}
