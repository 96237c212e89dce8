package config

import (
	"fmt"
	"path"
	"strings"
)

// Glob is a pattern of path.Match: * and ? match within a part of a name, not over its slashes.
type Glob string

// UnmarshalText refuses a malformed pattern.
func (g *Glob) UnmarshalText(text []byte) error {
	if _, err := path.Match(string(text), ""); err != nil {
		return fmt.Errorf("%q is not a pattern: write a name, in which * stands for any letters, ? for one and "+
			"[a-z] for one of a range", text)
	}
	*g = Glob(text)
	return nil
}

// Match reports whether the name matches.
func (g Glob) Match(name string) bool {
	// A malformed pattern has been refused by UnmarshalText.
	ok, _ := path.Match(string(g), name)
	return ok
}

// Match says by its error, which is meant for the build's page, why a build doesn't run here; nil
// is that it does. repo is the slug, octocat/hello.
func (l Limits) Match(repo, event string, trusted bool) error {
	switch {
	case !matchAny(l.Repos, repo):
		return fmt.Errorf("this runner doesn't run builds of the repository %s: it is limited to %s "+
			"(DRONE_LIMIT_REPOS)", repo, join(l.Repos))
	case !matchAny(l.Events, event):
		return fmt.Errorf("this runner doesn't run builds of the event %s: it is limited to %s "+
			"(DRONE_LIMIT_EVENTS)", event, join(l.Events))
	case l.Trusted && !trusted:
		return fmt.Errorf("this runner runs trusted repositories alone, and %s is not one: an administrator can "+
			"trust it in its settings (DRONE_LIMIT_TRUSTED)", repo)
	}
	return nil
}

func matchAny(globs []Glob, name string) bool {
	for _, g := range globs {
		if g.Match(name) {
			return true
		}
	}
	return len(globs) == 0
}

func join(globs []Glob) string {
	list := make([]string, len(globs))
	for i, g := range globs {
		list[i] = string(g)
	}
	return strings.Join(list, ", ")
}
