// Package sandbox names what stands around the runner. Its folders build it: syscont, the system
// container with its proof and its Docker daemon, and fence, the rules that keep stages' networks
// apart.
package sandbox

import (
	"fmt"
	"strings"
)

// Grade is what the operator insists on around the runner (DRONE_RUNNER_SANDBOX).
type Grade string

const (
	// Sysbox insists on a Sysbox system container and a daemon inside it. It is the default.
	Sysbox Grade = "sysbox"
	// Userns accepts any user namespace whose root is not the host's, with a daemon inside it:
	// rootless containers, userns-remap. It is weaker: /proc and /sys aren't emulated, and whatever
	// privilege the container was given stays.
	Userns Grade = "userns"
	// None proves nothing and starts no daemon: the runner uses whatever Docker it is pointed at.
	// It is for development.
	None Grade = "none"
)

// Parse reads the value of DRONE_RUNNER_SANDBOX. Empty is Sysbox.
func Parse(s string) (Grade, error) {
	switch v := Grade(strings.ToLower(strings.TrimSpace(s))); v {
	case "":
		return Sysbox, nil
	case Sysbox, Userns, None:
		return v, nil
	}
	return "", fmt.Errorf("sandbox %q is not known: write %s (the default), %s or %s", s, Sysbox, Userns, None)
}
