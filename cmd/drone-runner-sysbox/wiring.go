package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	docker "github.com/docker/docker/client"
	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/drone/runner-go/environ"
	"github.com/drone/runner-go/environ/provider"
	"github.com/drone/runner-go/registry"
	"github.com/drone/runner-go/secret"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/compiler"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/reserved"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/server"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/cell"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// wiring makes the parts of the daemon from its configuration: the one place where what an operator
// sets meets what obeys it.
type wiring struct {
	cfg    *config.Config
	log    *logrus.Logger
	docker *docker.Client
	// journal is of the stages that are lived.
	journal *journal.Journal
	// ledger knows when images were used, and access who may have them; nil for whoever runs no
	// builds.
	ledger *cache.Ledger
	access *cache.Access
	// scopes keep apart what their image builds cache; nil as well.
	scopes *cache.Scopes
	// budget keeps the daemon's disk from filling; nil as well.
	budget *janitor.Budget
	// metrics count what happens; nil as well.
	metrics *server.Metrics
	// site is where docker is.
	site site
	// cells evicts those that don't run; nil where there are none.
	cells *cell.Manager
}

// client is the connection to the server.
func (w wiring) client() *rpc.Client {
	o := rpc.Options{
		Endpoint:   w.cfg.RPC.Address(),
		Secret:     string(w.cfg.RPC.Secret),
		SkipVerify: w.cfg.RPC.SkipVerify,
		UserAgent:  "drone-runner-sysbox/" + strings.ReplaceAll(versionText(), " ", "-"),
		RefusedFor: w.cfg.Runner.ReportTimeout,
		Log:        w.log,
	}
	if w.cfg.RPC.DumpHTTP || w.cfg.RPC.DumpHTTPBody {
		o.Dump, o.DumpBody = w.log.Out, w.cfg.RPC.DumpHTTPBody
	}
	return rpc.New(o)
}

// engine is the one of all builds in a daemon.
func (w wiring) engine() *engine.Docker {
	dir := w.site.builds
	if dir == "" {
		dir = socketsDir()
	}
	return engine.New(w.docker, engine.Options{
		RunnerName: w.cfg.Runner.Name,
		StreamPull: w.cfg.Docker.StreamPull,
		Pull:       engine.PullOptions{Fallback: engine.Fallback(w.cfg.Docker.PullFallback)},
		Pids:       w.cfg.Resources.Pids,
		Guard:      &engine.GuardOptions{Dir: dir, Netns: w.site.netns, Limits: w.guardLimits(), Reserved: reserved.Addresses(w.hosts())},
		Access:     w.access,
		Scopes:     w.scopes,
		Ledger:     w.ledger,
		Room:       w.makeRoom(),
		Origin:     w.origin(),
		Log:        w.log,
	})
}

// origin counts where the images of steps come from.
func (w wiring) origin() func(engine.ImageOrigin) {
	if w.metrics == nil {
		return nil
	}
	return func(o engine.ImageOrigin) { w.metrics.Image(string(o)) }
}

// poller fetches stages and lives them.
func (w wiring) poller(c *rpc.Client, e runtime.Engine, heard func(error)) *runtime.Poller {
	runner := &runtime.Runner{
		Client:  c,
		Machine: w.cfg.Runner.Name,
		Compile: compile(w.loader()),
		Permit: func(repo *drone.Repo, build *drone.Build) error {
			return w.cfg.Limits.Match(repo.Slug, build.Event, repo.Trusted)
		},
		Executor: &runtime.Executor{
			Engine:      e,
			Procs:       w.procs(),
			StepTimeout: w.cfg.Runner.StepTimeout,
			ServiceWait: w.cfg.Runner.ServiceWait,
			Log:         w.log,
		},
		Logs:    w.logs(),
		Journal: w.journal,
		Ended:   w.metrics.BuildEnded,
		Log:     w.log,
	}
	return &runtime.Poller{
		Client: c,
		Filter: &client.Filter{
			Kind:    resource.KindPipeline,
			Type:    resource.TypeDocker,
			OS:      w.cfg.Platform.OS,
			Arch:    w.cfg.Platform.Arch,
			Variant: w.cfg.Platform.Variant,
			Kernel:  w.cfg.Platform.Kernel,
			Labels:  w.cfg.Runner.Labels,
		},
		Capacity: w.cfg.Runner.Capacity,
		Dispatch: runner.Run,
		Heard:    heard,
		Log:      w.log,
	}
}

// logs says how the logs of steps are kept until the server has them.
func (w wiring) logs() runtime.LogOptions {
	return runtime.LogOptions{Dir: w.journal.Logs(), Limit: int64(w.cfg.Runner.LogLimit), Lost: w.journal.Lost()}
}

// guardLimits are the operator's limits of a container, for those that steps make themselves.
func (w wiring) guardLimits() guard.Limits {
	r := w.cfg.Resources
	return guard.Limits{
		Memory:     int64(r.Memory),
		MemorySwap: int64(r.MemorySwap),
		CPUPeriod:  r.CPUPeriod,
		CPUQuota:   r.CPUQuota,
		CPUShares:  r.CPUShares,
		CPUSet:     r.CPUSet,
		Pids:       r.Pids,
		ShmSize:    int64(r.ShmSize),
	}
}

// socketsDir is the folder for the docker sockets of builds. Paths of sockets must be short: 108
// bytes at most (unix(7)).
func socketsDir() string {
	if os.Geteuid() == 0 {
		return filepath.Join(runRoot, "builds")
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "drone-runner-sysbox")
	}
	return filepath.Join(os.TempDir(), "drone-runner-sysbox-"+strconv.Itoa(os.Geteuid()))
}

// procs limits the steps at once over all stages; nil is no limit.
func (w wiring) procs() *semaphore.Weighted {
	if w.cfg.Runner.MaxProcs <= 0 {
		return nil
	}
	return semaphore.NewWeighted(int64(w.cfg.Runner.MaxProcs))
}

// compile is the loader's Load without the warnings, which are in the logs.
func compile(loader *pipeline.Loader) func(context.Context, *client.Context) (*spec.Spec, error) {
	return func(ctx context.Context, d *client.Context) (*spec.Spec, error) {
		s, _, err := loader.Load(ctx, d)
		return s, err
	}
}

// loader makes specs of what the server sends.
func (w wiring) loader() *pipeline.Loader {
	cfg := w.cfg
	return &pipeline.Loader{
		NoteWarnings:     true,
		RefusePrivileged: cfg.Runner.RefusePrivileged(),
		Separation:       cfg.Runner.Cells,
		// An operator who mounts the socket into every step means untrusted repositories too.
		OpenSocket: slices.ContainsFunc(cfg.Runner.Volumes, func(v config.Volume) bool { return resource.ClassifyHostPath(v.Source) == resource.PathSocket }),
		Compiler: &compiler.Compiler{
			RefusePrivileged: cfg.Runner.RefusePrivileged(),
			Environ:          w.environ(),
			Secret:           w.secrets(),
			Registry:         w.registries(),
			NetrcCloneOnly:   cfg.Netrc.CloneOnly,
			CloneImage:       cfg.Runner.CloneImage,
			Proxy:            proxy(),
			Limits: spec.Limits{
				Memory:     int64(cfg.Resources.Memory),
				MemorySwap: int64(cfg.Resources.MemorySwap),
				CPUPeriod:  cfg.Resources.CPUPeriod,
				CPUQuota:   cfg.Resources.CPUQuota,
				CPUShares:  cfg.Resources.CPUShares,
				CPUSet:     cfg.Resources.CPUSet,
				ShmSize:    int64(cfg.Resources.ShmSize),
			},
			Volumes:        w.volumes(),
			HostPaths:      cfg.Runner.HostPaths,
			SharedPaths:    cfg.Runner.SharedPaths,
			DockerPlugins:  slices.Concat(compiler.DefaultDockerPlugins(), cfg.Runner.DockerPlugins),
			Networks:       cfg.Runner.Networks,
			NetworkOptions: networkOptions(cfg.Runner.NetworkOpts, w.log),
			RunnerName:     cfg.Runner.Name,
		},
	}
}

// environ are the operator's variables, then the plugin's, which win.
func (w wiring) environ() provider.Provider {
	p := w.cfg.Plugins.Environ
	return provider.Combine(
		provider.Static(w.cfg.Runner.Environ),
		compiler.ExternalEnviron(p.Endpoint, string(p.Token), p.SkipVerify),
	)
}

// secrets are the operator's, then the plugin's.
func (w wiring) secrets() secret.Provider {
	static := map[string]string{}
	for name, value := range w.cfg.Runner.Secrets {
		static[name] = string(value)
	}
	p := w.cfg.Plugins.Secret
	return secret.Combine(
		secret.StaticVars(static),
		compiler.ExternalSecret(p.Endpoint, string(p.Token), p.SkipVerify),
	)
}

// registries are the credentials of the plugin, then those of the file.
func (w wiring) registries() registry.Provider {
	p := w.cfg.Plugins.Registry
	return registry.Combine(
		compiler.ExternalRegistry(p.Endpoint, string(p.Token), p.SkipVerify),
		compiler.RegistryFile(w.cfg.Docker.Config),
	)
}

func (w wiring) volumes() []compiler.OperatorVolume {
	var out []compiler.OperatorVolume
	for _, v := range w.cfg.Runner.Volumes {
		out = append(out, compiler.OperatorVolume(v))
	}
	return out
}

// proxy are the proxy variables of this process, for the steps.
func proxy() map[string]string { return environ.Proxy() }

// networkOptions are the operator's, and for a daemon on this machine the MTU of the way out of it:
// packets of a bridge that thinks bigger than its uplink get lost, and downloads hang.
func networkOptions(operator map[string]string, log logrus.FieldLogger) map[string]string {
	daemon := os.Getenv(docker.EnvOverrideHost)
	if _, set := operator[bridge.OptionMTU]; set || daemon != "" && !strings.HasPrefix(daemon, "unix://") {
		return operator
	}
	const usual = 1500
	up, err := uplink.Find()
	switch {
	case err != nil:
		log.WithError(err).Warnf("the MTU of this machine's uplink isn't known, so networks get Docker's default; DRONE_RUNNER_NETWORK_OPTS=%s:BYTES sets another", bridge.OptionMTU)
		return operator
	case up.MTU == 0 || up.MTU == usual:
		return operator
	}
	out := maps.Clone(operator)
	if out == nil {
		out = map[string]string{}
	}
	out[bridge.OptionMTU] = strconv.Itoa(up.MTU)
	return out
}

// hosts are those of the configuration. A network of a stage that covered one of their addresses
// would take it from the runner and from every build.
func (w wiring) hosts() []reserved.Host {
	out := []reserved.Host{{Address: w.cfg.RPC.Address(), Purpose: "the Drone server"}}
	for _, mirror := range w.cfg.Docker.RegistryMirrors {
		out = append(out, reserved.Host{Address: mirror, Purpose: "a registry mirror"})
	}
	for _, plugin := range []string{w.cfg.Plugins.Environ.Endpoint, w.cfg.Plugins.Secret.Endpoint, w.cfg.Plugins.Registry.Endpoint} {
		out = append(out, reserved.Host{Address: plugin, Purpose: "a plugin of the runner"})
	}
	return append(out, proxies()...)
}

// proxies are those of the environment, which steps get as well.
func proxies() []reserved.Host {
	var out []reserved.Host
	for name, value := range proxy() {
		if !strings.EqualFold(name, "no_proxy") {
			out = append(out, reserved.Host{Address: value, Purpose: "the proxy"})
		}
	}
	return out
}

// hostname returns the name of this machine, or "localhost".
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
