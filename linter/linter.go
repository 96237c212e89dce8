// Package linter holds the rules of what a pipeline may ask for. It looks at a whole pipeline and
// returns everything wrong with it at once.
//
// The one rule to keep: every finding says where it is (step, key, line), what is wrong, and what
// to write instead.
package linter

import (
	"fmt"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// Options are what the rules depend on besides the pipeline.
type Options struct {
	// Trusted is set for repositories that the administrator of Drone trusts.
	Trusted bool
	// RefusePrivileged makes privileged steps an error for trusted repositories too; otherwise they
	// run unprivileged, with a warning (DRONE_RUNNER_PRIVILEGED=refuse).
	RefusePrivileged bool
	// OpenSocket gives the guarded docker socket to untrusted repositories too.
	OpenSocket bool
	// HostPaths are the paths that trusted repositories may bind (DRONE_RUNNER_HOST_PATHS).
	HostPaths []string
	// DockerPlugins are the images that get Docker as plugins (DRONE_RUNNER_DOCKER_PLUGINS and the
	// usual ones). Nil looks for none that should be among them.
	DockerPlugins []string
	// Absent reports whether a step has no place in the build that the pipeline is checked for.
	// What is wrong with such a step is a warning where it would merely fail. Nil: every step may
	// run.
	Absent func(step *resource.Step, service bool) bool
}

// Lint checks one pipeline. The findings come in the order of the file and carry its name. Lint
// changes nothing and never panics, whatever the pipeline holds.
func Lint(file string, p *resource.Pipeline, o Options) resource.Findings {
	c := &checker{file: file, pipeline: p, options: o}
	if p.ForOthers() {
		c.on(resource.Warning, "platform.os", "the pipeline is for a runner of %s, and isn't checked here: this "+
			"one runs Linux containers", p.Platform.OS)
		return c.found.Findings()
	}
	for i, s := range p.Services {
		c.steps = append(c.steps, subject{Step: s, list: "services", index: i})
	}
	for i, s := range p.Steps {
		c.steps = append(c.steps, subject{Step: s, list: "steps", index: i})
	}
	c.findMounts()
	c.checkPipeline()
	c.checkVolumes()
	c.checkNames()
	for _, s := range c.steps {
		if s.Step != nil {
			c.checkTrust(s)
			c.checkStep(s)
			c.checkMounts(s)
		}
	}
	c.checkGraph()
	return c.found.Findings()
}

// checker gathers the findings of one pipeline.
type checker struct {
	file     string
	pipeline *resource.Pipeline
	options  Options
	// steps are all of them, services first. The Step of an empty item is nil.
	steps []subject
	found resource.Collector
	// declared are the names of the pipeline's volumes; provided says which of them have a source.
	declared, provided map[string]bool
	// mounts says of each volume that a step mounts which may run, whether anything but docker
	// daemons does.
	mounts map[string]bool
}

// absent reports whether the step has no place in the build.
func (c *checker) absent(s subject) bool {
	return s.Step != nil && c.options.Absent != nil && c.options.Absent(s.Step, s.list == "services")
}

// ifRun is Error for a step that may run, and Warning for one that is absent: what can't be run
// does no harm there.
func (c *checker) ifRun(s subject) resource.Severity {
	if c.absent(s) {
		return resource.Warning
	}
	return resource.Error
}

// subject is a step or service, and where it stands.
type subject struct {
	*resource.Step
	list  string
	index int
}

// label is the subject's name for findings.
func (s subject) label() string { return resource.StepLabel(s.list, s.index, s.Step) }

// place is where the subject stands in the pipeline's lists: "steps[2]".
func (s subject) place() string { return indexed(s.list, s.index) }

// indexed is the key of a list's item.
func indexed(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// at reports something about a key of a step.
func (c *checker) at(s subject, severity resource.Severity, key, format string, args ...any) {
	position := c.pipeline.Place(s.place())
	if s.Step != nil {
		position = s.Place(key)
	}
	c.add(severity, position, s.label(), key, format, args...)
}

// on reports something about a key of the pipeline.
func (c *checker) on(severity resource.Severity, key, format string, args ...any) {
	c.add(severity, c.pipeline.Place(key), "", key, format, args...)
}

// refused reports a warning of what Drone's server refuses, and this runner doesn't.
func (c *checker) refused(s subject, key, format string, args ...any) {
	if c.found.Full(resource.Warning) {
		c.found.Add(resource.Finding{Severity: resource.Warning})
		return
	}
	c.found.Add(resource.Finding{Severity: resource.Warning, File: c.file, Position: s.Place(key),
		Pipeline: c.pipeline.Name, Step: s.label(),
		Key: key, Message: "Drone's server refuses this: " + fmt.Sprintf(format, args...), Refused: true})
}

func (c *checker) add(severity resource.Severity, at resource.Position, step, key, format string, args ...any) {
	f := resource.Finding{Severity: severity}
	if !c.found.Full(severity) {
		f = resource.Finding{Severity: severity, File: c.file, Position: at, Pipeline: c.pipeline.Name, Step: step,
			Key: key, Message: fmt.Sprintf(format, args...)}
	}
	c.found.Add(f)
}
