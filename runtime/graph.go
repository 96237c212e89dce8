package runtime

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// node is one step in the graph.
type node struct {
	step *spec.Step
	deps []*node
	// released is closed when the steps that depend on this one may go on: it has ended or,
	// detached, started, or it doesn't run.
	released chan struct{}
	// visited is set when its turn has come.
	visited atomic.Bool
}

// newGraph ties the steps of a spec together. A spec whose graph could never end, or whose records
// would be ambiguous, is an error: the compiler doesn't make one, but nothing may hang if it did.
func newGraph(s *spec.Spec) ([]*node, error) {
	if s == nil {
		return nil, errors.New("run stage: there is no spec")
	}
	byName := make(map[string]*node, len(s.Steps))
	numbers := make(map[int]string, len(s.Steps))
	nodes := make([]*node, 0, len(s.Steps))
	for i, step := range s.Steps {
		switch {
		case step == nil:
			return nil, fmt.Errorf("run stage %q: step %d of its spec is nil", s.Name, i+1)
		case byName[step.Name] != nil:
			return nil, fmt.Errorf("run stage %q: two steps are called %q", s.Name, step.Name)
		}
		if step.RunPolicy != spec.RunNever {
			if other, taken := numbers[step.Number]; taken || step.Number < 1 {
				return nil, fmt.Errorf("run stage %q: step %q has number %d, which is taken (%q) or less than 1", s.Name, step.Name, step.Number, other)
			}
			numbers[step.Number] = step.Name
		}
		n := &node{step: step, released: make(chan struct{})}
		byName[step.Name] = n
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		for _, name := range n.step.DependsOn {
			dep := byName[name]
			if dep == nil {
				return nil, fmt.Errorf("run stage %q: step %q depends on %q, which is no step of it", s.Name, n.step.Name, name)
			}
			n.deps = append(n.deps, dep)
		}
	}
	if cycle := findCycle(nodes); cycle != nil {
		return nil, fmt.Errorf("run stage %q: steps depend on each other in a circle: %s", s.Name, strings.Join(cycle, " -> "))
	}
	return nodes, nil
}

// findCycle is a circle of dependencies, its first name repeated at the end, or nil.
func findCycle(nodes []*node) []string {
	const visiting, visited = 1, 2
	marks := map[*node]int{}
	var path []string
	var visit func(n *node) []string
	visit = func(n *node) []string {
		path = append(path, n.step.Name)
		defer func() { path = path[:len(path)-1] }()
		marks[n] = visiting
		for _, dep := range n.deps {
			switch marks[dep] {
			case visiting:
				for i, name := range path {
					if name == dep.step.Name {
						return append(append([]string{}, path[i:]...), name)
					}
				}
			case visited:
			default:
				if cycle := visit(dep); cycle != nil {
					return cycle
				}
			}
		}
		marks[n] = visited
		return nil
	}
	for _, n := range nodes {
		if marks[n] == 0 {
			if cycle := visit(n); cycle != nil {
				return cycle
			}
		}
	}
	return nil
}
