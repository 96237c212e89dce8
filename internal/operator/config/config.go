// Package config is the operator's side of the runner: the environment variables (DRONE_*), parsed
// and validated once, at the edge, into typed values.
//
// The one rule to keep: nothing is overlooked in silence. A variable is honoured, or refused by
// name, or a notice says that it is ignored and why; all that is wrong is said at once. The names
// and meanings are those of Drone's own docker runner, so that its operators need to change
// nothing.
//
// The doc comments of the fields are the text of docs/configuration.md (go test
// ./internal/operator/config -update).
package config

import (
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
)

type (
	// Config is everything that the operator can set. Its fields have envconfig's tags: the
	// variable, what an empty or absent one means, and whether it is required.
	Config struct {
		Log       Log
		RPC       RPC
		HTTP      HTTP
		Dashboard Dashboard
		Runner    Runner
		Platform  Platform
		Limits    Limits
		Resources Resources
		Plugins   Plugins
		Netrc     Netrc
		Docker    Docker
		Cache     Cache
		Tmate     Tmate
	}

	// Log is what the runner says of itself, on standard error.
	Log struct {
		// Debug adds what helps to find a fault.
		Debug bool `envconfig:"DRONE_DEBUG" default:"false"`
		// Trace adds every step of the way.
		Trace bool `envconfig:"DRONE_TRACE" default:"false"`
	}

	// RPC is the Drone server that builds come from.
	RPC struct {
		// Proto is `http` or `https`.
		Proto string `envconfig:"DRONE_RPC_PROTO" default:"http"`
		// Host of the server, with its port if that isn't the protocol's own: `drone.example.com`,
		// `drone-server:8080`.
		Host string `envconfig:"DRONE_RPC_HOST" required:"true"`
		// Secret that the server was given under the same name.
		Secret Secret `envconfig:"DRONE_RPC_SECRET" required:"true"`
		// SkipVerify accepts any TLS certificate of the server: for tests.
		SkipVerify bool `envconfig:"DRONE_RPC_SKIP_VERIFY" default:"false"`
		// DumpHTTP writes every request and answer to the log, without what is secret in it.
		DumpHTTP bool `envconfig:"DRONE_RPC_DUMP_HTTP" default:"false"`
		// DumpHTTPBody adds their bodies, secrets redacted.
		DumpHTTPBody bool `envconfig:"DRONE_RPC_DUMP_HTTP_BODY" default:"false"`
	}

	// HTTP is the runner's own server, which answers `/healthz`.
	HTTP struct {
		// Bind is the address that it listens on: `:3000`, `127.0.0.1:3000`, or a bare port.
		Bind string `envconfig:"DRONE_HTTP_BIND" default:":3000"`
		// Proto may be `http`, which is what is served. Put a proxy in front for TLS.
		Proto string `envconfig:"DRONE_HTTP_PROTO" default:"http"`
		// Host is refused: the server answers under any name.
		Host string `envconfig:"DRONE_HTTP_HOST"`
		// ACME may be `false`: the server gets no certificates. Put a proxy in front for TLS.
		ACME bool `envconfig:"DRONE_HTTP_ACME" default:"false"`
	}

	// Dashboard is the page that shows what the runner does. It isn't served yet: a notice says so
	// where a password is set.
	Dashboard struct {
		// Disable switches it off.
		Disable bool `envconfig:"DRONE_UI_DISABLE" default:"false"`
		// Username of its one user.
		Username string `envconfig:"DRONE_UI_USERNAME"`
		// Password of that user. Without one there is no dashboard.
		Password Secret `envconfig:"DRONE_UI_PASSWORD"`
		// Realm that the browser shows when it asks for them.
		Realm string `envconfig:"DRONE_UI_REALM" default:"MyRealm"`
	}

	// Runner is how this runner works.
	Runner struct {
		// Sandbox is what the runner insists on around itself: `sysbox`, a Sysbox system container
		// with a Docker daemon that the runner starts in it; `userns`, any user namespace whose
		// root isn't the host's; `none` proves nothing, starts no daemon and uses the Docker that
		// is there: for development.
		Sandbox sandbox.Grade `envconfig:"DRONE_RUNNER_SANDBOX" default:"sysbox"`
		// Cells says how far repositories are kept apart whose pipelines get Docker. A cell is a
		// Docker daemon behind walls of its own, with an image cache of its own. `trust`: trusted
		// repositories share one cell, in which pipelines without Docker run, too; one that isn't
		// trusted has a cell of its own, and pull requests from forks another; `repository`:
		// trusted ones have their own as well; `shared`: one cell for all.
		// `DRONE_RUNNER_SANDBOX=none` has no cells.
		Cells sandbox.Separation `envconfig:"DRONE_RUNNER_CELLS" default:"trust"`
		// CellsWarm is how many cells that no pipeline uses are kept running besides the shared
		// one, so that the next pipeline needn't wait for its daemon.
		CellsWarm int `envconfig:"DRONE_RUNNER_CELLS_WARM" default:"2"`
		// CellsIdle is how long a cell that no pipeline uses is kept running: `10m`, `1h`.
		CellsIdle time.Duration `envconfig:"DRONE_RUNNER_CELLS_IDLE" default:"10m"`
		// Name of the runner, unique among those of the server. Default: the host name.
		Name string `envconfig:"DRONE_RUNNER_NAME"`
		// Capacity is how many pipelines run at once, at least 1.
		Capacity int `envconfig:"DRONE_RUNNER_CAPACITY" default:"2"`
		// MaxProcs is how many steps run at once, over all pipelines; `0` is as many as there are.
		MaxProcs int `envconfig:"DRONE_RUNNER_MAX_PROCS" default:"0"`
		// Environ are variables for every step: `KEY:value,KEY:value`.
		Environ Pairs[string] `envconfig:"DRONE_RUNNER_ENVIRON"`
		// EnvFile is a file of `KEY=value` lines with more of them, read at start. They win over
		// those of `DRONE_RUNNER_ENVIRON`.
		EnvFile string `envconfig:"DRONE_RUNNER_ENV_FILE"`
		// Secrets are secrets for every pipeline, after the repository's own:
		// `name:value,name:value`.
		Secrets Pairs[Secret] `envconfig:"DRONE_RUNNER_SECRETS"`
		// Labels have to equal the pipeline's `node`: `key:value,key:value`.
		Labels Pairs[string] `envconfig:"DRONE_RUNNER_LABELS"`
		// Volumes are mounted into every step: `/path:/path/in/step[:ro]`, separated by commas. A
		// volume's name may stand for the first path. The paths are of the machine or system
		// container that the Docker daemon runs in; the daemon creates a folder that is missing.
		Volumes []Volume `envconfig:"DRONE_RUNNER_VOLUMES"`
		// HostPaths are folders of that machine that `host` volumes of trusted repositories may
		// bind, themselves and what is below, separated by commas. A folder that is missing is
		// created. A symbolic link is followed if it is relative and stays below. Any other `host`
		// path is a named volume that is kept from build to build.
		HostPaths []string `envconfig:"DRONE_RUNNER_HOST_PATHS"`
		// SharedPaths are `host` paths, themselves and what is below, whose volumes all trusted
		// repositories share, separated by commas. The volume of any other path is the repository's
		// own, and pull requests from forks have one for themselves.
		SharedPaths []string `envconfig:"DRONE_RUNNER_SHARED_PATHS"`
		// Networks are Docker networks that every step joins besides its pipeline's own, separated
		// by commas.
		Networks []string `envconfig:"DRONE_RUNNER_NETWORKS"`
		// NetworkOpts are options of each pipeline's network: `com.docker.network.driver.mtu:1400`.
		NetworkOpts Pairs[string] `envconfig:"DRONE_RUNNER_NETWORK_OPTS"`
		// CloneImage is the image of the clone step.
		CloneImage string `envconfig:"DRONE_RUNNER_CLONE_IMAGE" default:"drone/git:latest"`
		// Privileged may be `refuse`: then a step that asks for `privileged` is an error in trusted
		// repositories too. Empty: such a step of a trusted repository runs unprivileged, and its
		// log says so.
		Privileged string `envconfig:"DRONE_RUNNER_PRIVILEGED"`
		// DockerPlugins are images, separated by commas, that build images as `plugins/docker`
		// does: `octo/build-image`. A step that uses one with settings and no commands gets Docker
		// to build, tag, push and pull with, in untrusted repositories too. `plugins/docker`,
		// `ecr`, `gcr`, `gar`, `acr` and `heroku`, `thegeeklab/drone-docker-buildx` and
		// `woodpeckerci/plugin-docker-buildx` are always among them.
		DockerPlugins []string `envconfig:"DRONE_RUNNER_DOCKER_PLUGINS"`
		// LogLimit is how many bytes of a step's log are sent to the server: `10485760`, `10MB`.
		// Past it the head and the tail stay, and a line says how much is missing. Each line is
		// sent with its number and its time, about 35 bytes; so `10MB` is about 5 MB of text in
		// lines of usual length. A log that the server refuses as too large is shortened further.
		LogLimit Bytes `envconfig:"DRONE_RUNNER_LOG_LIMIT" default:"10MB"`
		// ReportTimeout is how long a report is repeated that the server refuses while it does
		// everything else: `10m`, `1h`. It is a step's log, which its store may be unable to take,
		// a card, a step's state, or the details of a pipeline. A log that is given up is kept in
		// the folder `lost` of `DRONE_RUNNER_STATE`, and the pipeline's page says so. The time that
		// the server or its database is away doesn't count, and the end of a pipeline is reported
		// however long that takes. `0` is without limit.
		ReportTimeout time.Duration `envconfig:"DRONE_RUNNER_REPORT_TIMEOUT" default:"10m"`
		// DrainTimeout is how long running pipelines may take to end after SIGTERM, before they are
		// cancelled: `90s`, `1h`. `0` is as long as they take; each repository's own timeout holds
		// all the same.
		DrainTimeout time.Duration `envconfig:"DRONE_RUNNER_DRAIN_TIMEOUT" default:"0"`
		// StepTimeout is how long a step may run once its image is there: `30m`, `2h`. One that
		// runs longer is stopped, its log says so, and the pipeline fails. Services and detached
		// steps run as long as the pipeline does. `0` is as long as the repository's own timeout
		// allows.
		StepTimeout time.Duration `envconfig:"DRONE_RUNNER_STEP_TIMEOUT" default:"0"`
		// ServiceWait is how long the steps behind a service, or a detached step, wait for its
		// health check to pass, if its image has a `HEALTHCHECK`: `60s`, `5m`. Where steps have
		// `depends_on`, those wait that name it. One that never passes holds nobody up longer: the
		// next step's log warns, with the service's last lines, and the pipeline goes on. `0`
		// doesn't wait.
		ServiceWait time.Duration `envconfig:"DRONE_RUNNER_SERVICE_WAIT" default:"60s"`
		// Block are networks and addresses that no build reaches, separated by commas:
		// `10.0.0.0/8,169.254.169.254`. The default are the metadata services of clouds, which give
		// away the credentials of the machine. `none` is nothing. Resolvers in such a network, and
		// for the runner the Drone server, mirrors and proxies of this configuration, stay
		// reachable. Without effect with `DRONE_RUNNER_SANDBOX=none`: the network is the machine's
		// then.
		Block Networks `envconfig:"DRONE_RUNNER_BLOCK" default:"169.254.169.254,fd00:ec2::254"`
		// ReapInterval is how often containers, networks and volumes that builds of this runner
		// have left behind are looked for and removed, besides some times just after the start:
		// `10m`, `1h`; `0` is at start alone.
		ReapInterval time.Duration `envconfig:"DRONE_RUNNER_REAP_INTERVAL" default:"10m"`
		// State is the folder for what must survive a crash of the runner: the journal of the
		// pipelines that it has accepted, the logs that the server doesn't have yet, when images
		// were last used, and the key that keeps the build caches of repositories apart. Each
		// runner needs one of its own.
		State string `envconfig:"DRONE_RUNNER_STATE" default:"/var/lib/drone-runner"`
	}

	// Platform is what the runner offers to the server's queue.
	Platform struct {
		// OS may be `linux`.
		OS string `envconfig:"DRONE_PLATFORM_OS" default:"linux"`
		// Arch as Go names it: `amd64`, `arm64`, `arm`. Default: this machine's.
		Arch string `envconfig:"DRONE_PLATFORM_ARCH"`
		// Kernel, where pipelines ask for one by `platform.version`.
		Kernel string `envconfig:"DRONE_PLATFORM_KERNEL"`
		// Variant of the architecture: `v7`.
		Variant string `envconfig:"DRONE_PLATFORM_VARIANT"`
	}

	// Limits say which builds run here. A build that doesn't match is failed with a message that
	// says so.
	Limits struct {
		// Repos are patterns of repositories, separated by commas: `octocat/*`. Empty: all.
		Repos []Glob `envconfig:"DRONE_LIMIT_REPOS"`
		// Events are patterns of events, separated by commas: `push,tag`. Empty: all.
		Events []Glob `envconfig:"DRONE_LIMIT_EVENTS"`
		// Trusted is `true` to run trusted repositories alone.
		Trusted bool `envconfig:"DRONE_LIMIT_TRUSTED" default:"false"`
	}

	// Resources are limits of each container; `mem_limit`, `memswap_limit` and `shm_size` of a step
	// win. `0` is no limit.
	Resources struct {
		// Memory of a container: `536870912`, `512MB`.
		Memory Bytes `envconfig:"DRONE_MEMORY_LIMIT" default:"0"`
		// MemorySwap is memory and swap together; `-1` is unlimited swap.
		MemorySwap Bytes `envconfig:"DRONE_MEMORY_SWAP_LIMIT" default:"0"`
		// CPUQuota is the CPU time a period, in microseconds.
		CPUQuota int64 `envconfig:"DRONE_CPU_QUOTA" default:"0"`
		// CPUPeriod is that period, in microseconds.
		CPUPeriod int64 `envconfig:"DRONE_CPU_PERIOD" default:"0"`
		// CPUShares is the weight against other containers; Docker's own is 1024.
		CPUShares int64 `envconfig:"DRONE_CPU_SHARES" default:"0"`
		// CPUSet are the CPUs that may be used: `0-2,4`.
		CPUSet string `envconfig:"DRONE_CPU_SET"`
		// ShmSize of `/dev/shm`: `64MB`.
		ShmSize Bytes `envconfig:"DRONE_SHM_SIZE" default:"0"`
		// Pids are the processes and threads of a container, so that a fork bomb ends in the build
		// that made it.
		Pids int64 `envconfig:"DRONE_RUNNER_PIDS_LIMIT" default:"8192"`
	}

	// Plugins are Drone's external providers. A provider that fails is an error of the build.
	Plugins struct {
		Environ  EnvironPlugin
		Secret   SecretPlugin
		Registry RegistryPlugin
	}

	// EnvironPlugin provides variables (https://docs.drone.io/extensions/environment/).
	EnvironPlugin struct {
		// Endpoint of the provider of variables, a URL.
		Endpoint string `envconfig:"DRONE_ENV_PLUGIN_ENDPOINT"`
		// Token that the requests are signed with.
		Token Secret `envconfig:"DRONE_ENV_PLUGIN_TOKEN"`
		// SkipVerify accepts any TLS certificate of it.
		SkipVerify bool `envconfig:"DRONE_ENV_PLUGIN_SKIP_VERIFY" default:"false"`
	}

	// SecretPlugin provides secrets (https://docs.drone.io/extensions/secret/).
	SecretPlugin struct {
		// Endpoint of the provider of secrets, a URL.
		Endpoint string `envconfig:"DRONE_SECRET_PLUGIN_ENDPOINT"`
		// Token that the requests are signed with.
		Token Secret `envconfig:"DRONE_SECRET_PLUGIN_TOKEN"`
		// SkipVerify accepts any TLS certificate of it.
		SkipVerify bool `envconfig:"DRONE_SECRET_PLUGIN_SKIP_VERIFY" default:"false"`
	}

	// RegistryPlugin provides registry credentials (https://docs.drone.io/extensions/registry/).
	RegistryPlugin struct {
		// Endpoint of the provider of registry credentials, a URL.
		Endpoint string `envconfig:"DRONE_REGISTRY_PLUGIN_ENDPOINT"`
		// Token that the requests are signed with.
		Token Secret `envconfig:"DRONE_REGISTRY_PLUGIN_TOKEN"`
		// SkipVerify accepts any TLS certificate of it.
		SkipVerify bool `envconfig:"DRONE_REGISTRY_PLUGIN_SKIP_VERIFY" default:"false"`
	}

	// Netrc are the credentials of git that the server sends.
	Netrc struct {
		// CloneOnly gives them to the clone step alone.
		CloneOnly bool `envconfig:"DRONE_NETRC_CLONE_ONLY" default:"false"`
	}

	// Docker is how images are pulled, and what the daemon in the system container knows of
	// registries.
	Docker struct {
		// Config is the path of a Docker `config.json` with registry credentials. The credential
		// helpers that it names (`credHelpers`, `credsStore`) are asked for theirs; their programs
		// must be in `PATH`.
		Config string `envconfig:"DRONE_DOCKER_CONFIG"`
		// StreamPull shows the progress of pulls in the steps' logs.
		StreamPull bool `envconfig:"DRONE_DOCKER_STREAM_PULL" default:"true"`
		// PullFallback says when the copy that the daemon has of an image is used, with a warning,
		// because the pull failed. Empty: unless the step says `pull: always`. `always`: then too.
		// `never`: a pull that fails is an error.
		PullFallback string `envconfig:"DRONE_RUNNER_PULL_FALLBACK"`
		// RegistryMirrors are pull-through mirrors of Docker Hub that the daemon in the system
		// container uses: `https://mirror.example.com`, `http://10.0.0.5:5000`, separated by
		// commas.
		RegistryMirrors []string `envconfig:"DRONE_RUNNER_REGISTRY_MIRRORS"`
		// InsecureRegistries are registries that the daemon in the system container speaks to
		// without TLS: `registry.local:5000`, `10.0.0.0/8`, separated by commas.
		InsecureRegistries []string `envconfig:"DRONE_RUNNER_INSECURE_REGISTRIES"`
	}

	// Cache is what the Docker daemon keeps from build to build: images, build cache, and the
	// volumes that stand for host paths of pipelines.
	Cache struct {
		// PreloadImages are images that are pulled when the runner starts, with the credentials of
		// `DRONE_DOCKER_CONFIG`, and kept, separated by commas: `golang:1.26,node:24`.
		PreloadImages []string `envconfig:"DRONE_RUNNER_PRELOAD_IMAGES"`
		// High is how full the daemon's disk may get before what hasn't been used for longest is
		// removed: images first, then build cache, then volumes that nobody has used for a day:
		// `80%`, `200GB` (of all that is on that disk); `0` is no limit. With
		// `DRONE_RUNNER_SANDBOX=none` the default is `0`.
		High Mark `envconfig:"DRONE_RUNNER_CACHE_HIGH" default:"80%"`
		// Low is how full the disk still is when enough has been removed.
		Low Mark `envconfig:"DRONE_RUNNER_CACHE_LOW" default:"60%"`
		// Size is how much the cache itself may take, whatever else is on that disk: `100GB`. The
		// daemon measures it once a minute; `0` is no limit.
		Size Bytes `envconfig:"DRONE_RUNNER_CACHE_SIZE" default:"0"`
		// Keep are patterns of what is never removed, separated by commas: images (`golang:*`,
		// `registry.example.com/team/*`) and paths of volumes (`/cache/npm`). `*` doesn't stand for
		// slashes.
		Keep []Glob `envconfig:"DRONE_RUNNER_CACHE_KEEP"`
	}

	// Tmate are debug sessions. They aren't served yet: a notice says so where they are enabled.
	Tmate struct {
		// Enabled lets a build in debug mode open a session.
		Enabled bool `envconfig:"DRONE_TMATE_ENABLED" default:"false"`
		// Image that holds the program.
		Image string `envconfig:"DRONE_TMATE_IMAGE" default:"drone/drone-runner-docker:1"`
		// Host of the tmate server.
		Host string `envconfig:"DRONE_TMATE_HOST"`
		// Port of the tmate server.
		Port string `envconfig:"DRONE_TMATE_PORT"`
		// FingerprintRSA of the tmate server's key.
		FingerprintRSA string `envconfig:"DRONE_TMATE_FINGERPRINT_RSA"`
		// FingerprintED25519 of the tmate server's key.
		FingerprintED25519 string `envconfig:"DRONE_TMATE_FINGERPRINT_ED25519"`
		// AuthorizedKeys are the public keys that may join.
		AuthorizedKeys string `envconfig:"DRONE_TMATE_AUTHORIZED_KEYS"`
	}
)

// Address is the server's URL, without a slash at its end.
func (r RPC) Address() string { return r.Proto + "://" + r.Host }

// RefusePrivileged reports whether privileged steps of trusted repositories are errors.
func (r Runner) RefusePrivileged() bool { return r.Privileged == privilegedRefuse }

const privilegedRefuse = "refuse"
