package spec

// PullPolicy is when an image is pulled.
type PullPolicy string

// The policies. PullDefault is Drone's: always for :latest (or no tag), else if absent; a pull that
// fails falls back to the local copy with a warning, which PullAlways, asked for by name, does not.
const (
	PullDefault     PullPolicy = ""
	PullAlways      PullPolicy = "always"
	PullIfNotExists PullPolicy = "if-not-exists"
	PullNever       PullPolicy = "never"
)

// RunPolicy is the outcome of the stage so far for which a step runs.
type RunPolicy string

// The policies; Drone derives them from when.status and from whether the other conditions match.
const (
	RunOnSuccess RunPolicy = "on-success"
	RunOnFailure RunPolicy = "on-failure"
	RunAlways    RunPolicy = "always"
	// RunNever steps stay in the graph, since others may depend on them, and are reported to
	// nobody.
	RunNever RunPolicy = "never"
)

// ErrPolicy is what a failing step means for its stage.
type ErrPolicy string

// The policies: the stage fails, the stage fails and all that runs is cancelled at once, or
// nothing.
const (
	ErrFail     ErrPolicy = "fail"
	ErrFailFast ErrPolicy = "fail-fast"
	ErrIgnore   ErrPolicy = "ignore"
)
