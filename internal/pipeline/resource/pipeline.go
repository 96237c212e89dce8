package resource

import (
	"path"
	"slices"
	"strings"

	"github.com/drone/runner-go/manifest"
)

// newPipeline reads a document of kind pipeline.
func newPipeline(root *node, found *Collector) *Pipeline {
	p := &Pipeline{Position: root.at, Keys: map[string]Position{}}
	errors := found.seen[Error]
	d := newDecoder(p.Keys, found)
	d.pipeline = pipelineName(root)
	d.object(root, "", schema{
		"version":            d.text(&p.Version),
		"kind":               d.text(&p.Kind),
		"type":               d.text(&p.Type),
		"name":               d.text(&p.Name),
		"depends_on":         d.texts(&p.DependsOn),
		"clone":              d.clone(&p.Clone),
		"concurrency":        d.concurrency(&p.Concurrency),
		"node":               d.textMap(&p.Node),
		"platform":           d.platform(&p.Platform),
		"trigger":            d.conditions(&p.Trigger),
		"environment":        d.variables(&p.Environment),
		"services":           d.steps(&p.Services),
		"steps":              d.steps(&p.Steps),
		"volumes":            d.volumes(&p.Volumes),
		"image_pull_secrets": d.texts(&p.PullSecrets),
		"workspace":          d.workspace(&p.Workspace),
	}, foreignPipeline)
	p.Name = d.pipeline
	p.Incomplete = found.seen[Error] > errors
	return p
}

// pipelineName is the name as Drone gives it: "default" where the file gives none.
func pipelineName(root *node) string {
	if name := root.text("name"); name != "" {
		return name
	}
	return "default"
}

func (d *decoder) clone(out *manifest.Clone) decode {
	return func(n *node, key string) {
		if n.null() {
			*out = manifest.Clone{}
			return
		}
		if d.isObject(n, key, "clone: {disable: true} for no clone step, or clone: {depth: 50}") {
			d.object(n, key, schema{"disable": d.flag(&out.Disable), "depth": d.integer(&out.Depth),
				"retries":     d.integer(&out.Retries),
				"skip_verify": d.flag(&out.SkipVerify), "trace": d.flag(&out.Trace)}, nil)
		}
	}
}

func (d *decoder) concurrency(out *manifest.Concurrency) decode {
	return func(n *node, key string) {
		if n.null() {
			*out = manifest.Concurrency{}
			return
		}
		if d.isObject(n, key, "concurrency: {limit: 1}") {
			d.object(n, key, schema{"limit": d.integer(&out.Limit)}, nil)
		}
	}
}

func (d *decoder) platform(out *manifest.Platform) decode {
	return func(n *node, key string) {
		if n.null() {
			*out = manifest.Platform{}
			return
		}
		if d.isObject(n, key, "platform: {os: linux, arch: amd64}") {
			d.object(n, key, schema{"os": d.text(&out.OS), "arch": d.text(&out.Arch), "variant": d.text(&out.Variant),
				"version": d.text(&out.Version)}, nil)
		}
	}
}

func (d *decoder) workspace(out *Workspace) decode {
	return func(n *node, key string) {
		if n.null() {
			*out = Workspace{}
			return
		}
		if d.isObject(n, key, "workspace: {path: /drone/src}") {
			d.object(n, key, schema{"base": d.text(&out.Base), "path": d.text(&out.Path)}, nil)
		}
	}
}

// volumes reads the pipeline's volumes; a null item is passed over, and so is one that is there
// already.
func (d *decoder) volumes(out *[]*Volume) decode {
	return func(n *node, key string) {
		*out = nil
		if n.null() {
			return
		}
		if n.shape != list {
			d.report(Error, key, "needs a list and has a %s: write each volume as \"- name: NAME\" with temp: {} "+
				"or host: {path: …} below", n.shape)
			return
		}
		if len(n.items) > maxVolumes {
			d.report(Error, key, "the pipeline has %d volumes: write at most %d", len(n.items), maxVolumes)
			return
		}
		for i, item := range n.items {
			at := index(key, i)
			d.keys[at] = item.at
			if item.null() {
				d.report(Warning, at, "empty item: remove the dash")
				continue
			}
			if d.isObject(item, at, "- name: NAME, with temp: {} or host: {path: …} below") {
				v := d.volume(item, at)
				if slices.ContainsFunc(*out, v.same) {
					d.report(Warning, at, "the volume %q is declared twice in the same words: remove one", v.Name)
					continue
				}
				*out = append(*out, v)
			}
		}
	}
}

// same reports whether two volumes are declared in the same words.
func (v *Volume) same(w *Volume) bool {
	return v.Name != "" && v.Name == w.Name && v.Claim == w.Claim && (v.Temp == nil) == (w.Temp == nil) &&
		(v.Host == nil) == (w.Host == nil) &&
		(v.Temp == nil || *v.Temp == *w.Temp) && (v.Host == nil || *v.Host == *w.Host)
}

func (d *decoder) volume(n *node, at string) *Volume {
	v := &Volume{Position: n.at, Keys: map[string]Position{}}
	inside := *d
	inside.keys, inside.prefix = v.Keys, at+"."
	dd := &inside
	dd.object(n, "", schema{
		"name": dd.text(&v.Name),
		"temp": func(n *node, key string) {
			v.Temp = &TempVolume{}
			if !n.null() && dd.isObject(n, key, "temp: {}") {
				dd.object(n, key, schema{"medium": dd.text(&v.Temp.Medium),
					"size_limit": dd.size(&v.Temp.SizeLimit)}, nil)
			}
		},
		"host": func(n *node, key string) {
			v.Host = &HostVolume{}
			switch {
			case n.null():
			case n.shape == scalar:
				dd.report(Error, key, "needs a map and has a text: write host: {path: %s}", shorten(n.scalar.Value))
			case dd.isObject(n, key, "host: {path: /cache/NAME}"):
				dd.object(n, key, schema{"path": dd.text(&v.Host.Path)}, nil)
			}
		},
		"claim": func(n *node, _ string) {
			if v.Claim = n.text("name"); v.Claim == "" {
				v.Claim = "claim"
			}
		},
	}, foreignVolume)
	if v.Claim != "" && v.Temp == nil && v.Host == nil {
		v.Temp = &TempVolume{}
	}
	return v
}

// mounts reads the volumes of a step.
func (d *decoder) mounts(out *[]VolumeMount) decode {
	return func(n *node, key string) {
		*out = nil
		if n.null() {
			return
		}
		if n.shape != list {
			d.report(Error, key, "needs a list and has a %s: write each mount as \"- name: NAME\" with \"path: "+
				"/PATH\" below", n.shape)
			return
		}
		for i, item := range n.items {
			at := index(key, i)
			d.keys[at] = item.at
			switch {
			case item.null():
				d.report(Warning, at, "empty item: remove the dash")
			case item.shape == scalar:
				d.report(Error, at, "%s", mountAdvice(item.scalar.Value))
			case d.isObject(item, at, "- name: NAME, with path: /PATH below"):
				var m VolumeMount
				d.object(item, at, schema{"name": d.text(&m.Name), "path": d.text(&m.Path)}, foreignMount)
				*out = append(*out, m)
			}
		}
	}
}

// mountAdvice says how docker's SOURCE:TARGET is written in Drone.
func mountAdvice(s string) string {
	source, target, ok := strings.Cut(s, ":")
	target, _, _ = strings.Cut(target, ":")
	if !ok {
		source, target = "NAME", s
	}
	if !strings.HasPrefix(source, "/") && !strings.HasPrefix(source, ".") {
		return "a mount is a map, not \"" + shorten(s) + "\": write {name: " + shorten(source) + ", path: " + shorten(target) +
			"}, and declare the volume among the pipeline's"
	}
	name := strings.TrimSuffix(path.Base(source), ".sock")
	if name == "/" || name == "." || name == ".." {
		name = "NAME"
	}
	return "a mount is a map, not \"" + shorten(s) + "\": write {name: " + shorten(name) + ", path: " + shorten(target) +
		"} here, and {name: " + shorten(name) + ", host: {path: " + shorten(source) + "}} among the pipeline's volumes"
}

// devices reads what the linter refuses, in Drone's form and in docker's.
func (d *decoder) devices(out *[]Device) decode {
	return func(n *node, key string) {
		*out = nil
		items := n.items
		if n.shape != list && !n.null() {
			items = []*node{n}
		}
		for i, item := range items {
			d.keys[index(key, i)] = item.at
			var dev Device
			if item.shape == scalar {
				dev.Path = item.scalar.Value
			} else {
				d.object(item, index(key, i), schema{"name": d.text(&dev.Name), "path": d.text(&dev.Path)}, nil)
			}
			*out = append(*out, dev)
		}
	}
}
