package compiler

import (
	"fmt"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// qualify completes an image's name the way docker does: the registry, library/ for Docker Hub's
// own, :latest where there is neither tag nor digest.
func qualify(image string) (string, error) {
	if image == "" {
		return "", fmt.Errorf("image: is missing: write the image that the step runs in")
	}
	ref, err := reference.ParseDockerRef(image)
	if err != nil {
		return "", fmt.Errorf("image: %q is no image's name: %w", image, err)
	}
	return ref.String(), nil
}

// expand is qualify of what may be no image's name: "" then.
func expand(image string) string {
	name, err := qualify(image)
	if err != nil {
		return ""
	}
	return name
}

// repository is the image's name without registry defaults, tag and digest, as pipelines write it
// ("plugins/docker"), or "" when it can't be parsed.
func repository(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return ""
	}
	return reference.FamiliarName(ref)
}

// pullPolicy reads `pull`.
func pullPolicy(value string) (spec.PullPolicy, error) {
	switch p := spec.PullPolicy(value); p {
	case spec.PullDefault, spec.PullAlways, spec.PullIfNotExists, spec.PullNever:
		return p, nil
	}
	return "", fmt.Errorf("pull: %q: write always, if-not-exists or never", value)
}
