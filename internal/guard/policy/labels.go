package policy

import (
	"maps"
	"reflect"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// LabelSpace is the prefix of labels that no client may set: some of them mean that an object
// outlives its stage.
const LabelSpace = "io.drone-runner-sysbox."

func reservedLabel(at, key string) error {
	return apierror.Refuse(
		at+" "+apierror.Quote(key),
		"labels that begin with "+LabelSpace+" are the runner's own",
		"",
	)
}

// CheckLabels refuses labels that are the runner's own, where the stage's own labels have no place.
func CheckLabels(at string, labels map[string]string) error {
	for k := range labels {
		if strings.HasPrefix(k, LabelSpace) {
			return reservedLabel(at, k)
		}
	}
	return nil
}

// owned returns the labels of an object that the client makes: the client's, with the stage's over
// them.
func (s Stage) owned(at string, labels map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(labels)+len(s.Labels))
	for k, v := range labels {
		if mine, ok := s.Labels[k]; strings.HasPrefix(k, LabelSpace) && (!ok || mine != v) {
			return nil, reservedLabel(at, k)
		}
		out[k] = v
	}
	maps.Copy(out, s.Labels)
	return out, nil
}

// ownLabels puts the stage's labels over a map of labels.
func ownLabels(j *judgement, at string, v reflect.Value) error {
	labels, _ := v.Interface().(map[string]string)
	out, err := j.stage.owned(at, labels)
	if err != nil {
		return err
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// containerLabels is ownLabels for a container. Labels of its image that are the runner's own are
// blanked: a Dockerfile says nothing about whose a container is.
func containerLabels(j *judgement, at string, v reflect.Value) error {
	if err := ownLabels(j, at, v); err != nil {
		return err
	}
	out, _ := v.Interface().(map[string]string)
	for k := range j.facts.image.Labels {
		if _, set := out[k]; !set && len(k) > len(LabelSpace) && strings.HasPrefix(k, LabelSpace) {
			out[k] = ""
		}
	}
	return nil
}

// noLabels is for labels that become an image's: the stage's own have no place there.
func noLabels(_ *judgement, at string, v reflect.Value) error {
	labels, _ := v.Interface().(map[string]string)
	return CheckLabels(at, labels)
}
