package docs_test

// room is a row of the table of packages: the one place that says which way imports go.
type room struct {
	folder string
	// is says what the package is, in less than a sentence.
	is string
	// may are the packages of ours that it imports. The test fails for one too many and for one
	// that is no longer needed.
	may []string
	// docker lets it link what is heavy: the Docker client, BuildKit, gRPC and nftables.
	docker bool
	// tests marks a package that only tests import.
	tests bool
}

// rooms is every package, those for tests last. A new package needs a row here: `go test ./docs`
// prints it, and `go test ./docs -update` draws docs/architecture.md anew.
var rooms = []room{
	{
		folder: "cmd/drone-runner-sysbox",
		is:     "the commands: flags, and the wiring of the rooms below",
		may: []string{
			"compiler",
			"engine",
			"internal/drone/journal",
			"internal/drone/rpc",
			"internal/guard",
			"internal/operator/config",
			"internal/operator/console",
			"internal/operator/doctor",
			"internal/operator/local",
			"internal/operator/reserved",
			"internal/operator/server",
			"internal/pause",
			"internal/pipeline",
			"internal/pipeline/resource",
			"internal/pipeline/spec",
			"internal/sandbox",
			"internal/sandbox/bridge",
			"internal/sandbox/cell",
			"internal/sandbox/fairshare",
			"internal/sandbox/fence",
			"internal/sandbox/syscont",
			"internal/sandbox/uplink",
			"internal/storage/cache",
			"internal/storage/janitor",
			"linter",
			"runtime",
		},
		docker: true,
	},
	{
		folder: "runtime",
		is:     "polls for stages, accepts them, runs their step graphs in an engine, and reports every state and log line",
		may: []string{
			"internal/drone/journal",
			"internal/drone/livelog",
			"internal/drone/rpc",
			"internal/pause",
			"internal/pipeline/spec",
		},
	},
	{
		folder: "engine",
		is:     "runs a spec in a Docker daemon: networks, volumes, containers, pulls, clean-up",
		may: []string{
			"engine/proctree",
			"internal/guard",
			"internal/guard/inprocess",
			"internal/guard/mounts",
			"internal/pause",
			"internal/pipeline/spec",
			"internal/registry",
			"internal/sandbox/bridge",
			"internal/sandbox/fairshare",
			"internal/sandbox/fence",
			"internal/sandbox/netns",
			"internal/storage/cache",
		},
		docker: true,
	},
	{
		folder: "engine/proctree",
		is:     "the processes of a container, and which of them want to know that they are to end",
	},
	{
		folder: "compiler",
		is:     "compiles a pipeline to a spec: what each key means, with every default filled in",
		may:    []string{"internal/pipeline/glob", "internal/pipeline/resource", "internal/pipeline/spec", "internal/registry"},
	},
	{
		folder: "linter",
		is:     "the rules of what a pipeline may ask for",
		may:    []string{"internal/pipeline/glob", "internal/pipeline/resource"},
	},
	{
		folder: "internal/pipeline",
		is:     "the way from what the server sends to a spec: substitute, parse, pick, lint, compile",
		may:    []string{"compiler", "internal/pipeline/resource", "internal/pipeline/spec", "internal/sandbox", "linter"},
	},
	{
		folder: "internal/pipeline/resource",
		is:     "the YAML schema of Drone's docker pipeline, with the position of every key",
	},
	{
		folder: "internal/pipeline/spec",
		is:     "the compiled form: the spec, its steps and volumes, labels, exits and errors",
	},
	{
		folder: "internal/pipeline/glob",
		is:     "matching of names against patterns, in linear time",
	},
	{
		folder: "internal/guard",
		is:     "the Docker API proxy of a stage: who may do what, to whose objects",
		may: []string{
			"internal/guard/apierror",
			"internal/guard/apiversion",
			"internal/guard/buildkit",
			"internal/guard/dockerd",
			"internal/guard/dockerfile",
			"internal/guard/imagetar",
			"internal/guard/mounts",
			"internal/guard/names",
			"internal/guard/policy",
			"internal/guard/registryproxy",
			"internal/guard/strictjson",
			"internal/guard/tarfile",
			"internal/pause",
			"internal/registry",
			"internal/sandbox/peer",
			"internal/sandbox/uplink",
		},
		docker: true,
	},
	{
		folder: "internal/guard/apiversion",
		is:     "versions of Docker's API, compared",
	},
	{
		folder: "internal/guard/buildkit",
		is:     "what a stage may ask of BuildKit, judged call by call",
		may: []string{
			"internal/guard/apierror",
			"internal/guard/apiversion",
			"internal/guard/dockerfile",
			"internal/guard/names",
			"internal/guard/policy",
		},
		docker: true,
	},
	{
		folder: "internal/guard/dockerfile",
		is:     "the images that a Dockerfile names, renamed for either builder",
		may:    []string{"internal/guard/apierror", "internal/guard/names"},
		docker: true,
	},
	{
		folder: "internal/guard/policy",
		is:     "what a client of the guard may ask for, judged without HTTP and without a daemon",
		may: []string{
			"internal/guard/apierror",
			"internal/guard/apiversion",
			"internal/guard/mounts",
			"internal/guard/names",
			"internal/guard/strictjson",
		},
		docker: true,
	},
	{
		folder: "internal/guard/inprocess",
		is:     "the runner's side of a guard that runs in the runner's process",
		may:    []string{"internal/guard", "internal/storage/cache"},
		docker: true,
	},
	{
		folder: "internal/guard/apierror",
		is:     "the errors that a client of the guard reads",
	},
	{
		folder: "internal/guard/dockerd",
		is:     "the way to the Docker daemon: requests, upgrades, versions, the copying of answers",
		may:    []string{"internal/guard/apierror", "internal/guard/apiversion"},
	},
	{
		folder: "internal/guard/imagetar",
		is:     "the names in archives of images, both ways",
		may:    []string{"internal/guard/apierror", "internal/guard/names", "internal/guard/tarfile"},
		docker: true,
	},
	{
		folder: "internal/guard/mounts",
		is:     "mount points for parts of volumes",
		may:    []string{"internal/sandbox/peer"},
	},
	{
		folder: "internal/guard/names",
		is:     "a stage's names of containers, networks, volumes and images, both ways",
		may:    []string{"internal/guard/apierror"},
		docker: true,
	},
	{
		folder: "internal/guard/registryproxy",
		is:     "a registry on loopback for the pushes of a stage",
		may:    []string{"internal/guard/apierror"},
		docker: true,
	},
	{
		folder: "internal/guard/strictjson",
		is:     "JSON without the leniency of encoding/json",
		may:    []string{"internal/guard/apierror"},
	},
	{
		folder: "internal/guard/tarfile",
		is:     "edits of tar archives on their way",
		may:    []string{"internal/guard/apierror"},
	},
	{
		folder: "internal/guard/suites",
		is:     "other projects' test suites, on a plain socket and on the guard's",
	},
	{
		folder: "internal/pause",
		is:     "waits that obey a context, and the growing pauses between tries",
	},
	{
		folder: "internal/drone/journal",
		is:     "what the runner has accepted, on disk, for the time after a crash",
		may:    []string{"internal/drone/livelog"},
	},
	{
		folder: "internal/drone/livelog",
		is:     "the way of a log line: cards, masking, numbering, spooling, sending",
	},
	{
		folder: "internal/drone/rpc",
		is:     "the client of Drone's runner RPC",
		may:    []string{"internal/pause"},
	},
	{
		folder: "internal/sandbox",
		is:     "the grades of the sandbox that an operator can insist on",
	},
	{
		folder: "internal/sandbox/fence",
		is:     "nftables rules that keep a stage's published ports to that stage",
		may:    []string{"internal/sandbox/bridge"},
		docker: true,
	},
	{
		folder: "internal/sandbox/fairshare",
		is:     "how much of the machine a container may take from the runner and its daemon",
	},
	{
		folder: "internal/sandbox/bridge",
		is:     "the names of stages' bridges, and the options of Docker's bridge driver",
	},
	{
		folder: "internal/sandbox/uplink",
		is:     "the way out of this network namespace: routes, networks, resolvers",
		may:    []string{"internal/sandbox/bridge"},
	},
	{
		folder: "internal/sandbox/peer",
		is:     "the process at the other end of a unix socket",
	},
	{
		folder: "internal/sandbox/netns",
		is:     "calls in another network namespace, a cell's",
	},
	{
		folder: "internal/sandbox/cell",
		is:     "Docker daemons in namespaces of their own: root, cgroups, cable, NAT, DNS",
		may:    []string{"internal/sandbox/bridge", "internal/sandbox/syscont", "internal/sandbox/uplink"},
		docker: true,
	},
	{
		folder: "internal/sandbox/syscont",
		is:     "the system container: the proof that it is one, and the dockerd that runs inside",
		may: []string{
			"internal/pause",
			"internal/sandbox",
			"internal/sandbox/bridge",
			"internal/sandbox/peer",
			"internal/sandbox/uplink",
		},
		docker: true,
	},
	{
		folder: "internal/registry",
		is:     "the names of registries, and the credential helpers of a Docker configuration",
	},
	{
		folder: "internal/storage/cache",
		is:     "when images and volumes were last used, and who may have them",
		may:    []string{"internal/registry"},
		docker: true,
	},
	{
		folder: "internal/storage/janitor",
		is:     "the reaper of what dead stages left, and the budget of the disk",
		may:    []string{"engine", "internal/guard/names", "internal/pause", "internal/pipeline/spec", "internal/storage/cache"},
		docker: true,
	},
	{
		folder: "internal/operator/config",
		is:     "the environment variables, parsed and validated once",
		may:    []string{"internal/sandbox"},
	},
	{
		folder: "internal/operator/console",
		is:     "stages on a terminal, for `exec`",
		may:    []string{"runtime"},
	},
	{
		folder: "internal/operator/doctor",
		is:     "checks of everything that a runner needs, with a fix for each failure",
		may:    []string{"internal/sandbox", "internal/sandbox/bridge", "internal/sandbox/syscont", "internal/sandbox/uplink"},
		docker: true,
	},
	{
		folder: "internal/operator/server",
		is:     "the HTTP server: health, readiness, metrics",
	},
	{
		folder: "internal/operator/reserved",
		is:     "addresses that no network of a stage may cover",
		may:    []string{"internal/guard", "internal/sandbox/uplink"},
		docker: true,
	},
	{
		folder: "internal/operator/local",
		is:     "pipelines without a server, for `exec` and `compile`: the build, the plan, what runs",
		may: []string{
			"internal/pipeline",
			"internal/pipeline/glob",
			"internal/pipeline/resource",
			"internal/pipeline/spec",
			"runtime",
		},
	},
	{
		folder: "engine/enginetest",
		is:     "an engine in memory",
		may:    []string{"internal/pause", "internal/pipeline/spec"},
		tests:  true,
	},
	{
		folder: "engine/standin",
		is:     "images that tests run, made without a registry",
		docker: true,
		tests:  true,
	},
	{
		folder: "internal/sandbox/cell/celltest",
		is:     "a program that keeps cells without a runner",
		may:    []string{"internal/sandbox/cell", "internal/sandbox/syscont", "internal/sandbox/uplink"},
		docker: true,
		tests:  true,
	},
	{
		folder: "internal/guard/guardtest",
		is:     "stages with a guard on the machine's own daemon",
		may:    []string{"internal/guard"},
		docker: true,
		tests:  true,
	},
	{
		folder: "internal/drone/rpc/rpctest",
		is:     "a Drone server that speaks the runner RPC and fails on demand",
		may:    []string{"internal/drone/rpc"},
		tests:  true,
	},
}
