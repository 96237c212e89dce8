package guard

import (
	"bytes"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// mapImages puts other names in place of images in a Dockerfile for BuildKit: in FROM, COPY --from and RUN --mount=from. own gives the name for an image, false to leave it.
// What it can't read it leaves as it is, for the daemon to complain about.
//
// It's no barrier by itself: BuildKit finds images by their names alone, and what it pulls, or a frontend makes, isn't seen here. The barrier is a source policy where there is one, and that the
// names of other builds' images can't be guessed: 130 bits of them are random.
func mapImages(src []byte, args map[string]string, own func(ref string) (string, bool)) (out []byte) {
	defer func() {
		if recover() != nil { // the parser's
			out = src
		}
	}()
	parsed, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		return src
	}
	m := &imageMapper{lex: shell.NewLex(parsed.EscapeToken), args: args, own: own, lines: strings.SplitAfter(string(src), "\n")}
	for _, node := range parsed.AST.Children {
		m.node(node)
	}
	if !m.changed {
		return src
	}
	return []byte(strings.Join(m.lines, ""))
}

// dockerfile is a Dockerfile with the names of the build's own images in place, for a daemon that can't be told of them in another way. It refuses those of other builds.
func (o solveOpts) dockerfile(src []byte, args map[string]string) ([]byte, error) {
	foreign := func(text string) error {
		if strings.Contains(text, names.TagSpace+"/") {
			return apierror.New(http.StatusNotFound, "No such image: names that end a host in "+names.TagSpace+" are the runner's own")
		}
		return nil
	}
	failed := foreign(string(src))
	out := mapImages(src, args, func(ref string) (string, bool) {
		if err := foreign(ref); err != nil {
			failed = err
			return "", false
		}
		private, onBuild, err := o.find(ref)
		for _, trigger := range onBuild {
			if err := foreign(trigger); err != nil {
				failed = err
				return "", false
			}
		}
		var e apierror.Status
		if err != nil && (!errors.As(err, &e) || e.Code >= http.StatusInternalServerError) {
			failed = err
		}
		return private, err == nil && private != ref
	})
	return out, failed
}

// imageMapper rewrites one Dockerfile, whose lines keep their numbers.
type imageMapper struct {
	lex     *shell.Lex
	args    map[string]string
	own     func(string) (string, bool)
	lines   []string
	meta    []string
	stages  []string
	changed bool
}

func (m *imageMapper) node(node *parser.Node) {
	switch strings.ToLower(node.Value) {
	case command.Arg:
		if len(m.stages) == 0 {
			m.arg(node)
		}
	case command.From:
		m.from(node)
	case command.Copy, command.Add:
		if v, ok := fromFlag(node); ok {
			m.replace(node, v)
		}
	case command.Run:
		for _, flag := range node.Flags {
			spec, ok := strings.CutPrefix(flag, "--mount=")
			for field := range strings.SplitSeq(spec, ",") {
				if v, from := strings.CutPrefix(strings.TrimSpace(field), "from="); ok && from {
					m.replace(node, v)
				}
			}
		}
	}
}

func (m *imageMapper) arg(node *parser.Node) {
	cmd, err := instructions.ParseInstruction(node)
	if err != nil {
		return
	}
	arg, ok := cmd.(*instructions.ArgCommand)
	if !ok {
		return
	}
	for _, a := range arg.Args {
		if v, ok := m.args[a.Key]; ok {
			m.meta = append(m.meta, a.Key+"="+v)
		} else if a.Value != nil {
			if v, _, err := m.lex.ProcessWord(*a.Value, shell.EnvsFromSlice(m.meta)); err == nil {
				m.meta = append(m.meta, a.Key+"="+v)
			}
		}
	}
}

func (m *imageMapper) from(node *parser.Node) {
	cmd, err := instructions.ParseInstruction(node)
	if err != nil {
		return
	}
	stage, ok := cmd.(*instructions.Stage)
	if !ok {
		return
	}
	defer func() { m.stages = append(m.stages, stage.Name) }()
	base, _, err := m.lex.ProcessWord(stage.BaseName, shell.EnvsFromSlice(m.meta))
	if err != nil || base == "scratch" || m.isStage(base) {
		return
	}
	private, ok := m.own(base)
	if !ok {
		return
	}
	line := "FROM "
	if stage.Platform != "" {
		line += "--platform=" + stage.Platform + " "
	}
	line += private
	if stage.Name != "" {
		line += " AS " + stage.Name
	}
	m.lines[node.StartLine-1] = line + "\n"
	for i := node.StartLine; i < node.EndLine && i < len(m.lines); i++ {
		m.lines[i] = "\n"
	}
	m.changed = true
}

func (m *imageMapper) isStage(name string) bool {
	return isNumber(name) || slices.ContainsFunc(m.stages, func(s string) bool { return s != "" && strings.EqualFold(s, name) })
}

// replace puts the private name in place of an image in the from= of an instruction.
func (m *imageMapper) replace(node *parser.Node, image string) {
	if m.isStage(image) {
		return
	}
	private, ok := m.own(image)
	if !ok {
		return
	}
	word := regexp.MustCompile(`(\bfrom=)` + regexp.QuoteMeta(image) + `([,\s]|$)`)
	for i := node.StartLine - 1; i < node.EndLine && i < len(m.lines); i++ {
		m.lines[i] = word.ReplaceAllString(m.lines[i], "${1}"+private+"${2}")
	}
	m.changed = true
}
