package spec

import "maps"

// Step is one container.
type Step struct {
	// ID is the container's name in the daemon.
	ID string `json:"id"`
	// Name is the step's name and its DNS name on the network.
	Name string `json:"name"`
	// Number counts the steps that are reported, from 1. It is 0 for a RunNever step.
	Number int `json:"number"`
	// Image is the fully qualified reference: registry, repository, and tag or digest.
	Image string     `json:"image"`
	Pull  PullPolicy `json:"pull,omitempty"`
	// Auth are the credentials for the image's registry; nil pulls anonymously.
	Auth *Auth `json:"auth,omitempty"`

	Entrypoint []string `json:"entrypoint,omitempty"`
	Command    []string `json:"command,omitempty"`
	// Env is the plain environment. The runtime refreshes the build's and stage's status in it
	// right before the step is prepared.
	Env map[string]string `json:"environment,omitempty"`
	// Secrets are added to the environment under their Env names, and masked in the log.
	Secrets    []*Secret         `json:"secrets,omitempty"`
	WorkingDir string            `json:"working_dir,omitempty"`
	User       string            `json:"user,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Mounts     []Mount           `json:"mounts,omitempty"`

	// NoNetwork keeps the step off every network (network_mode: none). Otherwise it is on the run's
	// bridge, and on Networks besides.
	NoNetwork  bool     `json:"no_network,omitempty"`
	Networks   []string `json:"networks,omitempty"`
	DNS        []string `json:"dns,omitempty"`
	DNSSearch  []string `json:"dns_search,omitempty"`
	ExtraHosts []string `json:"extra_hosts,omitempty"`

	Limits Limits `json:"limits"`

	// Daemon is set for a step that would start a docker daemon. No container is made of it: while
	// it runs, the guard of the run stands in for that daemon.
	Daemon *Daemon `json:"daemon,omitempty"`

	// Service marks an entry of the services list. Detach is set for it, and for steps with detach:
	// true: the step starts, and the graph goes on at once.
	Service   bool      `json:"service,omitempty"`
	Detach    bool      `json:"detach,omitempty"`
	DependsOn []string  `json:"depends_on,omitempty"`
	ErrPolicy ErrPolicy `json:"err_policy"`
	RunPolicy RunPolicy `json:"run_policy"`

	// Notes are lines of the runner's own that open the step's log: what was read differently from
	// how it was written.
	Notes []string `json:"notes,omitempty"`
}

// Daemon says where a docker daemon is expected on the network of the run, under the name of its
// step. Its socket is a volume.
type Daemon struct {
	// Ports without TLS, 2375 by custom, and TLSPorts where clients need a certificate
	// (VolumeCerts), 2376 by custom.
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

// Clone is a deep enough copy that its environment and labels can be changed without changing the
// original's.
func (s *Step) Clone() *Step {
	c := *s
	c.Env = maps.Clone(s.Env)
	c.Labels = maps.Clone(s.Labels)
	return &c
}
