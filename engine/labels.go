package engine

import "github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"

// labels merges sets, later ones winning, under the engine's own labels of this stage.
func (d *Docker) labels(s *spec.Spec, sets ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, set := range append([]map[string]string{s.Labels}, sets...) {
		for k, v := range set {
			out[k] = v
		}
	}
	out[spec.LabelSpec] = s.ID
	if d.opts.RunnerName != "" {
		out[spec.LabelRunner] = d.opts.RunnerName
	}
	return out
}

// persistentLabels are those of a volume that no Destroy may take.
func (d *Docker) persistentLabels(v *spec.Volume) map[string]string {
	out := map[string]string{spec.LabelPersistent: v.Path, spec.LabelOwner: v.Owner}
	if d.opts.RunnerName != "" {
		out[spec.LabelRunner] = d.opts.RunnerName
	}
	return out
}
