package resource

import (
	"strings"
	"testing"
	"time"

	"github.com/drone/envsubst"
)

var substituteEnv = map[string]string{
	"SHA": "0123456789abcdef", "BRANCH": "feature/a.b", "TAG": "v1.2.3", "LINES": "a\nb: \"c\"", "DOLLAR": "${SHA}", "EMPTY": "",
}

func lookupEnv(name string) string { return substituteEnv[name] }

func TestSubstitute(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing to do", "a: b\n", "a: b\n"},
		{"a variable", "tag: ${TAG}", "tag: v1.2.3"},
		{"an unknown one", "tag: ${NONE}.", "tag: ."},
		{"two", "${TAG}-${SHA}", "v1.2.3-0123456789abcdef"},
		{"for the shell", "echo $${TAG} $TAG $(date) $", "echo ${TAG} $TAG $(date) $"},
		{"a process id", "echo $$ $$$$", "echo $ $$"},
		{"a substring", "${SHA:0:8}", "01234567"},
		{"a substring from the end", "${SHA:8}", "89abcdef"},
		{"a prefix removed", "${TAG##v}", "1.2.3"},
		{"a path's last part", "${BRANCH##*/}", "a.b"},
		{"a suffix removed", "${BRANCH%.*}", "feature/a"},
		{"a default", "${NONE:-x} ${NONE=y} ${TAG:-z}", "x y v1.2.3"},
		{"a default with a variable", "${NONE:-${TAG}-x}", "v1.2.3-x"},
		{"a default over lines", "${NONE:-a\nb}", "a\nb"},
		{"a replacement", `${BRANCH/\//-}`, "feature-a.b"},
		{"case", "${TAG^^} ${TAG^}", "V1.2.3 V1.2.3"},
		{"a length", "${#SHA}", "16"},
		{"a value of lines", "x: ${LINES}", `x: "a\nb: \"c\""`},
		{"a value that looks like an expression", "${DOLLAR}", "${SHA}"},
		{"backslashes", `sed s/\//x/ \\ \n \${TAG}`, `sed s///x/ \ \n \v1.2.3`},
		{"an empty one", "[${EMPTY}]", "[]"},
		{"in a comment", "# ${TAG}", "# v1.2.3"},
		{"braces around", "{${TAG}}}", "{v1.2.3}}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Substitute([]byte(tt.in), substituteEnv)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSubstituteErrors(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"no brace", "a\nb: ${TAG", `line 2: substitute "${TAG": missing closing brace: write $${…} if the shell`},
		{"no name", "a\n\nb: ${}", `line 3: substitute "${}": unable to parse variable name`},
		{"shell syntax", "x: ${!TAG} }", `line 1: substitute "${!TAG}": unable to parse variable name`},
		{"an array", "${A[0]}", `line 1: substitute "${A[0]}": missing closing brace`},
		{"a negative length", "${SHA:4:-9}", `line 1: substitute "${SHA:4:-9}": bad expression (`},
		{"no default", "${A:-", `line 1: substitute "${A:-": missing closing brace`},
		{"a NUL", "a\nb\x00", `line 2: the file holds a NUL character`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Substitute([]byte(tt.in), substituteEnv)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestSubstituteIsLinear holds for texts that take the library minutes.
func TestSubstituteIsLinear(t *testing.T) {
	began := time.Now()
	for unit, count := range map[string]int{"$$": 1 << 19, `\\`: 1 << 19, "${SHA}": 1 << 16, "${A:-": 1 << 16, "${A:-${B:-c}}": 1 << 16, "}": 1 << 19} {
		_, _ = Substitute([]byte(strings.Repeat(unit, count)), substituteEnv)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %s", took)
	}
}

// FuzzSubstitute compares with the library: what it accepts, ours gives the same for.
func FuzzSubstitute(f *testing.F) {
	for _, s := range []string{"${SHA:0:8} $${X}", `\/ \\ ${BRANCH/\//-}`, "${NONE:-${TAG}-x}}", "$$$", "${A", "${TAG##*.}", "${SHA:4:-9}", "${#SHA}", "${A:=b}c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Substitute([]byte(text), substituteEnv)
		if strings.ContainsRune(text, 0) || len(text) > maxExpression {
			return
		}
		want, libErr := func() (out string, err error) {
			defer func() {
				if r := recover(); r != nil {
					err = envsubstPanic{}
				}
			}()
			return envsubst.Eval(text, func(name string) string {
				if v := lookupEnv(name); !strings.Contains(v, "\n") {
					return v
				}
				return `"a\nb: \"c\""`
			})
		}()
		if (err == nil) != (libErr == nil) && strings.Count(text, "}") < maxBraces {
			t.Fatalf("%q: got error %v, the library's is %v", text, err, libErr)
		}
		if err == nil && string(got) != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	})
}

type envsubstPanic struct{}

func (envsubstPanic) Error() string { return "panic" }
