// Package syscont is the system container that the runner lives in: the proof that it is one, the Docker daemon that is the runner's own child, and the
// configuration which that daemon runs with.
//
// The one rule to keep: nothing is believed that can be proven. A socket at the right path, a uid of 0, a name in the environment say nothing about
// where a Docker daemon lives; every signal used here was seen to tell the places of the table in prove_test.go apart.
package syscont

import (
	"fmt"
	"strings"
)

// Sandbox is what the operator insists on around the runner (DRONE_RUNNER_SANDBOX).
type Sandbox string

const (
	// SandboxSysbox insists on a Sysbox system container and a daemon inside it. It is the default.
	SandboxSysbox Sandbox = "sysbox"
	// SandboxUserns accepts any user namespace whose root is not the host's, with a daemon inside it: rootless containers, userns-remap. It is weaker: /proc and
	// /sys aren't emulated, and whatever privilege the container was given stays.
	SandboxUserns Sandbox = "userns"
	// SandboxNone proves nothing and starts no daemon: the runner uses whatever Docker it is pointed at. For development.
	SandboxNone Sandbox = "none"
)

// ParseSandbox reads the value of DRONE_RUNNER_SANDBOX; empty is SandboxSysbox.
func ParseSandbox(s string) (Sandbox, error) {
	switch v := Sandbox(strings.ToLower(strings.TrimSpace(s))); v {
	case "":
		return SandboxSysbox, nil
	case SandboxSysbox, SandboxUserns, SandboxNone:
		return v, nil
	}
	return "", fmt.Errorf("sandbox %q is not known: write %s (the default), %s or %s", s, SandboxSysbox, SandboxUserns, SandboxNone)
}

// Status is the outcome of a check.
type Status string

// The outcomes. A Warn is worth reading and stops nothing.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Check is one thing that was looked at, for the operator to read.
type Check struct {
	// Name is short and stays the same over versions: scripts look for it.
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail is what was seen.
	Detail string `json:"detail"`
	// Fix is what to do about it; empty for a Pass.
	Fix string `json:"fix,omitempty"`
}

// String is the check in one line.
func (c Check) String() string {
	s := fmt.Sprintf("%s: %s: %s", c.Status, c.Name, c.Detail)
	if c.Fix != "" {
		s += " — " + c.Fix
	}
	return s
}

// Failed are the checks that failed.
func Failed(checks []Check) []Check {
	var out []Check
	for _, c := range checks {
		if c.Status == Fail {
			out = append(out, c)
		}
	}
	return out
}
