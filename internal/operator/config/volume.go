package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Volume is something that is mounted into every step.
type Volume struct {
	// Source is an absolute path of the machine that the Docker daemon runs on, or the name of one
	// of its volumes.
	Source string
	// Target is the absolute path in the step.
	Target string
	// ReadOnly mounts can't be written to.
	ReadOnly bool
}

// volumeName is what Docker allows.
var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// idleModes are those of Docker that have no effect here, as Drone's docker runner drops every mode.
// Others are refused: they may be a misspelled ro.
func idleModes() []string {
	return []string{"z", "Z", "cached", "delegated", "consistent", "nocopy",
		"shared", "rshared", "slave", "rslave", "private", "rprivate"}
}

// UnmarshalText parses SOURCE:TARGET, with :ro, :rw or a mode without effect behind it.
func (v *Volume) UnmarshalText(text []byte) error {
	const example = "write /path:/path/in/step, with :ro behind it for a read-only one"
	parts := strings.Split(string(text), ":")
	mode := "rw"
	if len(parts) == 3 {
		mode = parts[2]
		parts = parts[:2]
	}
	if len(parts) != 2 {
		return fmt.Errorf("%q is not a volume: %s", text, example)
	}
	if mode != "ro" && mode != "rw" && !slices.Contains(idleModes(), mode) {
		return fmt.Errorf("%q: the mode %q is not known: it can be ro or rw", text, mode)
	}
	source, target := parts[0], parts[1]
	if !path.IsAbs(source) && !volumeName.MatchString(source) {
		return fmt.Errorf("%q: %q is neither an absolute path nor the name of a volume: %s", text, source, example)
	}
	if !path.IsAbs(target) || path.Clean(target) == "/" {
		return fmt.Errorf("%q: %q is not an absolute path in the step: %s", text, target, example)
	}
	*v = Volume{source, path.Clean(target), mode == "ro"}
	return nil
}

// String is the volume as it is written.
func (v Volume) String() string {
	s := v.Source + ":" + v.Target
	if v.ReadOnly {
		s += ":ro"
	}
	return s
}
