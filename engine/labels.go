package engine

// Labels that the engine itself sets and looks for. The compiler's io.drone.* labels (Spec.Labels) say what an object is for; these say whose it is.
const (
	// LabelSpec carries Spec.ID on every container, network and volume that goes with the run. Destroy removes what carries it, whoever made it.
	LabelSpec = "io.drone-runner-sysbox.spec"
	// LabelStep carries the step's name on its container.
	LabelStep = "io.drone-runner-sysbox.step"
	// LabelRunner carries Options.RunnerName on every object that the engine creates.
	LabelRunner = "io.drone-runner-sysbox.runner"
	// LabelPersistent carries the pipeline's path on a volume that outlives its runs. Such a volume never carries LabelSpec.
	LabelPersistent = "io.drone-runner-sysbox.persistent"
)

// labels merges sets, later ones winning, under the engine's own labels of this run.
func (d *Docker) labels(spec *Spec, sets ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, set := range append([]map[string]string{spec.Labels}, sets...) {
		for k, v := range set {
			out[k] = v
		}
	}
	out[LabelSpec] = spec.ID
	if d.opts.RunnerName != "" {
		out[LabelRunner] = d.opts.RunnerName
	}
	return out
}

// persistentLabels are those of a volume that no Destroy may take.
func (d *Docker) persistentLabels(v *Volume) map[string]string {
	out := map[string]string{LabelPersistent: v.Path}
	if d.opts.RunnerName != "" {
		out[LabelRunner] = d.opts.RunnerName
	}
	return out
}
