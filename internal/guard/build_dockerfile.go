package guard

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// dockerfileLimit bounds a Dockerfile.
const dockerfileLimit = 1 << 20

// cacheScope is an argument that a build is given whose steps may see another network than those of other builds: what they make isn't in the cache for them.
const cacheScope = "GUARD_BUILD"

// classicFile rewrites a Dockerfile for the daemon's classic builder, which resolves images on its own, by any name and by the beginning of any id. In what comes out every image is a
// full id that the guard has resolved.
//
// It is built anew from the parsed instructions, one line each, without comments and continued lines: the daemon's own parser may be another version, and must have no
// choice in reading it.
type classicFile struct {
	args   map[string]*string
	target string
	scoped bool // see cacheScope
	// resolve gives the id of an image, and the instructions that it adds.
	resolve func(ctx context.Context, ref, platform string) (id string, onBuild []string, err error)
	// shown has, for the steps that the daemon tells of, what was replaced in them.
	shown map[string]string
}

// rewrite is the Dockerfile for the daemon.
func (f *classicFile) rewrite(ctx context.Context, src []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil { // the parser's
			out, err = nil, apierror.BadRequest("dockerfile parse error: %v", p)
		}
	}()
	if len(src) > dockerfileLimit {
		return nil, apierror.BadRequest("the Dockerfile is larger than %d bytes", dockerfileLimit)
	}
	parsed, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		return nil, apierror.BadRequest("dockerfile parse error: %v", err)
	}
	w := &classicWriter{classicFile: f, Context: ctx, escape: parsed.EscapeToken, lex: shell.NewLex(parsed.EscapeToken)}
	if w.escape != parser.DefaultEscapeToken {
		w.line("# escape=" + string(w.escape))
	}
	for _, node := range parsed.AST.Children {
		done, err := w.instruction(node)
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
	}
	if f.target != "" && !w.reached(f.target) {
		return nil, apierror.BadRequest("failed to reach build target %s in Dockerfile", f.target)
	}
	return w.out.Bytes(), nil
}

// classicWriter writes one Dockerfile.
type classicWriter struct {
	*classicFile
	context.Context
	out    bytes.Buffer
	escape rune
	lex    *shell.Lex
	// meta are the arguments before the first stage, "KEY=value".
	meta   []string
	stages []string // their names
}

func (w *classicWriter) line(s string) {
	w.out.WriteString(s)
	w.out.WriteByte('\n')
}

// reached tells whether there has been a stage of that name or number.
func (w *classicWriter) reached(stage string) bool {
	if slices.ContainsFunc(w.stages, func(s string) bool { return s != "" && strings.EqualFold(s, stage) }) {
		return true
	}
	n, err := strconv.Atoi(stage)
	return err == nil && n >= 0 && n < len(w.stages)
}

// known are the instructions of a Dockerfile.
var known = []string{
	command.Add, command.Arg, command.Cmd, command.Copy, command.Entrypoint, command.Env, command.Expose, command.From, command.Healthcheck, command.Label,
	command.Maintainer, command.Onbuild, command.Run, command.Shell, command.StopSignal, command.User, command.Volume, command.Workdir,
}

// instruction writes one; done tells that no more are needed.
func (w *classicWriter) instruction(node *parser.Node) (done bool, err error) {
	at := fmt.Sprintf("line %d of the Dockerfile", node.StartLine)
	text := strings.TrimRight(node.Original, " \t\r")
	name := strings.ToLower(node.Value)
	switch {
	case len(node.Heredocs) > 0:
		return false, apierror.Refuse("a here-document at "+at, "Docker's classic builder has none", "build with BuildKit (docker buildx build)")
	case !slices.Contains(known, name):
		return false, apierror.BadRequest("%s: unknown instruction: %s", at, strings.ToUpper(node.Value))
	case strings.ContainsAny(text, "\n\r") || strings.HasPrefix(text, "#"):
		return false, apierror.BadRequest("%s can't be written as one line", at)
	case strings.HasSuffix(text, string(w.escape)):
		return false, apierror.BadRequest("%s ends with an escape character, which some versions of Docker read in another way", at)
	}
	switch name {
	case command.From:
		if w.target != "" && w.reached(w.target) {
			return true, nil
		}
		return false, w.from(node, at)
	case command.Arg:
		if len(w.stages) == 0 {
			if err := w.metaArg(node, at); err != nil {
				return false, err
			}
		}
	case command.Add, command.Copy:
		if text, err = w.copyFrom(node, text, at); err != nil {
			return false, err
		}
	case command.Onbuild:
		_, trigger, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
		if err := checkTrigger(trigger); err != nil {
			return false, fmt.Errorf("%s: %w", at, err)
		}
	}
	w.line(text)
	return false, nil
}

// metaArg notes an argument for the FROM lines.
func (w *classicWriter) metaArg(node *parser.Node, at string) error {
	cmd, err := instructions.ParseInstruction(node)
	if err != nil {
		return apierror.BadRequest("%s: %v", at, err)
	}
	arg, ok := cmd.(*instructions.ArgCommand)
	if !ok {
		return apierror.BadRequest("%s is no ARG", at)
	}
	for _, a := range arg.Args {
		value := a.Value
		if v, given := w.args[a.Key]; given && v != nil {
			value = v
		} else if value != nil {
			expanded, err := w.expand(*value)
			if err != nil {
				return apierror.BadRequest("%s: %v", at, err)
			}
			value = &expanded
		}
		if value != nil {
			w.meta = append(w.meta, a.Key+"="+*value)
		}
	}
	return nil
}

func (w *classicWriter) expand(s string) (string, error) {
	out, _, err := w.lex.ProcessWord(s, shell.EnvsFromSlice(w.meta))
	return out, err
}

// from writes a FROM with what it means.
func (w *classicWriter) from(node *parser.Node, at string) error {
	cmd, err := instructions.ParseInstruction(node)
	if err != nil {
		return apierror.BadRequest("%s: %v", at, err)
	}
	stage, ok := cmd.(*instructions.Stage)
	if !ok {
		return apierror.BadRequest("%s is no FROM", at)
	}
	base, err := w.expand(stage.BaseName)
	if err != nil {
		return apierror.BadRequest("%s: %v", at, err)
	}
	platform, err := w.expand(stage.Platform)
	if err != nil {
		return apierror.BadRequest("%s: %v", at, err)
	}
	if base == "" {
		return apierror.BadRequest("%s: base name (%s) should not be blank", at, stage.BaseName)
	}
	line := "FROM " + base
	if base != "scratch" && !w.named(base) {
		id, onBuild, err := w.image(base, platform)
		if err != nil {
			return err
		}
		for _, trigger := range onBuild {
			if err := checkTrigger(trigger); err != nil {
				return fmt.Errorf("%s: the image %s: %w", at, apierror.Quote(base), err)
			}
		}
		line = "FROM " + id
	}
	w.shown[line] = "FROM " + base
	if stage.Name != "" {
		line += " AS " + stage.Name
	}
	w.stages = append(w.stages, stage.Name)
	w.line(line)
	if w.scoped {
		w.line("ARG " + cacheScope)
	}
	return nil
}

// image resolves an image; errors are worded for whoever wrote the Dockerfile.
func (w *classicWriter) image(ref, platform string) (string, []string, error) {
	if strings.ContainsAny(ref, " \t\"'`$") {
		return "", nil, apierror.BadRequest("invalid reference format: %s", apierror.Quote(ref))
	}
	return w.resolve(w, ref, platform)
}

// named tells whether a stage has that name.
func (w *classicWriter) named(s string) bool {
	return slices.ContainsFunc(w.stages, func(n string) bool { return n != "" && strings.EqualFold(n, s) })
}

// copyFrom puts ids in place of images in --from.
func (w *classicWriter) copyFrom(node *parser.Node, text, at string) (string, error) {
	from, is := fromFlag(node)
	if !is || w.named(from) || isNumber(from) {
		return text, nil
	}
	id, _, err := w.image(from, "")
	if err != nil {
		return "", err
	}
	// The flags of a line are words without anything to be quoted or escaped, or it isn't clear where they end.
	words := strings.SplitN(text, "--from="+from, 2)
	if len(words) != 2 || !strings.HasSuffix(strings.ReplaceAll(words[0], "\t", " "), " ") || strings.ContainsAny(words[0], "\"'"+string(w.escape)) || words[1] != "" && words[1][0] != ' ' && words[1][0] != '\t' {
		return "", apierror.BadRequest("%s: write --from=%s without quotes", at, from)
	}
	w.shown["--from="+id] = "--from=" + from
	return words[0] + "--from=" + id + words[1], nil
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// fromFlag is the value of --from.
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

// checkTrigger judges an instruction that the daemon will run when another image is built upon this one: it can't be rewritten, so it mustn't name an image in a way
// that the daemon could take for an id.
func checkTrigger(text string) error {
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return apierror.BadRequest("the ONBUILD instruction %s can't be read: %v", apierror.Quote(text), err)
	}
	for _, node := range parsed.AST.Children {
		if len(parsed.AST.Children) > 1 || len(node.Heredocs) > 0 || !slices.Contains(known, strings.ToLower(node.Value)) {
			return apierror.BadRequest("the ONBUILD instruction %s can't be read", apierror.Quote(text))
		}
		from, is := fromFlag(node)
		if !is || isNumber(from) {
			continue
		}
		if ref, err := reference.ParseNormalizedNamed(from); err != nil || names.IsHex(strings.TrimPrefix(from, "sha256:")) || strings.Contains(from, names.TagSpace) || !reference.IsNameOnly(ref) && strings.Contains(from, "@") {
			return apierror.Refuse("ONBUILD "+apierror.Quote(text), "it copies from an image by its id", "name the image by a tag")
		}
	}
	return nil
}
