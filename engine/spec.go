package engine

import "maps"

// Spec is one stage, compiled: everything that the engine needs to run it and nothing that it would have to look up.
//
// What can't be written down can't be started: no type here has a field for privilege, devices, capabilities, security profiles or
// the host's namespaces.
type Spec struct {
	// ID is unique among all runs of all stages: it names the objects of the run in the daemon and is their label LabelSpec.
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Platform Platform `json:"platform"`
	// Labels go onto every object of the run: containers, network, volumes.
	Labels  map[string]string `json:"labels,omitempty"`
	Network Network           `json:"network"`
	// CacheScope names who shares what image builds keep in cache mounts (RUN --mount=type=cache). Empty is a scope of its own as well.
	CacheScope string    `json:"cache_scope,omitempty"`
	Volumes    []*Volume `json:"volumes,omitempty"`
	// Steps in the order of the file, services first, the clone step before all. Dependencies are complete: a serial pipeline is a chain.
	Steps []*Step `json:"steps"`
	// Masks are values that appear in no log of this run, besides the secrets of its steps: credentials of git and of registries.
	Masks []Sensitive `json:"-"`
}

// Platform is what the images must be built for.
type Platform struct {
	OS      string `json:"os,omitempty"`
	Arch    string `json:"arch,omitempty"`
	Variant string `json:"variant,omitempty"`
	Version string `json:"version,omitempty"`
}

// Network is the bridge of the run. Steps find each other on it by name.
type Network struct {
	// Name in the daemon; the value of DRONE_DOCKER_NETWORK_ID.
	Name string `json:"name"`
	// Options of the bridge driver, com.docker.network.driver.mtu for one.
	Options map[string]string `json:"options,omitempty"`
}

// VolumeKind tells where the content of a volume is.
type VolumeKind string

// The kinds. A socket is a kind of its own so that nothing but the guard can ever stand behind a docker.sock.
const (
	// VolumeTemp is a labelled volume that goes with the run.
	VolumeTemp VolumeKind = "temp"
	// VolumeMemory is the same in memory: one tmpfs that the steps share, of SizeLimit bytes (0: no limit of its own).
	VolumeMemory VolumeKind = "memory"
	// VolumePersistent is a named volume that outlives the run, the same for every run that gives the same path: a cache.
	VolumePersistent VolumeKind = "persistent"
	// VolumeBind is a folder or file of the machine that the daemon runs on: only what the operator allowed.
	VolumeBind VolumeKind = "bind"
	// VolumeSocket is a docker socket: the guard of this run.
	VolumeSocket VolumeKind = "socket"
	// VolumeSocketDir is a folder with a docker.sock in it and nothing else: the guard of this run.
	VolumeSocketDir VolumeKind = "socket-dir"
	// VolumePluginSocket is a docker socket for plugins that build images: the guard of this run, with a policy that lets them build, tag, pull and push and
	// nothing else, so that repositories that may have no other socket may have this one.
	VolumePluginSocket VolumeKind = "plugin-socket"
	// VolumeCerts is a folder with ca.pem, cert.pem and key.pem, with which a docker client trusts, and is trusted by, the guard of this run at the TLS ports of its
	// daemons (see Step.Daemon). It is read-only.
	VolumeCerts VolumeKind = "docker-certs"
)

// Volume is a place that steps share.
type Volume struct {
	// Name as the steps' mounts give it, "_workspace" for the workspace.
	Name string `json:"name"`
	// ID is the volume's name in the daemon; empty for binds and sockets.
	ID   string     `json:"id,omitempty"`
	Kind VolumeKind `json:"kind"`
	// Path is the source of a bind; for a persistent volume the path that the pipeline wrote.
	Path string `json:"path,omitempty"`
	// ReadOnly mounts are read-only in every step.
	ReadOnly bool `json:"read_only,omitempty"`
	// SizeLimit of a memory volume, in bytes.
	SizeLimit int64 `json:"size_limit,omitempty"`
}

// Mount puts a volume of the spec, by its Name, at a path in the step.
type Mount struct {
	Volume string `json:"volume"`
	Path   string `json:"path"`
}

// PullPolicy tells when an image is pulled.
type PullPolicy string

// The policies. PullDefault is Drone's: always for :latest (or no tag), else if absent; a pull that fails falls back to the local copy with a warning, which
// PullAlways, asked for by name, does not.
const (
	PullDefault     PullPolicy = ""
	PullAlways      PullPolicy = "always"
	PullIfNotExists PullPolicy = "if-not-exists"
	PullNever       PullPolicy = "never"
)

// RunPolicy tells for which outcome of the stage so far a step runs.
type RunPolicy string

// The policies; Drone derives them from when.status and from whether the other conditions match.
const (
	RunOnSuccess RunPolicy = "on-success"
	RunOnFailure RunPolicy = "on-failure"
	RunAlways    RunPolicy = "always"
	// RunNever steps stay in the graph, since others may depend on them, and are reported to nobody.
	RunNever RunPolicy = "never"
)

// ErrPolicy tells what a failing step means for its stage.
type ErrPolicy string

// The policies: the stage fails, the stage fails and all that runs is cancelled at once, or nothing.
const (
	ErrFail     ErrPolicy = "fail"
	ErrFailFast ErrPolicy = "fail-fast"
	ErrIgnore   ErrPolicy = "ignore"
)

// Step is one container.
type Step struct {
	// ID is the container's name in the daemon.
	ID string `json:"id"`
	// Name is the step's name and its DNS name on the network.
	Name string `json:"name"`
	// Number counts the steps that the server is told of, from 1; 0 for a RunNever step.
	Number int `json:"number"`
	// Image is the fully qualified reference: registry, repository, and tag or digest.
	Image string     `json:"image"`
	Pull  PullPolicy `json:"pull,omitempty"`
	// Auth are the credentials for the image's registry; nil pulls anonymously.
	Auth *Auth `json:"auth,omitempty"`

	Entrypoint []string `json:"entrypoint,omitempty"`
	Command    []string `json:"command,omitempty"`
	// Env is the plain environment. The runtime refreshes the build's and stage's status in it right before the step is prepared.
	Env map[string]string `json:"environment,omitempty"`
	// Secrets are added to the environment under their Env names, and masked in the log.
	Secrets    []*Secret         `json:"secrets,omitempty"`
	WorkingDir string            `json:"working_dir,omitempty"`
	User       string            `json:"user,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Mounts     []Mount           `json:"mounts,omitempty"`

	// NoNetwork keeps the step off every network (network_mode: none). Otherwise it is on the run's bridge, and on Networks besides.
	NoNetwork  bool     `json:"no_network,omitempty"`
	Networks   []string `json:"networks,omitempty"`
	DNS        []string `json:"dns,omitempty"`
	DNSSearch  []string `json:"dns_search,omitempty"`
	ExtraHosts []string `json:"extra_hosts,omitempty"`

	Limits Limits `json:"limits"`

	// Daemon is set for a step that would start a docker daemon. No container is made of it: while it runs, the guard of the run stands in for that daemon.
	Daemon *Daemon `json:"daemon,omitempty"`

	// Service marks an entry of the services list. Detach is set for it, and for steps with detach: true: the step starts, and the graph goes on at once.
	Service   bool      `json:"service,omitempty"`
	Detach    bool      `json:"detach,omitempty"`
	DependsOn []string  `json:"depends_on,omitempty"`
	ErrPolicy ErrPolicy `json:"err_policy"`
	RunPolicy RunPolicy `json:"run_policy"`

	// Notes are lines of the runner's own that open the step's log: what was read differently from how it was written.
	Notes []string `json:"notes,omitempty"`
}

// Daemon says where a docker daemon is expected on the network of the run, under the name of its step. Its socket is a volume.
type Daemon struct {
	// Ports without TLS, 2375 by custom, and TLSPorts where clients need a certificate (VolumeCerts), 2376 by custom.
	Ports    []int `json:"ports,omitempty"`
	TLSPorts []int `json:"tls_ports,omitempty"`
}

// Limits are the resources of a container; zero means the daemon's default.
type Limits struct {
	Memory     int64  `json:"memory,omitempty"`      // bytes
	MemorySwap int64  `json:"memory_swap,omitempty"` // bytes, memory and swap together; -1 is unlimited swap
	CPUPeriod  int64  `json:"cpu_period,omitempty"`  // microseconds
	CPUQuota   int64  `json:"cpu_quota,omitempty"`   // microseconds of CPU time a period
	CPUShares  int64  `json:"cpu_shares,omitempty"`  // relative weight
	CPUSet     string `json:"cpu_set,omitempty"`     // "0-2,4"
	ShmSize    int64  `json:"shm_size,omitempty"`    // bytes
}

// Auth are credentials of one registry.
type Auth struct {
	Address  string    `json:"address,omitempty"`
	Username string    `json:"username,omitempty"`
	Password Sensitive `json:"password,omitempty"`
}

// Secret is a value that a step gets and no log shows.
type Secret struct {
	// Name as the pipeline's from_secret gives it.
	Name string `json:"name"`
	// Env is the variable that the step finds it in.
	Env  string    `json:"env"`
	Data Sensitive `json:"data"`
}

// Redacted stands in logs and JSON where a secret was.
const Redacted = "******"

// Sensitive is text that prints, and encodes to JSON, as Redacted, so that no spec that somebody prints or stores gives it away. Convert it to
// string to use it.
type Sensitive string

// String is Redacted, whatever the value.
func (Sensitive) String() string { return Redacted }

// GoString is Redacted as well: %#v is no way around it.
func (Sensitive) GoString() string { return Redacted }

// MarshalText is Redacted, for JSON and every other encoder that asks.
func (Sensitive) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Clone is a deep enough copy that its environment and labels can be changed without changing the original's.
func (s *Step) Clone() *Step {
	c := *s
	c.Env = maps.Clone(s.Env)
	c.Labels = maps.Clone(s.Labels)
	return &c
}

// Find is the step of that name, or nil.
func (s *Spec) Find(name string) *Step {
	for _, step := range s.Steps {
		if step.Name == name {
			return step
		}
	}
	return nil
}

// Secrets are all values that no log of the run may show: those of every step, not only of the one that logs, since steps share a workspace.
func (s *Spec) Secrets() []string {
	var out []string
	for _, m := range s.Masks {
		out = append(out, string(m))
	}
	for _, step := range s.Steps {
		for _, secret := range step.Secrets {
			out = append(out, string(secret.Data))
		}
		if step.Auth != nil {
			out = append(out, string(step.Auth.Password))
		}
	}
	return out
}
