package glob

import (
	"slices"

	"github.com/drone/runner-go/manifest"
)

// Conditions reports whether a build meets all conditions of a `when` or `trigger`, those of the
// status and of the paths aside, as runner-go's manifest.Conditions.Match does.
func Conditions(c manifest.Conditions, m manifest.Match) bool {
	for _, one := range []struct {
		condition manifest.Condition
		value     string
	}{
		{c.Cron, m.Cron}, {c.Ref, m.Ref}, {c.Repo, m.Repo}, {c.Instance, m.Instance},
		{c.Target, m.Target}, {c.Event, m.Event}, {c.Branch, m.Branch}, {c.Action, m.Action},
	} {
		if !Condition(one.condition, one.value) {
			return false
		}
	}
	return true
}

// Condition reports whether a value meets one condition: no pattern of its exclude matches, and one
// of its include does, if it has any.
func Condition(c manifest.Condition, value string) bool {
	matches := func(pattern string) bool { return Match(pattern, value) }
	if slices.ContainsFunc(c.Exclude, matches) {
		return false
	}
	return len(c.Include) == 0 || slices.ContainsFunc(c.Include, matches)
}
