package local

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

// Selection says which pipelines of a file are meant, and which of their steps.
type Selection struct {
	Pipelines        []string
	Include, Exclude []string
}

// Stage is a pipeline that is to be run, or one that isn't and why.
type Stage struct {
	Pipeline *resource.Pipeline
	Stage    *drone.Stage
	Spec     *spec.Spec
	// Skip is why it isn't run, or "".
	Skip string
}

// Plan is everything about a file that can be known before anything runs.
type Plan struct {
	Stages   []*Stage
	Warnings resource.Findings
}

// NewPlan reads the file in d, picks the pipelines, each behind those that it depends on, and makes
// their specs. All that is wrong with any of them is in the error at once.
//
// Named pipelines are run whatever their trigger says. Without a name those are run whose trigger
// matches the build, as on a server: a deployment that waits for a promotion doesn't start by
// itself here either.
func NewPlan(ctx context.Context, loader *pipeline.Loader, d *client.Context, s Selection) (*Plan, error) {
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
		return &Plan{Warnings: file.Findings}, noPipeline
	}
	picked, err := pick(file.File, s.Pipelines)
	if err != nil {
		// A document that can't be read has no name.
		return nil, cmp.Or(ofFile(file.Findings).Err(), err)
	}
	picked, order := pipeline.Order(file.File, picked)
	bad := append(ofFile(file.Findings), order.Errors()...)

	p := &Plan{Warnings: order.Warnings()}
	loader.Skip = s.skips
	for i, one := range picked {
		stage := *d.Stage
		stage.ID, stage.Number, stage.Name = int64(i+1), i+1, one.Name
		stage.DependsOn = one.DependsOn
		stage.OnSuccess, stage.OnFailure = glob.Condition(one.Trigger.Status, drone.StatusPassing), statusNamed(one.Trigger.Status, drone.StatusFailing)
		planned := &Stage{Pipeline: one, Stage: &stage}
		p.Stages = append(p.Stages, planned)
		switch {
		case len(s.Pipelines) == 0 && one.ForOthers():
			planned.Skip = "it is for a runner of " + one.Platform.OS
			continue
		case len(s.Pipelines) == 0 && !triggered(one.Trigger, d):
			planned.Skip = fmt.Sprintf("its trigger doesn't match (event %s, branch %s, ref %s); --pipeline runs it all the same", d.Build.Event, d.Build.Target, d.Build.Ref)
			continue
		case len(one.Steps) > 0 && !slices.ContainsFunc(one.Steps, func(step *resource.Step) bool { return step == nil || !s.skips(step.Name) }):
			planned.Skip = "no step of it is left by --include and --exclude"
			continue
		}
		its := *d
		its.Stage = &stage
		sp, warnings, err := loader.LoadFrom(ctx, file, &its)
		p.Warnings = append(p.Warnings, warnings...)
		var invalid *resource.InvalidError
		switch {
		case errors.As(err, &invalid):
			bad = append(bad, invalid.Findings...)
		case err != nil:
			return nil, err
		}
		planned.Spec = sp
	}
	bad, p.Warnings = once(bad), once(p.Warnings)
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

// Runnable reports whether any pipeline is to be run.
func (p *Plan) Runnable() bool {
	return slices.ContainsFunc(p.Stages, func(s *Stage) bool { return s.Skip == "" })
}

// skips reports whether a step is left out.
func (s Selection) skips(step string) bool {
	return len(s.Include) > 0 && !slices.Contains(s.Include, step) || slices.Contains(s.Exclude, step)
}

// check finds names of steps that no pipeline has: a typing error there would leave out everything,
// or nothing.
func (s Selection) check(pipelines []*resource.Pipeline) error {
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
	}{{"--include", s.Include}, {"--exclude", s.Exclude}} {
		for _, step := range list.steps {
			if !names[step] {
				errs = append(errs, fmt.Errorf("%s: there is no step %q: there are %s", list.flag, step, strings.Join(slices.Sorted(maps.Keys(names)), ", ")))
			}
		}
	}
	return errors.Join(errs...)
}

// pick finds the named pipelines, or all of them. Of several with one name the first counts, as
// everywhere.
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

// triggered reports whether a server would run a pipeline for this build. (Paths are not looked at:
// what changed isn't known.)
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

// statusNamed reports whether a condition names the status; one that names none doesn't.
func statusNamed(c manifest.Condition, status string) bool {
	return (len(c.Include) > 0 || len(c.Exclude) > 0) && glob.Condition(c, status)
}

// once leaves out findings that are there already: what concerns the whole file is found with each
// pipeline.
func once(found resource.Findings) resource.Findings {
	seen := map[resource.Finding]bool{}
	return slices.DeleteFunc(found, func(f resource.Finding) bool {
		again := seen[f]
		seen[f] = true
		return again
	})
}
