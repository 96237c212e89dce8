package sandbox

import (
	"fmt"
	"strings"
)

// Separation is how far stages of different repositories are kept apart that get Docker
// (DRONE_RUNNER_CELLS). A stage without Docker runs in the shared cell in any case: what the engine
// makes is safe there.
type Separation string

const (
	// Together has one cell for all.
	Together Separation = "shared"
	// ByTrust has one cell for trusted repositories, one for each that isn't trusted, and one for
	// the pull requests from forks of each. It is the default.
	ByTrust Separation = "trust"
	// ByRepository has one for each repository, trusted or not, and one for its forks.
	ByRepository Separation = "repository"
)

// ParseSeparation reads the value of DRONE_RUNNER_CELLS. Empty is ByTrust.
func ParseSeparation(s string) (Separation, error) {
	switch v := Separation(strings.ToLower(strings.TrimSpace(s))); v {
	case "":
		return ByTrust, nil
	case Together, ByTrust, ByRepository:
		return v, nil
	}
	return "", fmt.Errorf("%q is not known: write %s (the default), %s or %s", s, ByTrust, Together, ByRepository)
}

// Domain is the trust domain of a stage that gets Docker: whose stages share a cell. Empty is the
// shared one. A domain whose repository is trusted says so at its end: see Trusted.
func (s Separation) Domain(repository string, trusted, fork bool) string {
	if s == Together || s == "" || s == ByTrust && trusted && !fork {
		return ""
	}
	switch {
	case fork && trusted:
		return repository + " (forks," + trustedEnd
	case fork:
		return repository + " (forks)"
	case trusted:
		return repository + " (" + strings.TrimSpace(trustedEnd)
	}
	return repository
}

const trustedEnd = " trusted)"

// Trusted reports whether the stages of a domain are of trusted repositories.
func Trusted(domain string) bool {
	return domain == "" || strings.HasSuffix(domain, "trusted)")
}
