package config

import (
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
)

// checkCache refuses what can't be meant about images and what is kept of them.
func (l *loader) checkCache(cfg *Config) {
	switch f := cfg.Docker.PullFallback; f {
	case "", "always", "never":
	default:
		l.fail("DRONE_RUNNER_PULL_FALLBACK: %q is not known: it can be always, never, or be left out", f)
	}
	for _, image := range cfg.Cache.PreloadImages {
		if _, err := reference.ParseNormalizedNamed(image); err != nil {
			l.fail("DRONE_RUNNER_PRELOAD_IMAGES: %q is not the name of an image: write one such as golang:1.26 or "+
				"registry.example.com/team/tools:2", image)
		}
	}
	c := &cfg.Cache
	if _, set := l.env["DRONE_RUNNER_CACHE_HIGH"]; !set && cfg.Runner.Sandbox == sandbox.None {
		c.High = Mark{} // the daemon is somebody else's, and so are its images
	}
	if c.High == (Mark{}) {
		c.Low = Mark{}
	}
	if c.Size < 0 {
		l.fail("DRONE_RUNNER_CACHE_SIZE: %s is negative: write a size such as 100GB, or 0 for no limit", c.Size)
	}
	if c.Low.Percent > c.High.Percent && c.High.Percent > 0 || c.Low.Bytes > c.High.Bytes && c.High.Bytes > 0 {
		l.fail("DRONE_RUNNER_CACHE_LOW: %s is above DRONE_RUNNER_CACHE_HIGH, %s: write a lower one", c.Low, c.High)
	}
}

// Keeps reports whether the operator wants an image, by one of its names, or the volume of a path
// kept whatever the disk: because it's preloaded, or matches a pattern.
func (c Cache) Keeps(name string) bool {
	if strings.HasPrefix(name, "/") {
		return slices.ContainsFunc(c.Keep, func(g Glob) bool { return g.Match(name) })
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	wants := func(image string) bool {
		want, err := reference.ParseNormalizedNamed(image)
		return err == nil && reference.TagNameOnly(want).String() == ref.String()
	}
	if slices.ContainsFunc(c.PreloadImages, wants) {
		return true
	}
	return slices.ContainsFunc(c.Keep, func(g Glob) bool {
		return slices.ContainsFunc([]string{
			reference.FamiliarString(ref), reference.FamiliarName(ref), ref.String(), reference.TrimNamed(ref).Name(),
		}, g.Match)
	})
}
