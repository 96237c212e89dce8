package guard

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// What clients ask for out of habit: what every container has anyway, and what most of them do without.

// privileged runs a container of a trusted repository without, as it does a step. Most that ask for it only want Docker, or want nothing that they know of.
func privileged(p *checking, at string, v reflect.Value) error {
	if !v.Bool() {
		return nil
	}
	if !p.c.g.opts.Unprivileged {
		return apierror.Refuse(at, unprivileged, "most such containers only need Docker: mount /var/run/docker.sock, which is this build's own")
	}
	p.warn(at + " is not granted: a build's containers are unprivileged, and this one runs without")
	v.SetBool(false)
	return nil
}

// defaultCapabilities are what Docker gives an unprivileged container: to add one of them only undoes a drop.
var defaultCapabilities = []string{"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}

// capAdd lets a container have what it would have without a drop, and trace its own processes.
func capAdd(p *checking, at string, v reflect.Value) error {
	out := reflect.Zero(v.Type())
	for i := range v.Len() {
		name := strings.TrimPrefix(strings.ToUpper(v.Index(i).String()), "CAP_")
		switch {
		case slices.Contains(defaultCapabilities, name):
		case name == "SYS_PTRACE":
			if mode := p.create.req.HostConfig.PidMode; mode != "" {
				return apierror.Refuse(at+" "+apierror.Quote(name), "with the process namespace of another container it would trace that one's", "")
			}
		case p.create.req.HostConfig.Privileged && p.c.g.opts.Unprivileged: // it asks for all, and gets none
			p.warn(at + " " + name + " is not granted: a build's containers are unprivileged")
			continue
		default:
			return apierror.Refuse(at+" "+apierror.Quote(v.Index(i).String()), "a build's containers get no more capabilities than Docker's default set", "")
		}
		out = reflect.Append(out, v.Index(i))
	}
	v.Set(out)
	return nil
}

// harmlessSysctls are of a network namespace, and change nothing outside of it. tcpSysctl are more of them.
var (
	harmlessSysctls = []string{"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_port_range", "net.ipv4.ping_group_range", "net.core.somaxconn"}
	tcpSysctl       = regexp.MustCompile(`^net\.ipv4\.tcp_[a-z0-9_]+$`)
	noIPv6Sysctl    = regexp.MustCompile(`^net\.ipv6\.conf\.[a-z0-9_]+\.disable_ipv6$`)
	sysctlValue     = regexp.MustCompile(`^[a-z0-9 \t-]{0,64}$`)
)

// sysctls lets a container set what is its own.
func sysctls(p *checking, at string, v reflect.Value) error {
	given, _ := v.Interface().(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(given)) {
		switch {
		case !slices.Contains(harmlessSysctls, key) && !tcpSysctl.MatchString(key) && !noIPv6Sysctl.MatchString(key):
			return apierror.Refuse(at+" "+apierror.Quote(key), "kernel parameters are the runner's, apart from harmless ones of a container's own network", "")
		case !sysctlValue.MatchString(given[key]):
			return apierror.Refuse(at+" "+apierror.Quote(key), "its value has characters that no such parameter's has", "")
		case p.create.req.HostConfig.NetworkMode.IsContainer():
			return apierror.Refuse(at+" "+apierror.Quote(key), "it would change the network of another container", "")
		}
	}
	return nil
}

// runtime may be asked for where it is the one that runs the container anyway.
func runtime(p *checking, at string, v reflect.Value) error {
	name := v.String()
	if name == "" {
		return nil
	}
	if name != "runc" && name != "io.containerd.runc.v2" {
		info, err := p.c.g.daemonInfo(p)
		if err != nil {
			return err
		}
		if name != info.DefaultRuntime {
			return apierror.Refuse(at+" "+apierror.Quote(name), "the runtime is the runner's choice", "leave it out")
		}
	}
	v.SetZero()
	return nil
}

// usernsMode may be host where the daemon maps no users: then it says what is so anyway.
func usernsMode(p *checking, at string, v reflect.Value) error {
	switch v.String() {
	case "":
		return nil
	case "host":
		info, err := p.c.g.daemonInfo(p)
		if err != nil {
			return err
		}
		if !info.has("userns") {
			v.SetZero()
			return nil
		}
	}
	return apierror.Refuse(at+" "+apierror.Quote(v.String()), "the user namespace stays the daemon's", "")
}

// securityOpt lets a container give up gaining privileges, and say of labels that there are none where there are none.
func securityOpt(p *checking, at string, v reflect.Value) error {
	opts, _ := v.Interface().([]string)
	var out []string
	for _, o := range opts {
		switch o {
		case "no-new-privileges", "no-new-privileges:true", "no-new-privileges=true":
			out = append(out, o)
			continue
		case "label=disable", "label:disable":
			info, err := p.c.g.daemonInfo(p)
			if err != nil {
				return err
			}
			if !info.has("selinux") {
				continue
			}
		}
		return apierror.Refuse(at+" "+apierror.Quote(o), "profiles and labels are the daemon's", "only no-new-privileges is allowed")
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// kernelMemory is a limit that no daemon keeps any more.
func kernelMemory(p *checking, at string, v reflect.Value) error {
	if v.Int() != 0 {
		p.warn(at + " has no effect: kernel memory can't be limited apart; use Memory")
	}
	v.SetZero()
	return nil
}

// daemonInfo is what the daemon says of itself, as far as it decides what a container has anyway.
type daemonInfo struct {
	DefaultRuntime  string
	SecurityOptions []string
}

func (i daemonInfo) has(option string) bool {
	return slices.ContainsFunc(i.SecurityOptions, func(s string) bool {
		name, _, _ := strings.Cut(s, ",")
		return name == option || name == "name="+option
	})
}

func (g *Guard) daemonInfo(ctx context.Context) (daemonInfo, error) {
	var i daemonInfo
	if err := g.up.Call(ctx, http.MethodGet, "/info", nil, nil, &i); err != nil {
		return i, fmt.Errorf("ask the docker daemon what its containers have: %w", err)
	}
	return i, nil
}

// ulimits cuts down to the runner's limits, and to the daemon's own where it may not go above them: a container that asks for more wouldn't start.
func ulimits(p *checking, at string, v reflect.Value) error {
	list, _ := v.Interface().([]*container.Ulimit)
	for i, u := range list {
		if u == nil {
			return apierror.BadRequest("%s[%d] is null", at, i)
		}
		name := strings.ToLower(u.Name)
		most, bounded := p.c.g.opts.Limits.Ulimits[name]
		whose := "this runner's limit"
		if hard, ok := p.c.g.up.HardLimit(name); ok && (!bounded || hard < most) {
			most, bounded, whose = hard, true, "the docker daemon's own limit"
		}
		if !bounded {
			continue
		}
		if u.Hard < 0 || u.Hard > most {
			p.warn(at + " " + u.Name + " is cut down to " + whose + ", " + strconv.FormatInt(most, 10))
			u.Hard = most
		}
		if u.Soft < 0 || u.Soft > u.Hard {
			u.Soft = u.Hard
		}
	}
	return nil
}
