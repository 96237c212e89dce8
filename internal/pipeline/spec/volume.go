package spec

// VolumeKind is where the content of a volume is.
type VolumeKind string

// The kinds. A socket is a kind of its own so that nothing but the guard can ever stand behind a
// docker.sock.
const (
	// VolumeTemp is a labelled volume that goes with the run.
	VolumeTemp VolumeKind = "temp"
	// VolumeMemory is the same in memory: one tmpfs that the steps share, of SizeLimit bytes (0: no
	// limit of its own).
	VolumeMemory VolumeKind = "memory"
	// VolumePersistent is a named volume that outlives the run, the same for every run of its owner
	// that gives the same path: a cache.
	VolumePersistent VolumeKind = "persistent"
	// VolumeBind is a folder or file of the machine that the daemon runs on: only what the operator
	// allowed.
	VolumeBind VolumeKind = "bind"
	// VolumeSocket is a docker socket: the guard of this run.
	VolumeSocket VolumeKind = "socket"
	// VolumeSocketDir is a folder with a docker.sock in it and nothing else: the guard of this run.
	VolumeSocketDir VolumeKind = "socket-dir"
	// VolumePluginSocket is a docker socket for plugins that build images: the guard of this run,
	// with a policy that lets them build, tag, pull and push and nothing else, so that repositories
	// that may have no other socket may have this one.
	VolumePluginSocket VolumeKind = "plugin-socket"
	// VolumeCerts is a folder with ca.pem, cert.pem and key.pem, with which a docker client trusts,
	// and is trusted by, the guard of this run at the TLS ports of its daemons (see Step.Daemon).
	// It is read-only.
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
	// Owner of a persistent volume is whose runs have it: a repository, or the pull requests from
	// its forks. Empty: all trusted repositories share it.
	Owner string `json:"owner,omitempty"`
	// Root of a bind that the pipeline asks for is the folder that it must stay in, symbolic links
	// followed; Path is that folder or below. The operator's own binds have none.
	Root string `json:"root,omitempty"`
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
