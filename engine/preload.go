package engine

import (
	"context"
	"fmt"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Preload pulls an image that no step asks for yet, with the retries of any pull. Credentials may
// be nil; say, too, gets lines of progress.
func (d *Docker) Preload(ctx context.Context, image string, auth *spec.Auth, say func(line string)) error {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return fmt.Errorf("%q is no image reference (registry/repository:tag): %w", image, err)
	}
	p := pull{Image: reference.TagNameOnly(named).String()}
	if auth != nil {
		p.Auth = *auth
	}
	if say == nil {
		say = func(string) {}
	}
	return d.pulls.do(ctx, p, say)
}
