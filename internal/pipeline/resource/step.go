package resource

import "strings"

// Values of Step.Pull and Step.Failure that Drone knows.
var (
	pullPolicies    = []string{"always", "if-not-exists", "never"}
	failurePolicies = []string{"ignore", "fast", "fast-fail", "fail-fast"}
)

// StepLabel names a step in a finding: by its name, or by its place in the list (steps, services)
// as long as it has none.
func StepLabel(list string, i int, s *Step) string {
	if s == nil || s.Name == "" {
		return index(list, i)
	}
	return s.Name
}

// steps reads steps or services. Null items stay, as nil.
func (d *decoder) steps(out *[]*Step) decode {
	return func(n *node, key string) {
		*out = nil
		if n.null() {
			return
		}
		if n.shape != list {
			d.report(Error, key, "needs a list and has a %s: write each of the %s as \"- name: NAME\" with its "+
				"keys below", n.shape, key)
			return
		}
		if len(n.items) > MaxSteps {
			d.report(Error, key, "the pipeline has %d %s: write at most %d, and split it into several pipelines",
				len(n.items), key, MaxSteps)
			return
		}
		for i, item := range n.items {
			at := index(key, i)
			d.keys[at] = item.at
			if item.null() {
				*out = append(*out, nil)
				continue
			}
			if d.isObject(item, at, "- name: NAME, with its keys below") {
				*out = append(*out, d.newStep(item, key, i))
			}
		}
	}
}

func (d *decoder) newStep(n *node, list string, i int) *Step {
	s := &Step{Position: n.at, Keys: map[string]Position{}}
	inside := *d
	inside.keys, inside.prefix = s.Keys, ""
	inside.step = StepLabel(list, i, &Step{Name: n.text("name")})
	dd := &inside
	dd.object(n, "", schema{
		"name":          dd.text(&s.Name),
		"image":         dd.text(&s.Image),
		"pull":          dd.pull(&s.Pull),
		"command":       dd.texts(&s.Command),
		"commands":      dd.texts(&s.Commands),
		"entrypoint":    dd.texts(&s.Entrypoint),
		"environment":   dd.variables(&s.Environment),
		"settings":      dd.parameters(&s.Settings),
		"depends_on":    dd.texts(&s.DependsOn),
		"detach":        dd.flag(&s.Detach),
		"devices":       dd.devices(&s.Devices),
		"dns":           dd.texts(&s.DNS),
		"dns_search":    dd.texts(&s.DNSSearch),
		"extra_hosts":   dd.texts(&s.ExtraHosts),
		"failure":       dd.failure(&s.Failure),
		"mem_limit":     dd.size(&s.MemLimit),
		"memswap_limit": dd.size(&s.MemSwap),
		"network_mode":  dd.text(&s.Network),
		"privileged":    dd.flag(&s.Privileged),
		"shell":         dd.text(&s.Shell),
		"shm_size":      dd.size(&s.ShmSize),
		"user":          dd.text(&s.User),
		"volumes":       dd.mounts(&s.Volumes),
		"when":          dd.conditions(&s.When),
		"working_dir":   dd.text(&s.WorkingDir),
	}, foreignStep)
	return s
}

// pull reads the pull policy in any case. The truth values of Drone 0.8 stand for the default, as
// they do on Drone's runner.
func (d *decoder) pull(out *string) decode {
	return func(n *node, key string) {
		s, _ := d.textOf(n, key)
		*out = ""
		if b, ok := boolean(s); ok {
			instead := "if-not-exists or never"
			if b {
				instead = "always"
			}
			d.report(Warning, key, "%s is Drone 0.8's and has no effect, so the image is pulled if it is absent "+
				"or its tag is latest: write %s", s, instead)
			return
		}
		if strings.EqualFold(s, "default") {
			return // a common way to write what is the case anyway
		}
		if d.oneOf(key, s, pullPolicies...) {
			*out = strings.ToLower(s)
		}
	}
}

// failure reads the failure policy.
func (d *decoder) failure(out *string) decode {
	return func(n *node, key string) {
		s, _ := d.textOf(n, key)
		*out = ""
		if d.oneOf(key, s, failurePolicies...) {
			*out = s
		}
	}
}
