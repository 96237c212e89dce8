// Package dockerfile puts other names in place of the images that a Dockerfile names: full ids for
// Docker's classic builder (Classic), a stage's private names for BuildKit (MapImages).
//
// The one rule to keep: both read a Dockerfile in the same way, by walk. Where the classic builder
// must have no choice, everything that can't be read is an error; BuildKit, for which this is no
// barrier, gets what can't be read as it is.
package dockerfile

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// Limit bounds a Dockerfile that is read whole, in bytes.
const Limit = 1 << 20

// IgnoreFile lists what isn't part of a build's context.
const IgnoreFile = ".dockerignore"

// visitor is what walk shows a Dockerfile to. An error ends the walk.
type visitor interface {
	// visit is called for each instruction, in their order, with what it says about images; done
	// ends the walk.
	visit(i *instruction) (done bool, err error)
}

// instruction is one instruction of a Dockerfile.
type instruction struct {
	*parser.Node
	name string // in lower case
	// stage is what a FROM begins, nil for other instructions. base is the image that it names,
	// expanded.
	stage *instructions.Stage
	base  string
	// images are what COPY --from, ADD --from and RUN --mount=from name: images, stages or numbers
	// of stages.
	images []string
	// err says why the instruction can't be read as what its name says.
	err error
}

// walker is the state of a walk.
type walker struct {
	lex *shell.Lex
	// args are the arguments that the build is given.
	args map[string]string
	// meta are the arguments before the first FROM, "KEY=value".
	meta []string
	// stages are the names of those that have begun; one without a name has "".
	stages []string
}

// parse reads a Dockerfile.
func parse(src []byte) (*parser.Result, error) {
	parsed, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		return nil, apierror.BadRequest("dockerfile parse error: %v", err)
	}
	return parsed, nil
}

func newWalker(parsed *parser.Result, args map[string]string) *walker {
	return &walker{lex: shell.NewLex(parsed.EscapeToken), args: args}
}

// walk shows each instruction to v. A FROM counts as a stage when v has seen it.
func (w *walker) walk(parsed *parser.Result, v visitor) error {
	for _, node := range parsed.AST.Children {
		i := w.read(node)
		done, err := v.visit(i)
		if done || err != nil {
			return err
		}
		if i.stage != nil {
			w.stages = append(w.stages, i.stage.Name)
		}
	}
	return nil
}

// read reads one instruction.
func (w *walker) read(node *parser.Node) *instruction {
	i := &instruction{Node: node, name: strings.ToLower(node.Value)}
	switch i.name {
	case command.Arg:
		if len(w.stages) == 0 {
			i.err = w.metaArg(node)
		}
	case command.From:
		w.from(i)
	case command.Copy, command.Add:
		if v, ok := fromFlag(node); ok {
			i.images = append(i.images, v)
		}
	case command.Run:
		for _, flag := range node.Flags {
			mount, ok := strings.CutPrefix(flag, "--mount=")
			for field := range strings.SplitSeq(mount, ",") {
				if v, from := strings.CutPrefix(strings.TrimSpace(field), "from="); ok && from {
					i.images = append(i.images, v)
				}
			}
		}
	}
	return i
}

// metaArg notes an argument for the FROM lines.
func (w *walker) metaArg(node *parser.Node) error {
	cmd, err := instructions.ParseInstruction(node)
	if err != nil {
		return err
	}
	arg, ok := cmd.(*instructions.ArgCommand)
	if !ok {
		return notA("ARG")
	}
	for _, a := range arg.Args {
		if v, given := w.args[a.Key]; given {
			w.meta = append(w.meta, a.Key+"="+v)
		} else if a.Value != nil {
			v, e := w.expand(*a.Value)
			if e != nil {
				err = cmp.Or(err, e)
				continue
			}
			w.meta = append(w.meta, a.Key+"="+v)
		}
	}
	return err
}

// from reads a FROM.
func (w *walker) from(i *instruction) {
	cmd, err := instructions.ParseInstruction(i.Node)
	if err != nil {
		i.err = err
		return
	}
	stage, ok := cmd.(*instructions.Stage)
	if !ok {
		i.err = notA("FROM")
		return
	}
	i.stage = stage
	i.base, i.err = w.expand(stage.BaseName)
}

// notA is the error of an instruction that isn't what its name says.
type notA string

// Error returns the message.
func (n notA) Error() string { return "it is no " + string(n) }

// expand puts the values of the arguments before the first FROM into a word.
func (w *walker) expand(word string) (string, error) {
	out, _, err := w.lex.ProcessWord(word, shell.EnvsFromSlice(w.meta))
	return out, err
}

// named reports whether a stage of that name has begun.
func (w *walker) named(name string) bool {
	return slices.ContainsFunc(w.stages, func(s string) bool { return s != "" && strings.EqualFold(s, name) })
}

// isStage reports whether a COPY --from of that name means a stage.
func (w *walker) isStage(name string) bool { return w.named(name) || isNumber(name) }

// reached reports whether a stage of that name or number has begun.
func (w *walker) reached(stage string) bool {
	if w.named(stage) {
		return true
	}
	n, err := strconv.Atoi(stage)
	return err == nil && n >= 0 && n < len(w.stages)
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// fromFlag returns the value of --from.
func fromFlag(node *parser.Node) (string, bool) {
	for _, flag := range node.Flags {
		if v, ok := strings.CutPrefix(flag, "--from="); ok {
			return v, true
		}
		if flag == "--from" {
			return "", true
		}
	}
	return "", false
}
