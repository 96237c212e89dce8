package policy

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// What clients ask for out of habit: what every container has anyway, and what most of them do
// without.

// combined judges fields of a new container that mean something together, as the client wrote them.
// It runs before the tables, which judge each field alone.
func (j *judgement) combined(h *container.HostConfig) error {
	const at = "HostConfig."
	if h.Privileged && j.stage.Unprivileged {
		j.unprivileged(at, h)
	}
	if slices.ContainsFunc(h.CapAdd, func(c string) bool { return capability(c) == tracing }) && h.PidMode != "" {
		return apierror.Refuse(
			at+"CapAdd "+apierror.Quote(tracing),
			"with the process namespace of another container it would trace that one's",
			"",
		)
	}
	if len(h.Sysctls) > 0 && h.NetworkMode.IsContainer() {
		key := slices.Min(slices.Collect(maps.Keys(h.Sysctls)))
		return apierror.Refuse(
			at+"Sysctls "+apierror.Quote(key),
			"it would change the network of another container",
			"",
		)
	}
	return nil
}

// unprivileged runs a privileged container without, as a step of a trusted repository is: most that
// ask for it only want Docker, or nothing that they know of. The capabilities that it asks for
// besides are part of that.
func (j *judgement) unprivileged(at string, h *container.HostConfig) {
	h.Privileged = false
	j.warn(at + "Privileged is not granted: a stage's containers are unprivileged, and this one runs without")
	h.CapAdd = slices.DeleteFunc(h.CapAdd, func(c string) bool {
		if grantable(c) {
			return false
		}
		j.warn(at + "CapAdd " + capability(c) + " is not granted: a stage's containers are unprivileged")
		return true
	})
}

// defaultCapabilities are what Docker gives an unprivileged container: to add one of them only
// undoes a drop.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
	"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// tracing is the capability to trace the processes of one's own namespace.
const tracing = "SYS_PTRACE"

// capability returns the name of a capability in one spelling.
func capability(name string) string { return strings.TrimPrefix(strings.ToUpper(name), "CAP_") }

// grantable reports whether a container may have a capability.
func grantable(name string) bool {
	c := capability(name)
	return c == tracing || slices.Contains(defaultCapabilities, c)
}

// capAdd lets a container have what it would have without a drop, and trace its own processes.
func capAdd(_ *judgement, at string, v reflect.Value) error {
	for i := range v.Len() {
		if name := v.Index(i).String(); !grantable(name) {
			return apierror.Refuse(
				at+" "+apierror.Quote(name),
				"a stage's containers get no more capabilities than Docker's default set",
				"",
			)
		}
	}
	if v.Len() == 0 {
		v.SetZero()
	}
	return nil
}

// harmlessSysctls are of a network namespace, and change nothing outside of it. tcpSysctl and
// noIPv6Sysctl are more of them.
var (
	harmlessSysctls = []string{
		"net.ipv4.ip_unprivileged_port_start",
		"net.ipv4.ip_local_port_range",
		"net.ipv4.ping_group_range",
		"net.core.somaxconn",
	}
	tcpSysctl    = regexp.MustCompile(`^net\.ipv4\.tcp_[a-z0-9_]+$`)
	noIPv6Sysctl = regexp.MustCompile(`^net\.ipv6\.conf\.[a-z0-9_]+\.disable_ipv6$`)
	sysctlValue  = regexp.MustCompile(`^[a-z0-9 \t-]{0,64}$`)
)

// sysctls lets a container set what is its own.
func sysctls(_ *judgement, at string, v reflect.Value) error {
	given, _ := v.Interface().(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(given)) {
		switch {
		case !slices.Contains(harmlessSysctls, key) && !tcpSysctl.MatchString(key) && !noIPv6Sysctl.MatchString(key):
			return apierror.Refuse(
				at+" "+apierror.Quote(key),
				"kernel parameters are the runner's, apart from harmless ones of a container's own network",
				"",
			)
		case !sysctlValue.MatchString(given[key]):
			return apierror.Refuse(
				at+" "+apierror.Quote(key),
				"its value has characters that no such parameter's has",
				"",
			)
		}
	}
	return nil
}

// isRunc reports whether a runtime is the one that a docker daemon has by itself.
func isRunc(name string) bool { return name == "runc" || name == "io.containerd.runc.v2" }

// runtime may be asked for where it is the one that runs the container anyway.
func runtime(j *judgement, at string, v reflect.Value) error {
	if name := v.String(); name != "" && !isRunc(name) && name != j.facts.daemon.Runtime {
		return apierror.Refuse(at+" "+apierror.Quote(name), "the runtime is the runner's choice", "leave it out")
	}
	v.SetZero()
	return nil
}

// usernsMode may be host where the daemon maps no users: then it says what is so anyway.
func usernsMode(j *judgement, at string, v reflect.Value) error {
	if mode := v.String(); mode != "" && (mode != "host" || j.facts.daemon.UserNamespaces) {
		return apierror.Refuse(at+" "+apierror.Quote(mode), "the user namespace stays the daemon's", "")
	}
	v.SetZero()
	return nil
}

// noLabelling are the options by which a container does without SELinux's labels.
var noLabelling = []string{"label=disable", "label:disable"}

// securityOpt lets a container give up gaining privileges, and say of labels that there are none
// where there are none.
func securityOpt(j *judgement, at string, v reflect.Value) error {
	opts, _ := v.Interface().([]string)
	var out []string
	for _, o := range opts {
		switch {
		case slices.Contains([]string{"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}, o):
			out = append(out, o)
		case slices.Contains(noLabelling, o) && !j.facts.daemon.SELinux:
		default:
			return apierror.Refuse(
				at+" "+apierror.Quote(o),
				"profiles and labels are the daemon's",
				"only no-new-privileges is allowed",
			)
		}
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// kernelMemory is a limit that no daemon keeps any more.
func kernelMemory(j *judgement, at string, v reflect.Value) error {
	if v.Int() != 0 {
		j.warn(at + " has no effect: kernel memory can't be limited apart; use Memory")
	}
	v.SetZero()
	return nil
}

// asksDaemon reports whether it takes the daemon's word to judge what a new container asks for.
func asksDaemon(h *container.HostConfig) bool {
	return h.Runtime != "" && !isRunc(h.Runtime) || h.UsernsMode == "host" || len(h.Ulimits) > 0 ||
		slices.ContainsFunc(h.SecurityOpt, func(o string) bool { return slices.Contains(noLabelling, o) })
}
