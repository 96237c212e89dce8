package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// failure is the kind of a failed pull.
type failure int

const (
	failedForNow failure = iota // may pass: try again
	failedDenied                // wrong credentials, or none
	failedAbsent                // no such image
	failedInvalid
	failedCancelled
)

// pullFailure sorts the error of a pull. The daemon answers most failures of a registry with status
// 500, or with 200 and a message in the stream, so where errdefs has nothing to say the text
// decides. What isn't recognised may pass: a needless retry costs seconds, a missing one a build.
func pullFailure(err error) failure {
	text := strings.ToLower(err.Error())
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, context.Canceled):
		return failedCancelled
	case errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err),
		has("unauthorized", "access denied", "authentication required", "no basic auth credentials", "incorrect username or password", ": denied", `"denied"`, "403 forbidden"):
		return failedDenied
	case errdefs.IsNotFound(err), has("manifest unknown", "manifest_unknown", "name unknown", "name_unknown", "no matching manifest"):
		return failedAbsent
	case errdefs.IsInvalidArgument(err):
		return failedInvalid
	}
	return failedForNow
}

// explainPull says of a failed pull what was pulled from where, and what to do.
func explainPull(p pull, err error) error {
	if err == nil {
		return nil
	}
	host := registryHost(p.Image)
	const where = "image_pull_secrets or DRONE_DOCKER_CONFIG"
	what := "pull image " + p.Image
	if p.Platform != "" {
		what += " for " + p.Platform
	}
	switch pullFailure(err) {
	case failedDenied:
		if p.Auth.Username == "" {
			return fmt.Errorf("%s: the registry %s wants credentials and none are given for it (%s), or it has no such repository: %w", what, host, where, err)
		}
		return fmt.Errorf("%s: the registry %s refused the credentials of user %q; check them in %s, and that this user may read the repository: %w", what, host, p.Auth.Username, where, err)
	case failedAbsent:
		return fmt.Errorf("%s: the registry %s doesn't have it; check repository and tag: %w", what, host, err)
	case failedForNow:
		if diskFull(err) {
			return fmt.Errorf("%s: the disk of the docker daemon is full (DRONE_RUNNER_CACHE_HIGH says how full its cache may make it): %w", what, err)
		}
		if strings.Contains(err.Error(), "toomanyrequests") {
			return fmt.Errorf("%s: the registry %s limits how often it is asked; credentials (%s) or a mirror raise the limit: %w", what, host, where, err)
		}
		return fmt.Errorf("%s: the registry %s failed or can't be reached from the docker daemon: %w", what, host, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
