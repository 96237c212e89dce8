package names

import "strings"

// Kind tells whose a name of an image in the daemon is.
type Kind int

// The kinds.
const (
	// Shared is of an image that came from its registry, or that the operator put here.
	Shared Kind = iota
	// OfStage is what one stage calls an image. It goes with the stage.
	OfStage
	// OfCache keeps an image that builds have made for the next ones, until the disk runs short.
	OfCache
)

// KindOf tells whose a name is.
func KindOf(name string) Kind {
	switch {
	case Kept(name):
		return OfCache
	case Reserved(name):
		return OfStage
	}
	return Shared
}

// StageOf returns the id of the stage whose name of an image this is, as far as it can be read from
// the name; ok is false for the name of no stage.
func StageOf(name string) (id string, ok bool) {
	host, rest, _ := strings.Cut(name, "/")
	if strings.HasPrefix(host, "127.0.0.1:") {
		host, _, _ = strings.Cut(rest, "/")
	}
	id, ok = strings.CutSuffix(host, TagSpace)
	return id, ok && !Kept(name)
}
