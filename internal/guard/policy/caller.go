package policy

import (
	"fmt"
	"strings"
)

// Caller is what is mounted in the container that a request comes from. It answers what a path
// means to the client.
type Caller struct{ Mounts []Mount }

// Mount is a mount in a container, as the daemon reports it.
type Mount struct {
	Type        string
	Name        string // of a volume
	Source      string // on the daemon's machine
	Destination string
	RW          bool
	// Subpath of the volume that is mounted.
	Subpath string `json:"-"`
}

// find returns the mount that a path is in, and the path below it. It fails if steps disagree on
// what is there.
func (c Caller) find(p string) (m Mount, rel string, found bool, err error) {
	for _, have := range c.Mounts {
		below, ok := below(have.Destination, p)
		if !ok {
			continue
		}
		switch {
		case !found || len(have.Destination) > len(m.Destination):
			m, rel, found = have, below, true
		case have.Destination == m.Destination && (have.Source != m.Source || have.Name != m.Name):
			return m, "", false, fmt.Errorf("steps of this pipeline have different volumes at %s", m.Destination)
		case have.Destination == m.Destination && !have.RW:
			m.RW = false
		}
	}
	return m, rel, found, nil
}

// below returns the path of p under dir, "" if it's dir itself. Both are absolute and clean.
func below(dir, p string) (string, bool) {
	if p == dir {
		return "", true
	}
	if dir != "/" {
		dir += "/"
	}
	return strings.CutPrefix(p, dir)
}
