package resource

import (
	"fmt"
	"strings"

	"github.com/drone/runner-go/manifest"
)

// Place is where the key stands, or the nearest of its parents that the file has, or the step.
func (s *Step) Place(key string) Position {
	if s == nil {
		return Position{}
	}
	return place(s.Keys, key, s.Position)
}

// Place is where the key stands, or the nearest of its parents that the file has, or the pipeline.
func (p *Pipeline) Place(key string) Position { return place(p.Keys, key, p.Position) }

// ForOthers reports whether the pipeline asks for a platform that this runner doesn't offer:
// Drone's server hands it to another one.
func (p *Pipeline) ForOthers() bool {
	return p.Platform.OS != "" && !strings.EqualFold(p.Platform.OS, "linux")
}

// Place is where the key stands, or the nearest of its parents that the file has, or the volume.
func (v *Volume) Place(key string) Position { return place(v.Keys, key, v.Position) }

// place cuts the key's path from its end until a known one is left.
func place(keys map[string]Position, key string, otherwise Position) Position {
	for key != "" {
		if at, ok := keys[key]; ok {
			return at
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return otherwise
}

// Pipeline is the docker pipeline of that name; an empty name is "default", as in Drone. Of several
// the first counts. The error lists what the file has instead.
func (f *File) Pipeline(name string) (*Pipeline, error) {
	if name == "" {
		name = "default"
	}
	var names []string
	for _, p := range f.Pipelines {
		if p.Name == name {
			return p, nil
		}
		if len(names) < maxListed {
			names = append(names, fmt.Sprintf("%q", Cut(p.Name, maxKey)))
		}
	}
	if more := len(f.Pipelines) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	for _, o := range f.Others {
		if o.Kind == KindPipeline && o.Name == name {
			return nil, fmt.Errorf("pipeline %q of %s has type %q, which another runner runs: this one runs type "+
				"%q, and pipelines without a type",
				name, f.label(), o.Type, TypeDocker)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no docker pipeline, so none named %q: write a document with kind: "+
			"pipeline, type: docker and that name",
			f.label(), name)
	}
	return nil, fmt.Errorf("%s has no docker pipeline %q: it has %s", f.label(), name, strings.Join(names, ", "))
}

func (f *File) label() string {
	if f.Name == "" {
		return "the file"
	}
	return f.Name
}

// Manifest holds the file's secrets in the form that runner-go's secret providers take.
func (f *File) Manifest() *manifest.Manifest {
	m := &manifest.Manifest{}
	for _, s := range f.Secrets {
		m.Resources = append(m.Resources, s)
	}
	return m
}
