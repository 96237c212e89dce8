package compiler

import (
	"fmt"

	"github.com/drone/runner-go/manifest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// cloneName is the name of the step that clones the repository, unless clone.disable is set.
const cloneName = "clone"

// cloneStep is the step that Drone puts before all others. Its image is pulled if it is absent,
// whatever its tag: otherwise every build would ask the registry for it.
func (b *builder) cloneStep() *resource.Step {
	image := b.CloneImage
	if image == "" {
		image = DefaultCloneImage
	}
	env := map[string]*manifest.Variable{}
	c := b.args.Pipeline.Clone
	if c.Depth > 0 {
		env["PLUGIN_DEPTH"] = &manifest.Variable{Value: fmt.Sprint(c.Depth)}
	}
	if c.Retries > 0 {
		env["PLUGIN_RETRIES"] = &manifest.Variable{Value: fmt.Sprint(c.Retries)}
	}
	if c.SkipVerify {
		env["PLUGIN_SKIP_VERIFY"] = &manifest.Variable{Value: "true"}
	}
	return &resource.Step{Name: cloneName, Image: image, Pull: string(spec.PullIfNotExists), Environment: env}
}
