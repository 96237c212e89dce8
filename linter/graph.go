package linter

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// cloneStep is the step that the runner adds.
const cloneStep = "clone"

// maxName is how many characters Drone keeps of a step's name.
const maxName = 100

// Bounds of what is said about one graph: a longer report helps no reader.
const (
	maxCycles = 10
	maxListed = 20
)

// checkNames wants of every item of steps and services a name of its own.
func (c *checker) checkNames() {
	first := map[string]subject{}
	for _, s := range c.steps {
		switch {
		case s.Step == nil:
			c.at(s, resource.Error, s.place(), "the item is empty: write a step, or remove the dash")
			continue
		case s.Name == "":
			c.at(s, resource.Error, "name", "the step has no name: write name: NAME")
			continue
		case s.Name == cloneStep && !c.pipeline.Clone.Disable:
			c.at(s, resource.Error, "name", "clone is the name of the runner's own step: rename this one, or "+
				"write clone: {disable: true} at the pipeline for this one to take its place")
		}
		if n := utf8.RuneCountInString(s.Name); n > maxName {
			c.at(s, resource.Error, "name", "the name has %d characters: write at most %d", n, maxName)
		}
		if before, ok := first[s.Name]; ok {
			c.at(s, resource.Error, "name", "the name stands in line %d already, and steps and services need "+
				"names of their own: rename one", before.Place("name").Line)
			continue
		}
		first[s.Name] = s
	}
}

// checkGraph wants every dependency to be there, and none to lead back to where it began.
func (c *checker) checkGraph() {
	known := map[string]subject{}
	for _, s := range c.steps {
		if s.Step != nil && s.Name != "" {
			if _, twice := known[s.Name]; !twice {
				known[s.Name] = s
			}
		}
	}
	for _, s := range c.steps {
		if s.Step == nil {
			continue
		}
		for i, dep := range s.DependsOn {
			key := indexed("depends_on", i)
			target, ok := known[dep]
			switch {
			case dep == s.Name:
				c.at(s, resource.Error, key, "the step depends on itself: remove the dependency")
			case ok && s.list == "services" && target.list == "steps":
				c.at(s, resource.Error, key, "services start before the steps, so %q can't wait for the step %q: "+
					"remove the dependency, or write the service as a step with detach: true",
					s.Name, dep)
			case ok && s.list == "steps" && target.list == "steps" && target.index > s.index:
				c.refused(s, key, "the step %q stands below, in line %d: move it above this one", dep,
					target.Position.Line)
			case ok || dep == cloneStep && !c.pipeline.Clone.Disable:
			case dep == cloneStep:
				c.refused(s, key, "there is no step clone, since clone is disabled, and the dependency is "+
					"ignored: remove it")
			case c.found.Full(resource.Error):
				c.at(s, resource.Error, key, "")
			default:
				c.at(s, resource.Error, key, "there is no step or service %q: %s", dep, names(c.steps, s.Step))
			}
		}
	}
	c.checkCycles(known)
}

// checkCycles reports each cycle once, at its step that comes first in the file.
func (c *checker) checkCycles(known map[string]subject) {
	const (
		open = 1 + iota
		done
	)
	state := map[string]int{}
	reported := 0
	var path []string
	var visit func(s subject)
	visit = func(s subject) {
		state[s.Name] = open
		path = append(path, s.Name)
		for _, dep := range s.DependsOn {
			target, ok := known[dep]
			if !ok || dep == s.Name {
				continue
			}
			switch state[dep] {
			case open:
				if reported++; reported > maxCycles {
					continue
				}
				c.reportCycle(known, path[slices.Index(path, dep):])
			case 0:
				visit(target)
			}
		}
		path = path[:len(path)-1]
		state[s.Name] = done
	}
	for _, s := range c.steps {
		if s.Step != nil && s.Name != "" && state[s.Name] == 0 {
			visit(known[s.Name])
		}
	}
}

// reportCycle names the steps of a cycle in the order in which each waits for the next.
func (c *checker) reportCycle(known map[string]subject, cycle []string) {
	var out []string
	for _, name := range cycle {
		if len(out) == maxListed {
			out = append(out, "…")
			break
		}
		out = append(out, resource.Cut(name, maxName))
	}
	round := strings.Join(append(out, out[0]), " → ")
	c.at(known[cycle[0]], resource.Error, "depends_on", "the steps wait for each other: %s: remove one of these "+
		"dependencies", round)
}

// names lists what the step could depend on.
func names(steps []subject, but *resource.Step) string {
	var out []string
	for _, s := range steps {
		if s.Step != nil && s.Step != but && s.Name != "" {
			if len(out) == maxListed {
				out = append(out, "…")
				break
			}
			out = append(out, resource.Cut(s.Name, maxName))
		}
	}
	if len(out) == 0 {
		return "remove the dependency"
	}
	return "write one of " + strings.Join(out, ", ")
}
