package dockerfile

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// idOf is the id of an image in these tests.
func idOf(ref string) string {
	const digits = "0123456789abcdef"
	id := make([]byte, 64)
	for i := range id {
		id[i] = digits[(int(ref[i%len(ref)])+i)%16]
	}
	return "sha256:" + string(id)
}

// every has every image but "absent", and notes the ids of those that were asked for.
type every struct{ ids []string }

func (e *every) Resolve(_ context.Context, ref, platform string) (string, []string, error) {
	id := idOf(ref + platform)
	e.ids = append(e.ids, id)
	switch ref {
	case "absent":
		return "", nil, apierror.New(404, "No such image: absent")
	case "evil":
		return id, []string{"COPY --from=abc / /"}, nil
	}
	return id, nil, nil
}

func TestClassicDockerfile(t *testing.T) {
	for _, tt := range []struct {
		name, src, target string
		args              map[string]string
		scoped            bool
		want, fails       string
	}{
		{name: "one stage", src: "FROM a\nRUN x\n", want: "FROM " + idOf("a") + "\nRUN x\n"},
		{name: "comments and continued lines", src: "# c\nFROM a AS b # no comment\n", fails: "FROM"},
		{name: "a continued line", src: "FROM a\nRUN x \\\n # in between\n  y \\\n\n z\n", want: "FROM " + idOf("a") + "\nRUN x   y  z\n"},
		{name: "a continued FROM", src: "FR\\\nOM \\\n a\n", want: "FROM " + idOf("a") + "\n"},
		{name: "lower case", src: "from a as B\ncopy --from=b x y", want: "FROM " + idOf("a") + " AS b\ncopy --from=b x y\n"},
		{name: "scratch", src: "FROM scratch\nCOPY a b\n", want: "FROM scratch\nCOPY a b\n"},
		{name: "a stage upon a stage", src: "FROM a AS x\nFROM x\nFROM X AS y\n", want: "FROM " + idOf("a") + " AS x\nFROM x\nFROM X AS y\n"},
		{name: "a copy from a stage's number", src: "FROM a\nFROM b\nCOPY --from=0 x y", want: "FROM " + idOf("a") + "\nFROM " + idOf("b") + "\nCOPY --from=0 x y\n"},
		{name: "a copy from an image", src: "FROM a\nCOPY --chown=1:1 --from=tools:2 /x /y\n", want: "FROM " + idOf("a") + "\nCOPY --chown=1:1 --from=" + idOf("tools:2") + " /x /y\n"},
		{name: "an argument's default", src: "ARG B=golang\nARG V=1\nFROM ${B}:$V\n", want: "ARG B=golang\nARG V=1\nFROM " + idOf("golang:1") + "\n"},
		{name: "an argument that is given", src: "ARG B=x\nFROM $B\n", args: map[string]string{"B": "golang:1"}, want: "ARG B=x\nFROM " + idOf("golang:1") + "\n"},
		{name: "an argument that isn't declared", src: "FROM $B\n", args: map[string]string{"B": "golang:1"}, fails: "should not be blank"},
		{name: "a platform", src: "FROM --platform=linux/arm64 a\n", want: "FROM " + idOf("alinux/arm64") + "\n"},
		{name: "a target", src: "FROM a AS x\nFROM b AS y\nFROM absent\n", target: "y", want: "FROM " + idOf("a") + " AS x\nFROM " + idOf("b") + " AS y\n"},
		{name: "a target by its number", src: "FROM a\nFROM absent\n", target: "0", want: "FROM " + idOf("a") + "\n"},
		{name: "a target that isn't there", src: "FROM a\n", target: "y", fails: "failed to reach build target y"},
		{name: "another escape character", src: "# escape=`\nFROM a\nRUN x `\n y\n", want: "# escape=`\nFROM " + idOf("a") + "\nRUN x  y\n"},
		{name: "a scope", src: "FROM a\nFROM b\n", scoped: true, want: "FROM " + idOf("a") + "\nARG GUARD_BUILD\nFROM " + idOf("b") + "\nARG GUARD_BUILD\n"},
		{name: "an image that isn't there", src: "FROM absent\n", fails: "No such image: absent"},
		{name: "an image with a trigger", src: "FROM evil\n", fails: "ONBUILD"},
		{name: "a trigger", src: "FROM a\nONBUILD RUN x\n", want: "FROM " + idOf("a") + "\nONBUILD RUN x\n"},
		{name: "a trigger that copies from an id", src: "FROM a\nONBUILD COPY --from=abc / /\n", fails: "ONBUILD"},
		{name: "a trigger that copies from a digest", src: "FROM a\nONBUILD COPY --from=x@" + idOf("a") + " / /\n", fails: "ONBUILD"},
		{name: "a trigger that copies from a stage", src: "FROM a\nONBUILD COPY --from=0 / /\n", want: "FROM " + idOf("a") + "\nONBUILD COPY --from=0 / /\n"},
		{name: "a here-document", src: "FROM a\nRUN <<EOF\nFROM b\nEOF\n", fails: "here-document"},
		{name: "a copied here-document", src: "FROM a\nCOPY <<EOF /x\nFROM b\nEOF\n", fails: "here-document"},
		{name: "an unknown instruction", src: "FROM a\nMOUNT x\n", fails: "unknown instruction: MOUNT"},
		{name: "an escape character at the end", src: "FROM a\nRUN x \\\\\nFROM b\n", fails: "escape character"},
		{name: "a quoted flag", src: "FROM a\nCOPY --from=\"b\" x y\n", fails: "without quotes"},
		{name: "a flag in a flag", src: "FROM a\nCOPY --chown=--from=b --from=b x y\n", fails: "without quotes"},
		{name: "a variable in a flag", src: "FROM a\nCOPY --from=$B x y\n", fails: "invalid reference"},
		{name: "nothing", src: "", fails: "no instructions"},
		{name: "too much", src: strings.Repeat("#", Limit+1), fails: "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := NewClassic(Options{Args: tt.args, Target: tt.target, Scoped: tt.scoped}, &every{})
			got, err := f.Rewrite(t.Context(), []byte(tt.src))
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %q, %v; want an error with %q", got, err, tt.fails)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v\nwant %q", got, err, tt.want)
			}
		})
	}
}

// FuzzClassicDockerfile: every image in what comes out has been resolved, whichever way it is read:
// line by line, or by the parser.
func FuzzClassicDockerfile(f *testing.F) {
	for _, s := range []string{
		"FROM a\nRUN x\n", "ARG A=b\nFROM ${A} AS x\nCOPY --from=y a b\n", "# escape=`\nFROM a\nRUN a `\nb\n", "FROM a\nONBUILD COPY --from=b:1 / /\n", "FROM a\nRUN <<E\nFROM b\nE\n",
		"FROM scratch\nADD --from=0 \\\n x y", "ARG --from 0", "ARG --from=A 0", "\xef\xbb\xbfFROM a\r\nRUN b\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		images := &every{}
		out, err := NewClassic(Options{}, images).Rewrite(t.Context(), []byte(src))
		var e apierror.Status
		var r apierror.Refusal
		if err != nil {
			if !errors.As(err, &e) && !errors.As(err, &r) {
				t.Fatalf("%q fails with %v", src, err)
			}
			return
		}
		resolved := func(image string, stages []string) bool {
			return image == "scratch" || isNumber(image) || slices.Contains(images.ids, image) || slices.ContainsFunc(stages, func(s string) bool { return strings.EqualFold(s, image) })
		}
		var stages []string
		for line := range strings.Lines(string(out)) {
			words := strings.Fields(line)
			if len(words) == 0 || !strings.EqualFold(words[0], "from") {
				continue
			}
			if len(words) < 2 || !resolved(words[1], stages) {
				t.Fatalf("%q becomes %q, in which %q isn't resolved", src, out, line)
			}
			if len(words) == 4 {
				stages = append(stages, words[3])
			}
		}
		parsed, err := parser.Parse(strings.NewReader(string(out)))
		if err != nil {
			t.Fatalf("%q becomes %q: %v", src, out, err)
		}
		for _, node := range parsed.AST.Children {
			// Of other instructions the daemon reads no such flag, or refuses it.
			if from, is := fromFlag(node); is && (strings.EqualFold(node.Value, "copy") || strings.EqualFold(node.Value, "add")) {
				// an empty one names the build's context, or is an error of the daemon's
				if from != "" && !resolved(from, stages) {
					t.Fatalf("%q becomes %q, in which %q isn't resolved", src, out, from)
				}
			}
			if strings.EqualFold(node.Value, "from") {
				cmd, err := instructions.ParseInstruction(node)
				if s, ok := cmd.(*instructions.Stage); err != nil || !ok || !resolved(s.BaseName, stages) {
					t.Fatalf("%q becomes %q: %v", src, out, err)
				}
			}
		}
	})
}

func TestMapImages(t *testing.T) {
	own := func(ref string) (string, bool) { return "private/" + ref, strings.HasPrefix(ref, "own") }
	for _, tt := range []struct{ name, src, want string }{
		{"no own image", "# syntax=docker/dockerfile:1\nFROM a\nRUN <<E\nFROM own\nE\n", ""},
		{"a base", "FROM own:1\nRUN x\n", "FROM private/own:1\nRUN x\n"},
		{"a base with a platform and a name", "FROM --platform=$BUILDPLATFORM own AS x\nFROM x\n", "FROM --platform=$BUILDPLATFORM private/own AS x\nFROM x\n"},
		{"a base over lines", "FROM \\\n own \\\n AS x\nRUN y\n", "FROM private/own AS x\n\n\nRUN y\n"},
		{"a stage of that name", "FROM a AS own\nFROM own\nCOPY --from=own x y\n", ""},
		{"an argument", "ARG B=own\nFROM ${B}\n", "ARG B=own\nFROM private/own\n"},
		{"an argument that is given", "ARG C=x\nFROM $C\n", "ARG C=x\nFROM private/own:given\n"},
		{"a copy", "FROM a\nCOPY --link --from=own x y\n", "FROM a\nCOPY --link --from=private/own x y\n"},
		{"a mount", "FROM a\nRUN --mount=type=bind,from=own:1,target=/x \\\n  cat /x\n", "FROM a\nRUN --mount=type=bind,from=private/own:1,target=/x \\\n  cat /x\n"},
		{"a mount at the end", "FROM a\nRUN --mount=target=/x,from=own true\n", "FROM a\nRUN --mount=target=/x,from=private/own true\n"},
		{"two images that begin alike", "FROM a\nRUN --mount=from=own,target=/x --mount=from=owner,target=/y true\n", "FROM a\nRUN --mount=from=private/own,target=/x --mount=from=private/owner,target=/y true\n"},
		{"the last line", "FROM own", "FROM private/own\n"},
		{"nonsense", "FROM own\n\"\\\n<<", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "" {
				tt.want = tt.src
			}
			got := string(MapImages([]byte(tt.src), map[string]string{"C": "own:given"}, own))
			if got != tt.want && tt.name != "nonsense" {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzMapImages(f *testing.F) {
	f.Add("ARG A=b\nFROM ${A} AS x\nCOPY --from=y a b\nRUN --mount=from=z,target=/x y")
	f.Fuzz(func(_ *testing.T, src string) {
		MapImages([]byte(src), nil, func(ref string) (string, bool) { return "private/" + ref, true })
	})
}

func TestTriggers(t *testing.T) {
	for _, tt := range []struct {
		text string
		ok   bool
	}{
		{"RUN x", true}, {"COPY . /x", true}, {"COPY --from=0 a b", true}, {"COPY --from=golang:1 a b", true}, {"COPY --from=me/abc a b", true},
		{"COPY --from=abc a b", false}, {"COPY --from=sha256:abc a b", false}, {"COPY --from=a@" + idOf("a") + " a b", false}, {"COPY --from=" + idOf("a") + " a b", false},
		{"COPY --from=x.build.invalid/a a b", false}, {"RUN x\nCOPY --from=abc a b", false}, {"RUN <<E\nE\nCOPY --from=abc a b", false}, {"NONSENSE x", false}, {"", false},
	} {
		if err := CheckTrigger(tt.text); (err == nil) != tt.ok {
			t.Errorf("CheckTrigger(%q) = %v", tt.text, err)
		}
	}
}
