package spec

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Validate reports what makes a spec impossible to run: a missing or repeated name or id, or a
// volume of a kind that doesn't fit. The error names the pipeline. A nil spec is an error.
func (s *Spec) Validate() error {
	if s == nil {
		return errors.New("there is no spec")
	}
	if err := s.validate(); err != nil {
		return fmt.Errorf("pipeline %q: %w", s.Name, err)
	}
	return nil
}

func (s *Spec) validate() error {
	switch {
	case s.ID == "":
		return errors.New("its spec has no id")
	case s.Network.Name == "":
		return errors.New("its network has no name")
	}
	if err := validateVolumes(s.Volumes); err != nil {
		return err
	}
	return validateSteps(s.Steps)
}

func validateVolumes(volumes []*Volume) error {
	names := map[string]bool{}
	for i, v := range volumes {
		switch {
		case v == nil:
			return fmt.Errorf("volume %d of its spec is empty", i+1)
		case names[v.Name]:
			return fmt.Errorf("two volumes have the name %q", v.Name)
		}
		names[v.Name] = true
		if err := v.validate(); err != nil {
			return err
		}
	}
	return nil
}

func validateSteps(steps []*Step) error {
	ids := map[string]bool{}
	for i, step := range steps {
		switch {
		case step == nil:
			return fmt.Errorf("step %d of its spec is empty", i+1)
		case step.ID == "":
			return fmt.Errorf("step %q has no id", step.Name)
		case ids[step.ID]:
			return fmt.Errorf("two steps have the id %q", step.ID)
		}
		ids[step.ID] = true
	}
	return nil
}

// below reports whether a path is root or below it, by its spelling.
func below(root, p string) bool {
	root, p = path.Clean(root), path.Clean(p)
	return p == root || strings.HasPrefix(p, strings.TrimSuffix(root, "/")+"/")
}

// validate reports what makes a volume of its kind impossible.
func (v *Volume) validate() error {
	switch v.Kind {
	case VolumeTemp, VolumeMemory, VolumePersistent:
		if v.ID == "" {
			return fmt.Errorf("volume %q (%s) has no id", v.Name, v.Kind)
		}
		if v.SizeLimit < 0 {
			return fmt.Errorf("volume %q has a size limit below zero: %d", v.Name, v.SizeLimit)
		}
	case VolumeBind:
		if v.ID != "" {
			return fmt.Errorf("volume %q binds a path and can't have the id %q as well", v.Name, v.ID)
		}
		if !path.IsAbs(v.Path) {
			return fmt.Errorf("volume %q binds %q, which is no absolute path", v.Name, v.Path)
		}
		if v.Root != "" && !below(v.Root, v.Path) {
			return fmt.Errorf("volume %q binds %q, which is not below %q", v.Name, v.Path, v.Root)
		}
	case VolumeSocket, VolumeSocketDir, VolumePluginSocket, VolumeCerts:
		if v.ID != "" {
			return fmt.Errorf("volume %q (%s) is the guard's and can't have the id %q as well", v.Name, v.Kind, v.ID)
		}
	default:
		return fmt.Errorf("volume %q is of the unknown kind %q", v.Name, v.Kind)
	}
	return nil
}
