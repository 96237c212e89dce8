package spec

// Labels that the engine itself sets and looks for. The compiler's io.drone.* labels (Spec.Labels)
// say what an object is for; these say whose it is.
const (
	// LabelSpec carries Spec.ID on every container, network and volume that goes with the run.
	// Destroy removes what carries it, even what a step has made.
	LabelSpec = "io.drone-runner-sysbox.spec"
	// LabelStep carries the step's name on its container.
	LabelStep = "io.drone-runner-sysbox.step"
	// LabelRunner carries Options.RunnerName on every object that the engine creates.
	LabelRunner = "io.drone-runner-sysbox.runner"
	// LabelPersistent carries the pipeline's path on a volume that outlives its runs. Such a volume
	// never carries LabelSpec.
	LabelPersistent = "io.drone-runner-sysbox.persistent"
	// LabelOwner carries Volume.Owner on such a volume.
	LabelOwner = "io.drone-runner-sysbox.owner"
)
