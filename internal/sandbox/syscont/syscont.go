// Package syscont is the system container that the runner lives in: the proof that it is one, the
// Docker daemon that is the runner's own child, and the configuration which that daemon runs with.
//
// The one rule to keep: nothing is believed that can be proven. A socket at the right path, a uid
// of 0, a name in the environment say nothing about where a Docker daemon lives; every signal used
// here was seen to tell the places of the table in prove_test.go apart.
package syscont

import (
	"fmt"
)

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
