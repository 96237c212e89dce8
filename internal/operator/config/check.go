package config

import (
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
)

// check validates the values that were well-formed, mends what has one meaning only, and says what
// isn't served.
func (l *loader) check(cfg *Config) {
	l.checkRPC(&cfg.RPC)
	l.checkHTTP(&cfg.HTTP)
	l.checkRunner(&cfg.Runner)
	l.checkResources(&cfg.Resources)
	l.checkRegistries(&cfg.Docker)
	l.checkCache(cfg)
	l.checkEndpoint("DRONE_ENV_PLUGIN_ENDPOINT", cfg.Plugins.Environ.Endpoint)
	l.checkEndpoint("DRONE_SECRET_PLUGIN_ENDPOINT", cfg.Plugins.Secret.Endpoint)
	l.checkEndpoint("DRONE_REGISTRY_PLUGIN_ENDPOINT", cfg.Plugins.Registry.Endpoint)
	if cfg.Platform.OS != "linux" {
		l.fail("DRONE_PLATFORM_OS: %q: this runner runs linux containers: write linux, or remove it", cfg.Platform.OS)
	}
	if cfg.Dashboard.Password != "" && !cfg.Dashboard.Disable {
		l.notice("DRONE_UI_PASSWORD is set, but this version has no dashboard")
	}
	if cfg.Tmate.Enabled {
		l.notice("DRONE_TMATE_ENABLED is set, but this version opens no debug sessions: builds in debug mode run " +
			"as any other")
	}
}

// checkRPC takes an address that was written as a URL apart, and refuses what can't be one.
func (l *loader) checkRPC(rpc *RPC) {
	if rpc.Host == "" {
		return // reported as missing already
	}
	if scheme, rest, ok := strings.Cut(rpc.Host, "://"); ok {
		scheme = strings.ToLower(scheme)
		if proto, set := l.env["DRONE_RPC_PROTO"]; set && proto != scheme {
			l.fail("DRONE_RPC_HOST: %q begins with %s://, and DRONE_RPC_PROTO says %s: write the host alone",
				rpc.Host, scheme, proto)
			return
		}
		l.notice("DRONE_RPC_HOST holds a protocol: it is taken as DRONE_RPC_PROTO=%s and DRONE_RPC_HOST=%s",
			scheme, strings.TrimRight(rest, "/"))
		rpc.Proto, rpc.Host = scheme, rest
	}
	rpc.Host = strings.TrimRight(rpc.Host, "/")
	if rpc.Proto != "http" && rpc.Proto != "https" {
		l.fail("DRONE_RPC_PROTO: %q is not known: write http or https", rpc.Proto)
		return
	}
	u, err := url.Parse(rpc.Address())
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.ContainsAny(u.Host, " \t,;") || !validPort(u.Port(), u.Host) {
		l.fail("DRONE_RPC_HOST: %q is not a host: write it as drone.example.com or drone.example.com:8080",
			withoutUser(rpc.Host))
	}
}

// validPort reports whether the port, which url.Parse has found in host, is one; a colon without a
// number behind it isn't.
func validPort(port, host string) bool {
	if port == "" {
		return !strings.HasSuffix(host, ":")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func (l *loader) checkHTTP(h *HTTP) {
	if _, err := strconv.ParseUint(h.Bind, 10, 16); err == nil {
		h.Bind = ":" + h.Bind
	}
	if _, port, err := net.SplitHostPort(h.Bind); err != nil || !isPort(port) {
		l.fail("DRONE_HTTP_BIND: %q is not an address to listen on: write :3000, or 127.0.0.1:3000", h.Bind)
	}
	if h.Proto != "http" {
		l.fail("DRONE_HTTP_PROTO: %q is not served: the runner's own server answers plain HTTP; write http, and "+
			"put a proxy in front for TLS", h.Proto)
	}
	if h.ACME {
		l.fail("DRONE_HTTP_ACME is not served: the runner's own server answers plain HTTP; remove it, and put a " +
			"proxy in front for TLS")
	}
	if h.Host != "" {
		l.fail("DRONE_HTTP_HOST: %q has no effect: the runner's own server answers under any name; remove it "+
			"(DRONE_HTTP_BIND says where it listens)", h.Host)
	}
}

// isPort reports whether it is a number that can be listened on; 0 is any free one.
func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (l *loader) checkRunner(r *Runner) {
	if cells, err := sandbox.ParseSeparation(string(r.Cells)); err != nil {
		l.fail("DRONE_RUNNER_CELLS: %s", err)
	} else {
		r.Cells = cells
	}
	if r.CellsWarm < 0 {
		l.fail("DRONE_RUNNER_CELLS_WARM: %d is less than 0", r.CellsWarm)
	}
	if r.CellsIdle < 0 {
		l.fail("DRONE_RUNNER_CELLS_IDLE: %s is less than 0", r.CellsIdle)
	}
	if grade, err := sandbox.Parse(string(r.Sandbox)); err != nil {
		l.fail("DRONE_RUNNER_SANDBOX: %w", err)
	} else {
		r.Sandbox = grade
	}
	if r.Capacity < 1 {
		l.fail("DRONE_RUNNER_CAPACITY: %d: a runner without capacity runs nothing: write 1 or more", r.Capacity)
	}
	if r.MaxProcs < 0 {
		l.fail("DRONE_RUNNER_MAX_PROCS: %d is negative: write a number of steps, or 0 for no limit", r.MaxProcs)
	}
	if r.DrainTimeout < 0 {
		l.fail("DRONE_RUNNER_DRAIN_TIMEOUT: %q is negative: write a duration such as 90s, 30m or 1h30m", r.DrainTimeout)
	}
	if r.StepTimeout < 0 {
		l.fail("DRONE_RUNNER_STEP_TIMEOUT: %q is negative: write a duration such as 30m or 2h, or 0 for none",
			r.StepTimeout)
	}
	if r.ServiceWait < 0 {
		l.fail("DRONE_RUNNER_SERVICE_WAIT: %q is negative: write a duration such as 60s or 5m, or 0 not to wait",
			r.ServiceWait)
	}
	if r.ReapInterval < 0 {
		l.fail("DRONE_RUNNER_REAP_INTERVAL: %q is negative: write a duration such as 10m or 1h, or 0 for once at "+
			"start", r.ReapInterval)
	}
	if r.ReportTimeout < 0 {
		l.fail("DRONE_RUNNER_REPORT_TIMEOUT: %q is negative: write a duration such as 10m or 1h, or 0 for no limit", r.ReportTimeout)
	}
	if r.LogLimit < 0 {
		l.fail("DRONE_RUNNER_LOG_LIMIT: %d is negative: write a number of bytes, such as 10MB", r.LogLimit)
	}
	if r.Privileged != "" && r.Privileged != privilegedRefuse {
		l.fail("DRONE_RUNNER_PRIVILEGED: %q is not known: it can be refuse, or be left out; nothing runs "+
			"privileged either way", r.Privileged)
	}
	if !path.IsAbs(r.State) {
		l.fail("DRONE_RUNNER_STATE: %q is not an absolute path: write one such as /var/lib/drone-runner", r.State)
	}
	for i, image := range r.DockerPlugins {
		switch ref, err := reference.ParseNormalizedNamed(image); {
		case err != nil:
			l.fail("DRONE_RUNNER_DOCKER_PLUGINS: %q is no image (%v): write REGISTRY/NAME, in lower case", image, err)
		case !reference.IsNameOnly(ref):
			l.fail("DRONE_RUNNER_DOCKER_PLUGINS: %q has a tag or a digest: write %s, which stands for them all",
				image, reference.FamiliarName(ref))
		default:
			r.DockerPlugins[i] = reference.FamiliarName(ref)
		}
	}
	for item := range strings.SplitSeq(l.env["DRONE_RUNNER_VOLUMES"], ",") {
		item = strings.TrimSpace(item)
		if mode := item[strings.LastIndexByte(item, ':')+1:]; slices.Contains(idleModes(), mode) {
			l.notice("DRONE_RUNNER_VOLUMES: %q: the mode %s has no effect here: remove it", item, mode)
		}
	}
	l.checkPaths("DRONE_RUNNER_HOST_PATHS", r.HostPaths)
	l.checkPaths("DRONE_RUNNER_SHARED_PATHS", r.SharedPaths)
}

// checkPaths cleans the absolute paths of a variable.
func (l *loader) checkPaths(name string, paths []string) {
	for i, p := range paths {
		switch clean := path.Clean(p); {
		case !path.IsAbs(p):
			l.fail("%s: %q is not an absolute path: write one such as /srv/cache", name, p)
		case clean == "/":
			l.fail("%s: %q stands for the whole file system: name the folders that pipelines may use or share", name, p)
		default:
			paths[i] = clean
		}
	}
}

var cpuSet = regexp.MustCompile(`^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$`)

func (l *loader) checkResources(r *Resources) {
	for _, v := range []struct {
		name  string
		value int64
		least int64
	}{
		{"DRONE_MEMORY_LIMIT", int64(r.Memory), 0},
		{"DRONE_MEMORY_SWAP_LIMIT", int64(r.MemorySwap), -1},
		{"DRONE_SHM_SIZE", int64(r.ShmSize), 0},
		{"DRONE_CPU_QUOTA", r.CPUQuota, 0},
		{"DRONE_CPU_PERIOD", r.CPUPeriod, 0},
		{"DRONE_CPU_SHARES", r.CPUShares, 0},
		{"DRONE_RUNNER_PIDS_LIMIT", r.Pids, 0},
	} {
		if v.value < v.least {
			l.fail("%s: %d is less than %d: write a limit, or 0 for none", v.name, v.value, v.least)
		}
	}
	if r.CPUSet != "" && !cpuSet.MatchString(r.CPUSet) {
		l.fail("DRONE_CPU_SET: %q is not a list of CPUs: write it as 0-2,4", r.CPUSet)
	}
}

// checkEndpoint takes the URL of a provider, or none.
func (l *loader) checkEndpoint(name, endpoint string) {
	if endpoint == "" {
		return
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		l.fail("%s: %q is not a URL: write one such as http://secrets:3000", name, withoutUser(endpoint))
	}
}

// withoutUser is an address for a message: a user, and maybe a password, are asterisks.
func withoutUser(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return redacted + address[at:]
	}
	return address
}
