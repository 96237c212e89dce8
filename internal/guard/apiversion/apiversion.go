// Package apiversion compares versions of the Docker Engine API.
package apiversion

import (
	"strconv"
	"strings"
)

// Range is a range of versions, both ends included.
type Range struct{ Oldest, Newest string }

// Minor returns y of the version "1.y".
func Minor(version string) (int, bool) {
	s, ok := strings.CutPrefix(version, "1.")
	if !ok || len(s) == 0 || len(s) > 3 || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil
}

// AtLeast reports whether a version isn't older than another one. A malformed one is older than
// all.
func AtLeast(version, than string) bool {
	a, ok := Minor(version)
	b, okThan := Minor(than)
	return ok && (!okThan || a >= b)
}
