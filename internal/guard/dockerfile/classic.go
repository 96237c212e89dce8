package dockerfile

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// ScopeArg is an argument that a build is given whose steps may see another network than those of
// other stages: what they make isn't in the cache for them.
const ScopeArg = "GUARD_BUILD"

// Images resolves the images of a Dockerfile.
type Images interface {
	// Resolve returns the id of an image, and the instructions that it adds to builds upon it
	// (ONBUILD).
	Resolve(ctx context.Context, ref, platform string) (id string, onBuild []string, err error)
}

// Options say how a Dockerfile is built.
type Options struct {
	// Args are the arguments that the build is given.
	Args map[string]string
	// Target is the name or the number of the last stage; empty means the last one of the file.
	Target string
	// Scoped declares ScopeArg in every stage.
	Scoped bool
}

// Classic rewrites a Dockerfile for the daemon's classic builder, which resolves images on its own,
// by any name and by the beginning of any id. In what comes out every image is a full id that
// Images has resolved.
//
// It is built anew from the parsed instructions, one line each, without comments and continued
// lines: the daemon's own parser may be another version, and must have no choice in reading it.
type Classic struct {
	options Options
	images  Images

	mu sync.Mutex
	// shown has, for the steps that the daemon reports, what was replaced in them.
	shown map[string]string
}

// NewClassic returns a Classic.
func NewClassic(o Options, images Images) *Classic {
	return &Classic{options: o, images: images, shown: map[string]string{}}
}

// Rewrite returns the Dockerfile for the daemon.
func (c *Classic) Rewrite(ctx context.Context, src []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil { // the parser's
			out, err = nil, apierror.BadRequest("dockerfile parse error: %v", p)
		}
	}()
	if len(src) > Limit {
		return nil, apierror.BadRequest("the Dockerfile is larger than %d bytes", Limit)
	}
	parsed, err := parse(src)
	if err != nil {
		return nil, err
	}
	w := &classicWriter{
		Classic: c,
		walker:  newWalker(parsed, c.options.Args),
		escape:  parsed.EscapeToken,
		resolve: func(ref, platform string) (string, []string, error) { return c.images.Resolve(ctx, ref, platform) },
	}
	if w.escape != parser.DefaultEscapeToken {
		w.line("# escape=" + string(w.escape))
	}
	if err := w.walk(parsed, w); err != nil {
		return nil, err
	}
	if target := c.options.Target; target != "" && !w.reached(target) {
		return nil, apierror.BadRequest("failed to reach build target %s in Dockerfile", target)
	}
	return w.out.Bytes(), nil
}

// Show puts what the Dockerfile says in place of what Rewrite made of it, in a message about one of
// its steps.
func (c *Classic) Show(message []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for from, to := range c.shown {
		message = bytes.Replace(message, []byte(from), []byte(to), 1)
	}
	return message
}

func (c *Classic) show(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown[from] = to
}

// classicWriter writes one Dockerfile.
type classicWriter struct {
	*Classic
	*walker
	out     bytes.Buffer
	escape  rune
	resolve func(ref, platform string) (id string, onBuild []string, err error)
}

func (w *classicWriter) line(s string) {
	w.out.WriteString(s)
	w.out.WriteByte('\n')
}

// known are the instructions of a Dockerfile.
var known = []string{
	command.Add, command.Arg, command.Cmd, command.Copy, command.Entrypoint, command.Env, command.Expose,
	command.From, command.Healthcheck, command.Label,
	command.Maintainer, command.Onbuild, command.Run, command.Shell, command.StopSignal, command.User,
	command.Volume, command.Workdir,
}

// visit writes an instruction. The walk is over when the target has been reached.
func (w *classicWriter) visit(i *instruction) (done bool, err error) {
	at := fmt.Sprintf("line %d of the Dockerfile", i.StartLine)
	text := strings.TrimRight(i.Original, " \t\r")
	switch {
	case len(i.Heredocs) > 0:
		return false, apierror.Refuse(
			"a here-document at "+at,
			"Docker's classic builder has none",
			"build with BuildKit (docker buildx build)",
		)
	case !slices.Contains(known, i.name):
		return false, apierror.BadRequest("%s: unknown instruction: %s", at, strings.ToUpper(i.Value))
	case strings.ContainsAny(text, "\n\r") || strings.HasPrefix(text, "#"):
		return false, apierror.BadRequest("%s can't be written as one line", at)
	case strings.HasSuffix(text, string(w.escape)):
		return false, apierror.BadRequest(
			"%s ends with an escape character, which some versions of Docker read in another way",
			at,
		)
	case i.name == command.From && w.options.Target != "" && w.reached(w.options.Target):
		return true, nil
	case i.err != nil:
		return false, apierror.BadRequest("%s: %v", at, i.err)
	}
	switch i.name {
	case command.From:
		return false, w.from(i, at)
	case command.Add, command.Copy:
		if text, err = w.copyFrom(i, text, at); err != nil {
			return false, err
		}
	case command.Onbuild:
		_, trigger, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
		if err := CheckTrigger(trigger); err != nil {
			return false, fmt.Errorf("%s: %w", at, err)
		}
	}
	w.line(text)
	return false, nil
}

// from writes a FROM with what it means.
func (w *classicWriter) from(i *instruction, at string) error {
	platform, err := w.expand(i.stage.Platform)
	if err != nil {
		return apierror.BadRequest("%s: %v", at, err)
	}
	if i.base == "" {
		return apierror.BadRequest("%s: base name (%s) should not be blank", at, i.stage.BaseName)
	}
	line := "FROM " + i.base
	if i.base != "scratch" && !w.named(i.base) {
		id, onBuild, err := w.image(i.base, platform)
		if err != nil {
			return err
		}
		for _, trigger := range onBuild {
			if err := CheckTrigger(trigger); err != nil {
				return fmt.Errorf("%s: the image %s: %w", at, apierror.Quote(i.base), err)
			}
		}
		line = "FROM " + id
	}
	w.show(line, "FROM "+i.base)
	if i.stage.Name != "" {
		line += " AS " + i.stage.Name
	}
	w.line(line)
	if w.options.Scoped {
		w.line("ARG " + ScopeArg)
	}
	return nil
}

// image resolves an image.
func (w *classicWriter) image(ref, platform string) (string, []string, error) {
	if strings.ContainsAny(ref, " \t\"'`$") {
		return "", nil, apierror.BadRequest("invalid reference format: %s", apierror.Quote(ref))
	}
	return w.resolve(ref, platform)
}

// copyFrom puts the id in place of the image in --from.
func (w *classicWriter) copyFrom(i *instruction, text, at string) (string, error) {
	if len(i.images) == 0 || w.isStage(i.images[0]) {
		return text, nil
	}
	from := i.images[0]
	id, _, err := w.image(from, "")
	if err != nil {
		return "", err
	}
	// The flags of a line are words without anything to be quoted or escaped, or it isn't clear
	// where they end.
	before, after, found := strings.Cut(text, "--from="+from)
	if !found || !strings.HasSuffix(strings.ReplaceAll(before, "\t", " "), " ") ||
		strings.ContainsAny(before, "\"'"+string(w.escape)) ||
		after != "" && after[0] != ' ' && after[0] != '\t' {
		return "", apierror.BadRequest("%s: write --from=%s without quotes", at, from)
	}
	w.show("--from="+id, "--from="+from)
	return before + "--from=" + id + after, nil
}

// CheckTrigger judges an instruction that the daemon will run when another image is built upon this
// one: it can't be rewritten, so it mustn't name an image in a way that the daemon could take for
// an id.
func CheckTrigger(text string) error {
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return apierror.BadRequest("the ONBUILD instruction %s can't be read: %v", apierror.Quote(text), err)
	}
	for _, node := range parsed.AST.Children {
		if len(parsed.AST.Children) > 1 || len(node.Heredocs) > 0 ||
			!slices.Contains(known, strings.ToLower(node.Value)) {
			return apierror.BadRequest("the ONBUILD instruction %s can't be read", apierror.Quote(text))
		}
		from, is := fromFlag(node)
		if !is || isNumber(from) {
			continue
		}
		ref, err := reference.ParseNormalizedNamed(from)
		if err != nil || names.IsHex(strings.TrimPrefix(from, "sha256:")) || strings.Contains(from, names.TagSpace) ||
			!reference.IsNameOnly(ref) && strings.Contains(from, "@") {
			return apierror.Refuse(
				"ONBUILD "+apierror.Quote(text),
				"it copies from an image by its id",
				"name the image by a tag",
			)
		}
	}
	return nil
}
