//go:build !unit

package guard_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/protobuf/proto"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// mask is a way to hide from the guard that a Dockerfile builds upon another's image.
type mask struct {
	name string
	// query is added to the build's parameters; context makes the archive.
	query   string
	context func(words) []byte
	// plain is for a mask that is the classic builder's alone, modern for one of BuildKit's.
	plain, modern bool
}

// attackBases has all the ways to build upon another's image when the guard doesn't look: with the
// classic builder, and with BuildKit where an archive is sent to it, which no source policy covers.
// A build shows what it has found.
func attackBases(t *testing.T, a *arena) {
	const evil = "FROM {theirs}\nRUN cat /secret\n"
	var masks []mask
	file := func(name, text string) {
		// BuildKit finds no image by its id.
		masks = append(masks, mask{name, "", func(w words) []byte { return pack(entry{name: "Dockerfile", text: w.in(text)}) }, strings.Contains(text, "{theirsid}") || strings.Contains(text, "{theirshex}"), false})
	}
	context := func(name string, make func(evil string) []byte) {
		masks = append(masks, mask{name, "", func(w words) []byte { return make(w.in(evil)) }, false, false})
	}
	file("by its name", evil)
	file("by its id", "FROM {theirsid}\nRUN cat /secret\n")
	file("by its id alone", "FROM {theirshex}\nRUN cat /secret\n")
	file("in lower case", "from {theirs}\nrun cat /secret\n")
	file("with a platform", "FROM --platform=linux {theirsid}\nRUN cat /secret\n")
	file("by an argument", "ARG B={theirs}\nFROM $B\nRUN cat /secret\n")
	file("by an argument with a default", "ARG B\nFROM ${B:-{theirs}}\nRUN cat /secret\n")
	file("by two arguments", "ARG A={id}\nARG B=.build.invalid\nFROM ${A}${B}/docker.io/library/theirs:1\nRUN cat /secret\n")
	file("over two lines", "FROM \\\n  {theirs}\nRUN cat /secret\n")
	file("in the middle of a word", "FR\\\nOM {theirsid}\nRUN cat /secret\n")
	file("with another escape", "# escape=`\nFROM `\n{theirs}\nRUN cat /secret\n")
	file("with a comment in the middle", "FROM \\\n# comment\n {theirs}\nRUN cat /secret\n")
	file("with other line ends", "FROM {theirs}\r\nRUN cat /secret\r\n")
	file("with a mark of its order", "\ufeffFROM {theirs}\nRUN cat /secret\n")
	file("with blanks and tabs", "\n\n \t FROM\t \t{theirs}  \nRUN cat /secret\n")
	file("as a second stage", "FROM {image} AS x\nFROM {theirs}\nRUN cat /secret\n")
	file("as a stage with a name of another", "FROM {theirs} AS scratch2\nFROM scratch2\nRUN cat /secret\n")
	file("copied from", "FROM {image}\nCOPY --from={theirs} /secret /x\nRUN cat /x\n")
	file("copied from by its id", "FROM {image}\nCOPY --from={theirsid} /secret /x\nRUN cat /x\n")
	file("copied from over two lines", "FROM {image}\nCOPY \\\n --from={theirsid} /secret /x\nRUN cat /x\n")
	file("copied from with another flag first", "FROM {image}\nCOPY --chown=0:0 --from={theirs} /secret /x\nRUN cat /x\n")
	file("copied from, in capitals", "FROM {image}\ncopy --from={theirs} /secret /x\nRUN cat /x\n")
	context("in the second of two Dockerfiles", func(evil string) []byte {
		return pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image}, entry{name: "Dockerfile", text: evil})
	})
	context("in a file of another spelling", func(evil string) []byte {
		return pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image}, entry{name: "./Dockerfile", text: evil})
	})
	context("in a file with dots", func(evil string) []byte {
		return pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image}, entry{name: "x/../Dockerfile", text: evil})
	})
	context("in a file with a slash", func(evil string) []byte {
		return pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image}, entry{name: "/Dockerfile", text: evil})
	})
	context("behind a link", func(evil string) []byte {
		return pack(entry{name: "evil", text: evil}, entry{name: "Dockerfile", kind: tar.TypeSymlink, link: "evil"})
	})
	context("behind a link in place of a file", func(evil string) []byte {
		return pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image}, entry{name: "evil", text: evil}, entry{name: "Dockerfile", kind: tar.TypeSymlink, link: "evil"})
	})
	context("behind a hard link", func(evil string) []byte {
		return pack(entry{name: "evil", text: evil}, entry{name: "Dockerfile", kind: tar.TypeLink, link: "evil"})
	})
	context("in a compressed archive", func(evil string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(pack(entry{name: "Dockerfile", text: evil})); err != nil {
			panic(err)
		}
		if err := z.Close(); err != nil {
			panic(err)
		}
		return b.Bytes()
	})
	context("behind an ignored file", func(evil string) []byte {
		return pack(entry{name: ".dockerignore", text: "Dockerfile\n"}, entry{name: "Dockerfile", text: evil})
	})
	context("in lower case of the file", func(evil string) []byte { return pack(entry{name: "dockerfile", text: evil}) })
	masks = append(masks,
		mask{"in a file that is named", "&dockerfile=x%2Fy", func(w words) []byte {
			return pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image}, entry{name: "x/y", text: w.in(evil)})
		}, false, false},
		mask{"in a file that is named with dots", "&dockerfile=z%2F..%2Fx%2Fy", func(w words) []byte {
			return pack(entry{name: "z/a", text: ""}, entry{name: "x/y", text: w.in(evil)})
		}, false, false},
		mask{"by an argument of the build", "&buildargs=%7B%22B%22%3A%22{theirs}%22%7D", func(words) []byte {
			return pack(entry{name: "Dockerfile", text: "ARG B=" + guardtest.Image + "\nFROM $B\nRUN cat /secret\n"})
		}, false, false},
		mask{"mounted", "", func(w words) []byte {
			return pack(entry{name: "Dockerfile", text: w.in("FROM {image}\nRUN --mount=from={theirs},target=/m cat /m/secret\n")})
		}, false, true},
	)
	for _, builder := range []struct{ name, query string }{{"classic", ""}, {"BuildKit", "&version=2"}} {
		t.Run(builder.name, func(t *testing.T) {
			for _, m := range masks {
				if m.modern && builder.query == "" || m.plain && builder.query != "" {
					continue
				}
				row := attack{method: "POST", path: "/build?nocache=1" + m.query + builder.query, body: m.context, header: tarType, bare: leaks(a), tamed: noBuild}
				t.Run(m.name, func(t *testing.T) {
					t.Parallel() // nothing is left that another row could meet
					a.proves(t, row)
					a.withstands(t, row)
				})
			}
		})
	}
	t.Run("triggers", func(t *testing.T) { a.triggers(t) })
	a.unharmed(t)
}

// triggers has images that, when they are built upon, copy from another's.
func (a *arena) triggers(t *testing.T) {
	const trigger = "COPY --from={theirs} /secret /x"
	change := "&changes=ONBUILD%20COPY%20--from%3D{theirs}%20%2Fsecret%20%2Fx"
	for i, way := range []struct {
		name, path string
		body       func(words) any
	}{
		{"of a Dockerfile", "/build?t={tag}", func(w words) any {
			return pack(entry{name: "Dockerfile", text: w.in("FROM {image}\nONBUILD " + trigger + "\n")})
		}},
		{"of a Dockerfile, with BuildKit", "/build?version=2&t={tag}", func(w words) any {
			return pack(entry{name: "Dockerfile", text: w.in("FROM {image}\nONBUILD " + trigger + "\n")})
		}},
		{"of a commit", "/commit?container={own.container}&repo={tag}&pause=0" + change, func(words) any { return nil }},
		{"of a commit's configuration", "/commit?container={own.container}&repo={tag}&pause=0", func(w words) any { return w.in(`{"OnBuild":["` + trigger + `"]}`) }},
		{"of an import", "/images/create?fromSrc=-&repo={tag}" + change, func(words) any { return pack(entry{name: "bin/x"}) }},
	} {
		t.Run(way.name, func(t *testing.T) {
			for _, version := range []string{"1", "2"} {
				attempt := func(socket string, w words) *guardtest.Answer {
					w = merged(w, words{"tag": fmt.Sprint("trigger", i)})
					attack{method: "POST", path: way.path, body: way.body(w)}.send(t, socket, w)
					dockerfile := w.in("FROM {tag} AS triggered\nFROM {image}\nCOPY --from=triggered /x /x\nRUN cat /x\n")
					return attack{method: "POST", path: "/build?nocache=1&version=" + version, body: pack(entry{name: "Dockerfile", text: dockerfile}), header: tarType}.send(t, socket, w)
				}
				if version == "1" { // the BuildKit of Docker 20.10 finds no images for triggers
					if got := attempt(a.daemon, a.spare); !leaks(a)(got) {
						t.Errorf("the row proves nothing: the daemon itself builds %s", got.Body)
					}
				}
				if got := attempt(a.attacker.Socket, a.target); strings.Contains(got.Body, a.target["secret"]) {
					t.Errorf("builder %s tells the victim's secret: %s", version, got.Body)
				}
			}
		})
	}
}

// leaks is the proof that the secret of the spare's image was shown.
func leaks(a *arena) func(*guardtest.Answer) bool {
	return func(got *guardtest.Answer) bool { return strings.Contains(got.Body, a.spare["secret"]) }
}

// noBuild wants that no instruction about the secret was built (another Dockerfile of the context
// may be); the arena looks for the secret itself.
func noBuild(t *testing.T, _ *arena, got *guardtest.Answer) {
	t.Helper()
	if built(got) && strings.Contains(got.Body, "/secret") {
		t.Errorf("the guard answers %d %s", got.Status, got.Body)
	}
}

// traced is what BuildKit reports a build in the answer to POST /build, to be read.
func traced(answer []byte) string {
	var out strings.Builder
	for lines := bufio.NewScanner(bytes.NewReader(answer)); lines.Scan(); {
		var m struct {
			ID  string `json:"id"`
			Aux []byte `json:"aux"`
		}
		var status controlapi.StatusResponse
		if json.Unmarshal(lines.Bytes(), &m) != nil || m.ID != "moby.buildkit.trace" || proto.Unmarshal(m.Aux, &status) != nil {
			continue
		}
		for _, v := range status.Vertexes {
			fmt.Fprintln(&out, v.Name, v.Error)
		}
		for _, l := range status.Logs {
			out.Write(l.Msg)
		}
	}
	return out.String()
}
