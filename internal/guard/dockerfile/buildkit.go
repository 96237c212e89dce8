package dockerfile

import (
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
)

// MapImages puts other names in place of images in a Dockerfile for BuildKit: in FROM, COPY --from
// and RUN --mount=from. own returns the name for an image, or false to leave it. What can't be read
// stays as it is, for BuildKit to complain about.
//
// It's no barrier by itself: BuildKit finds images by their names alone, and what it pulls, or a
// frontend makes, isn't seen here. The barrier is a source policy where there is one, and that the
// names of other stages' images can't be guessed: 130 bits of them are random.
func MapImages(src []byte, args map[string]string, own func(ref string) (string, bool)) (out []byte) {
	defer func() {
		if recover() != nil { // the parser's
			out = src
		}
	}()
	parsed, err := parse(src)
	if err != nil {
		return src
	}
	m := &mapper{walker: newWalker(parsed, args), own: own, lines: strings.SplitAfter(string(src), "\n")}
	if m.walk(parsed, m) != nil || !m.changed {
		return src
	}
	return []byte(strings.Join(m.lines, ""))
}

// mapper changes one Dockerfile, whose lines keep their numbers.
type mapper struct {
	*walker
	own     func(string) (string, bool)
	lines   []string
	changed bool
}

// visit changes the lines of an instruction.
func (m *mapper) visit(i *instruction) (done bool, err error) {
	switch {
	case i.name == command.From && i.err == nil:
		m.from(i)
	default:
		for _, image := range i.images {
			m.replace(i, image)
		}
	}
	return false, nil
}

func (m *mapper) from(i *instruction) {
	if i.base == "scratch" || m.isStage(i.base) {
		return
	}
	private, ok := m.own(i.base)
	if !ok {
		return
	}
	line := "FROM "
	if i.stage.Platform != "" {
		line += "--platform=" + i.stage.Platform + " "
	}
	line += private
	if i.stage.Name != "" {
		line += " AS " + i.stage.Name
	}
	m.lines[i.StartLine-1] = line + "\n"
	for n := i.StartLine; n < i.EndLine && n < len(m.lines); n++ {
		m.lines[n] = "\n"
	}
	m.changed = true
}

// replace puts the private name in place of an image in the from= of an instruction.
func (m *mapper) replace(i *instruction, image string) {
	if m.isStage(image) {
		return
	}
	private, ok := m.own(image)
	if !ok {
		return
	}
	word := regexp.MustCompile(`(\bfrom=)` + regexp.QuoteMeta(image) + `([,\s]|$)`)
	for n := i.StartLine - 1; n < i.EndLine && n < len(m.lines); n++ {
		m.lines[n] = word.ReplaceAllString(m.lines[n], "${1}"+private+"${2}")
	}
	m.changed = true
}
