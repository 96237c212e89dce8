package guard

import "reflect"

// configRules are for container.Config: what runs inside, which the build may choose, and the labels, which are the guard's.
var configRules = []fieldRule{
	{"Hostname", allow},
	{"Domainname", allow},
	{"User", allow}, // root of an unprivileged container is no more than root of a step
	{"AttachStdin", allow},
	{"AttachStdout", allow},
	{"AttachStderr", allow},
	{"ExposedPorts", allow}, // publishes nothing by itself
	{"Tty", allow},
	{"OpenStdin", allow},
	{"StdinOnce", allow},
	{"Env", allow},
	{"Cmd", allow},
	{"Healthcheck", allow}, // runs in the container
	{"ArgsEscaped", allow},
	{"Image", allow},   // resolved before the rules are applied: see findImage
	{"Volumes", allow}, // made mounts with labels by HostConfig.Mounts
	{"WorkingDir", allow},
	{"Entrypoint", allow},
	{"NetworkDisabled", allow},
	{"MacAddress", allow},
	{"OnBuild", allow},
	{"Labels", ownLabels},
	{"StopSignal", allow},
	{"StopTimeout", allow}, // removal at the build's end kills
	{"Shell", allow},
}

// ownLabels puts the owner's labels over a map of labels. Those of the image that are the runner's own are blanked: a Dockerfile says nothing about whose
// a container is.
func ownLabels(p *checking, at string, v reflect.Value) error {
	labels, _ := v.Interface().(map[string]string)
	out, err := p.c.g.owned(at, labels)
	if err != nil {
		return err
	}
	if p.create != nil {
		for k := range p.create.image.labels {
			if _, set := out[k]; !set && len(k) > len(labelSpace) && k[:len(labelSpace)] == labelSpace {
				out[k] = ""
			}
		}
	}
	v.Set(reflect.ValueOf(out))
	return nil
}
