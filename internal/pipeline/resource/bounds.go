package resource

import "fmt"

// Bounds of what one file may become. They bound results, not inputs: a few lines can stand for
// gigabytes by substitution and aliases. The largest public pipelines are far below each of them.
const (
	// MaxFile is how many bytes a file may have, before and after substitution. Drone's own
	// converters stop at 1 MB (DRONE_STARLARK_SIZE_LIMIT).
	MaxFile = 1 << 20
	// MaxSteps is how many steps and services a pipeline may have.
	MaxSteps = 1000
	// maxVolumes is how many volumes a pipeline may have.
	maxVolumes = 1000
	// maxDocuments is how many documents a file may have.
	maxDocuments = 1000
	// maxIndicators is how many line ends, commas, colons, dashes and opening brackets a document
	// may have. Each YAML value takes at least half of one.
	maxIndicators = 200_000
	// maxDepth is how deep lists and maps may be nested.
	maxDepth = 100
	// maxAliased is how many values aliases and merge keys may stand for, all together.
	maxAliased = 100_000
	// maxAliasedBytes is how long the texts among them may be, all together.
	maxAliasedBytes = 4 << 20
	// maxPatterns is how many bytes the patterns of a pipeline's conditions may have, all together.
	maxPatterns = 128 << 10
	// maxFindings is how many findings of each severity are kept.
	maxFindings = 100
	// maxMessage is how many bytes of a message, a key or a name a finding shows.
	maxMessage = 1000
	// maxListed is how many names an error lists.
	maxListed = 20
	// maxKey is how many bytes of a key the path of a place holds.
	maxKey = 100
)

// sizeError says that a file is too large.
func sizeError(what string) error {
	return fmt.Errorf("the file has more than %d KiB%s: split the pipeline, or move scripts into files of the "+
		"repository", MaxFile>>10, what)
}

// indicators returns how many characters of a text may begin a YAML value.
func indicators(text []byte) int {
	n := 0
	for _, c := range text {
		switch c {
		case '\n', ',', ':', '-', '?', '[', '{':
			n++
		}
	}
	return n
}

// Cut returns at most limit bytes of a text, and marks what is left out.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := limit
	for end > 0 && text[end]&0xC0 == 0x80 {
		end--
	}
	return text[:end] + "…"
}
