package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// Order puts each pipeline behind those that it depends on, and otherwise leaves the order as it
// is. A pipeline that isn't picked, or isn't in the file, isn't waited for; the latter is worth a
// warning, and a cycle is an error.
func Order(file *resource.File, picked []*resource.Pipeline) ([]*resource.Pipeline, resource.Findings) {
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
				found = append(found, resource.Finding{
					Severity: severity,
					File:     file.Name,
					Position: p.Place(fmt.Sprintf("depends_on[%d]", i)),
					Pipeline: p.Name,
					Key:      "depends_on",
					Message:  fmt.Sprintf(format, args...),
				})
			}
			switch {
			case !known[name]:
				report(resource.Warning, "there is no pipeline %q, and the dependency is ignored, as Drone's "+
					"server ignores it: name one of this file", name)
			case state[name] == visiting:
				from := slices.Index(path, name)
				report(resource.Error, "the pipelines depend on each other in a circle: %s",
					strings.Join(append(slices.Clip(path[from:]), name), " → "))
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
