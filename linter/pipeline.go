package linter

import (
	"path"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// checkPipeline holds the rules that concern no single step or volume.
func (c *checker) checkPipeline() {
	p := c.pipeline
	if len(p.Steps) == 0 {
		c.on(resource.Error, "steps", "the pipeline has no steps: write at least one, with a name, an image and commands")
	}
	for key, n := range map[string]int{"clone.depth": p.Clone.Depth, "clone.retries": p.Clone.Retries, "concurrency.limit": p.Concurrency.Limit} {
		if n < 0 {
			c.on(resource.Error, key, "%d is negative: write a number from 1, or leave the key out", n)
		}
	}
	c.checkWorkspace()
	c.checkEnvironment(p.Environment, func(severity resource.Severity, key, message string) { c.on(severity, key, "%s", message) })
	c.checkConditions(p.Trigger, "trigger", func(severity resource.Severity, key, message string) { c.on(severity, key, "%s", message) })
}

// checkWorkspace wants a base that a volume can be mounted at, and a path that stays below it.
func (c *checker) checkWorkspace() {
	base, sub := c.pipeline.Workspace.Base, c.pipeline.Workspace.Path
	if base != "" {
		switch clean := path.Clean(base); {
		case !path.IsAbs(base):
			c.on(resource.Error, "workspace.base", "%q is a relative path: write an absolute one, such as /drone", base)
		case !mountable(clean):
			c.on(resource.Error, "workspace.base", "the workspace can't be mounted at %s: write a folder of its own, such as /drone", clean)
		}
	} else if path.IsAbs(sub) && !mountable(path.Clean(sub)) {
		c.on(resource.Error, "workspace.path", "the workspace can't be mounted at %s: write a folder of its own, such as /drone/src", path.Clean(sub))
	}
	if clean := path.Clean(sub); clean == ".." || strings.HasPrefix(clean, "../") {
		c.on(resource.Error, "workspace.path", "%q leads out of the workspace: write a path below its base, such as src", sub)
	}
}

// mountable tells whether something may be mounted at a clean absolute path of a step: it isn't the root, the kernel's, or the runner's.
func mountable(p string) bool {
	for _, taken := range []string{"/proc", "/sys", reservedFolder} {
		if p == taken || strings.HasPrefix(p, taken+"/") {
			return false
		}
	}
	return p != "/" && p != "/dev"
}
