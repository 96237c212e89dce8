package resource

import (
	"path"
	"slices"
)

// Shells are the interpreters that can run the script that a step's commands make.
var Shells = []string{"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"}

// IsShell reports whether a program is one of Shells, by its name or by its absolute path.
func IsShell(program string) bool {
	name := path.Base(program)
	return slices.Contains(Shells, name) && (path.IsAbs(program) || name == program)
}
