package linter

import (
	"path"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// checkPipeline holds the rules that concern no single step or volume.
func (c *checker) checkPipeline() {
	p := c.pipeline
	switch {
	case len(p.Steps) > 0 || p.Incomplete:
	case len(p.Services) > 0:
		c.on(resource.Warning, "steps", "the pipeline has services alone, and succeeds at once: write at least "+
			"one step, with a name, an image and commands")
	default:
		c.on(resource.Warning, "steps", "the pipeline has no steps, and succeeds at once: write at least one, "+
			"with a name, an image and commands")
	}
	for key, n := range map[string]int{"clone.depth": p.Clone.Depth, "clone.retries": p.Clone.Retries,
		"concurrency.limit": p.Concurrency.Limit} {
		if n < 0 {
			c.on(resource.Warning, key, "%d is negative and has no effect: write a number from 1, or leave the "+
				"key out", n)
		}
	}
	c.checkWorkspace()
	c.checkEnvironment(p.Environment, func(severity resource.Severity, key, message string) {
		c.on(severity, key,
			"%s", message)
	})
	c.checkConditions(p.Trigger, "trigger", func(severity resource.Severity, key,
		message string) {
		c.on(severity, key, "%s", message)
	})
}

// checkWorkspace requires a base that a volume can be mounted at, and warns of a path that isn't
// below it.
func (c *checker) checkWorkspace() {
	base, sub := c.pipeline.Workspace.Base, c.pipeline.Workspace.Path
	if base != "" {
		switch clean := path.Join("/", base); {
		case !mountable(clean):
			c.on(resource.Error, "workspace.base", "the workspace can't be mounted at %s: write a folder of its "+
				"own, such as /drone", clean)
		case !path.IsAbs(base):
			c.on(resource.Warning, "workspace.base", "%q is a relative path, and is read as %s: write that",
				base, clean)
		}
	} else if path.IsAbs(sub) && !mountable(path.Clean(sub)) {
		c.on(resource.Error, "workspace.path", "the workspace can't be mounted at %s: write a folder of its own, "+
			"such as /drone/src", path.Clean(sub))
	}
	if clean := path.Clean(sub); clean == ".." || strings.HasPrefix(clean, "../") {
		c.on(resource.Warning, "workspace.path", "%q leads out of the workspace, and is read as %s below its "+
			"base: write a path below the base, such as src", sub, path.Join("/", sub))
	}
}

// mountable reports whether something may be mounted at a clean absolute path of a step: it isn't
// the root, the kernel's, or the runner's.
func mountable(p string) bool {
	for _, taken := range []string{"/proc", "/sys", reservedFolder} {
		if p == taken || strings.HasPrefix(p, taken+"/") {
			return false
		}
	}
	return p != "/" && p != "/dev"
}
