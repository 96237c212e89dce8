package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/drone/runner-go/manifest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/glob"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// selection says which pipelines of a file are meant, and which of their steps.
type selection struct {
	pipelines        []string
	include, exclude []string
}

// planned is a pipeline that is to be run, or one that isn't and why.
type planned struct {
	pipeline *resource.Pipeline
	stage    *drone.Stage
	spec     *spec.Spec
	skip     string
}

// plan is everything about a file that can be known before anything runs.
type plan struct {
	stages   []*planned
	warnings resource.Findings
}

// newPlan reads the file in d, picks the pipelines, each behind those that it depends on, and makes their specs. All
// that is wrong with any of them is in the error at once.
//
// Named pipelines are run whatever their trigger says. Without a name those are run whose trigger matches the build,
// as on a server: a deployment that waits for a promotion doesn't start by itself here either.
func newPlan(ctx context.Context, loader *pipeline.Loader, d *client.Context, s selection) (*plan, error) {
	noPipeline := fmt.Errorf("%s has no docker pipeline: write a document with kind: pipeline and type: docker", loader.FileName)
	if len(d.Config.Data) == 0 {
		return nil, noPipeline
	}
	file, err := loader.Read(d)
	if err != nil {
		return nil, err
	}
	if len(file.Pipelines) == 0 {
		if bad := file.Findings.Err(); bad != nil {
			return nil, bad
		}
		return nil, noPipeline
	}
	picked, err := pick(file.File, s.pipelines)
	if err != nil {
		// A document that can't be read has no name.
		return nil, cmp.Or(ofFile(file.Findings).Err(), err)
	}
	picked, order := inOrder(file.File, picked)
	bad := append(ofFile(file.Findings), order.Errors()...)

	p := &plan{warnings: order.Warnings()}
	loader.Skip = s.skips
	for i, one := range picked {
		stage := *d.Stage
		stage.ID, stage.Number, stage.Name = int64(i+1), i+1, one.Name
		stage.DependsOn = one.DependsOn
		stage.OnSuccess, stage.OnFailure = glob.Condition(one.Trigger.Status, drone.StatusPassing), statusNamed(one.Trigger.Status, drone.StatusFailing)
		planned := &planned{pipeline: one, stage: &stage}
		p.stages = append(p.stages, planned)
		switch {
		case len(s.pipelines) == 0 && one.ForOthers():
			planned.skip = "it is for a runner of " + one.Platform.OS
			continue
		case len(s.pipelines) == 0 && !triggered(one.Trigger, d):
			planned.skip = fmt.Sprintf("its trigger doesn't match (event %s, branch %s, ref %s); --pipeline runs it all the same", d.Build.Event, d.Build.Target, d.Build.Ref)
			continue
		case len(one.Steps) > 0 && !slices.ContainsFunc(one.Steps, func(step *resource.Step) bool { return step == nil || !s.skips(step.Name) }):
			planned.skip = "no step of it is left by --include and --exclude"
			continue
		}
		its := *d
		its.Stage = &stage
		sp, warnings, err := loader.LoadFrom(ctx, file, &its)
		p.warnings = append(p.warnings, warnings...)
		var invalid *resource.InvalidError
		switch {
		case errors.As(err, &invalid):
			bad = append(bad, invalid.Findings...)
		case err != nil:
			return nil, err
		}
		planned.spec = sp
	}
	bad, p.warnings = once(bad), once(p.warnings)
	if err := bad.Err(); err != nil {
		return p, err
	}
	// Only now: what can't be read has no steps to name.
	return p, s.check(picked)
}

// ofFile returns the errors that concern a file, or a document of it that can't be read.
func ofFile(found resource.Findings) resource.Findings {
	return slices.DeleteFunc(found.Errors(), func(f resource.Finding) bool { return f.Pipeline != "" })
}

// runnable tells whether any pipeline is to be run.
func (p *plan) runnable() bool {
	return slices.ContainsFunc(p.stages, func(s *planned) bool { return s.skip == "" })
}

// skips tells whether a step is left out.
func (s selection) skips(step string) bool {
	return len(s.include) > 0 && !slices.Contains(s.include, step) || slices.Contains(s.exclude, step)
}

// check finds names of steps that no pipeline has: a typing error there would leave out everything, or nothing.
func (s selection) check(pipelines []*resource.Pipeline) error {
	names := map[string]bool{}
	for _, p := range pipelines {
		for _, step := range p.Steps {
			if step != nil {
				names[step.Name] = true
			}
		}
	}
	var errs []error
	for _, list := range []struct {
		flag  string
		steps []string
	}{{"--include", s.include}, {"--exclude", s.exclude}} {
		for _, step := range list.steps {
			if !names[step] {
				errs = append(errs, fmt.Errorf("%s: there is no step %q: there are %s", list.flag, step, strings.Join(slices.Sorted(maps.Keys(names)), ", ")))
			}
		}
	}
	return errors.Join(errs...)
}

// pick finds the named pipelines, or all of them. Of several with one name the first counts, as everywhere.
func pick(file *resource.File, names []string) ([]*resource.Pipeline, error) {
	var out []*resource.Pipeline
	var errs []error
	if len(names) == 0 {
		for _, p := range file.Pipelines {
			names = append(names, p.Name)
		}
	}
	seen := map[string]bool{}
	for _, name := range names {
		p, err := file.Pipeline(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !seen[p.Name] {
			seen[p.Name] = true
			out = append(out, p)
		}
	}
	return out, errors.Join(errs...)
}

// inOrder puts each pipeline behind those that it depends on, and otherwise leaves the order as it is. A pipeline that
// isn't picked, or isn't in the file, isn't waited for; the latter is worth a warning, and a cycle is an error.
func inOrder(file *resource.File, picked []*resource.Pipeline) ([]*resource.Pipeline, resource.Findings) {
	known := map[string]bool{}
	for _, p := range file.Pipelines {
		known[p.Name] = true
	}
	for _, o := range file.Others {
		known[o.Name] = o.Kind == resource.KindPipeline || known[o.Name]
	}
	var out []*resource.Pipeline
	var found resource.Findings
	const visiting, visited = 1, 2
	state := map[string]int{}
	var visit func(p *resource.Pipeline, path []string)
	visit = func(p *resource.Pipeline, path []string) {
		path = append(slices.Clip(path), p.Name)
		state[p.Name] = visiting
		for i, name := range p.DependsOn {
			report := func(severity resource.Severity, format string, args ...any) {
				found = append(found, resource.Finding{Severity: severity, File: file.Name, Position: p.Place(fmt.Sprintf("depends_on[%d]", i)), Pipeline: p.Name, Key: "depends_on", Message: fmt.Sprintf(format, args...)})
			}
			switch {
			case !known[name]:
				report(resource.Warning, "there is no pipeline %q, and the dependency is ignored, as Drone's server ignores it: name one of this file", name)
			case state[name] == visiting:
				from := slices.Index(path, name)
				report(resource.Error, "the pipelines depend on each other in a circle: %s", strings.Join(append(slices.Clip(path[from:]), name), " → "))
			case state[name] == 0:
				if at := slices.IndexFunc(picked, func(p *resource.Pipeline) bool { return p.Name == name }); at >= 0 {
					visit(picked[at], path)
				}
			}
		}
		state[p.Name] = visited
		out = append(out, p)
	}
	for _, p := range picked {
		if state[p.Name] == 0 {
			visit(p, nil)
		}
	}
	return out, found
}

// triggered tells whether a server would run a pipeline for this build. (Paths are not looked at: what changed isn't known.)
func triggered(trigger manifest.Conditions, d *client.Context) bool {
	return glob.Conditions(trigger, manifest.Match{
		Action:   d.Build.Action,
		Branch:   d.Build.Target,
		Cron:     d.Build.Cron,
		Event:    d.Build.Event,
		Instance: d.System.Host,
		Ref:      d.Build.Ref,
		Repo:     d.Repo.Slug,
		Target:   d.Build.Deploy,
	})
}

// statusNamed tells whether a condition names the status; one that names none doesn't.
func statusNamed(c manifest.Condition, status string) bool {
	return (len(c.Include) > 0 || len(c.Exclude) > 0) && glob.Condition(c, status)
}

// once leaves out findings that are there already: what concerns the whole file is found with each pipeline.
func once(found resource.Findings) resource.Findings {
	seen := map[resource.Finding]bool{}
	return slices.DeleteFunc(found, func(f resource.Finding) bool {
		again := seen[f]
		seen[f] = true
		return again
	})
}
