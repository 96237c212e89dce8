//go:build guardsuite

package guard_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/guard/guardtest"
)

// attackBuild is about the classic builder: what a build may ask for, and all the ways to have it start from another's image when the guard doesn't look.
func attackBuild(t *testing.T, a *arena) {
	plain := pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image + "\nRUN true\n"})
	ask := func(name, query, says string, bare func(*guardtest.Answer) bool) attack {
		return attack{name: name, method: "POST", path: "/build?nocache=1&" + query, body: plain, header: tarType, bare: bare, says: says}
	}
	rows := []attack{
		ask("the machine's network", "networkmode=host", "networkmode", built),
		ask("the victim's network stack", "networkmode=container:{container}", "", built),
		ask("the victim's network", "networkmode={netname}", "", built),
		ask("the victim's build network", "networkmode={buildnet}", "", built),
		ask("a cgroup parent", "cgroupparent=%2Fescape", "CgroupParent", built),
		ask("no seccomp", "securityopt=seccomp%3Dunconfined", "securityopt", reached),
		ask("no seccomp, behind a harmless one", "securityopt=no-new-privileges&securityopt=seccomp%3Dunconfined", "securityopt", reached),
		ask("a context of a server", "remote=http%3A%2F%2F127.0.0.1%3A1%2Fx", "remote", reached),
		ask("a context of a repository", "remote=git%3A%2F%2F127.0.0.1%2Fx", "remote", reached),
		ask("a result on the machine", "outputs=%5B%7B%22Type%22%3A%22local%22%2C%22Attrs%22%3A%7B%22dest%22%3A%22%2Ftmp%22%7D%7D%5D", "outputs", reached),
		ask("squash", "squash=1", "squash", reached),
		ask("isolation", "isolation=hyperv", "isolation", reached),
		ask("an unknown parameter", "privileged=1", "privileged", reached),
		ask("a file outside of the context", "dockerfile=..%2F..%2Fetc%2Fpasswd", "", reached),
		ask("an absolute file", "dockerfile=%2Fetc%2Fpasswd", "", reached),
		ask("an unknown builder", "version=3", "version", reached),
		ask("limits of nobody", "ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Superpower%22%3A1%7D%5D", "", reached),
		{name: "another's label", method: "POST", path: "/build?t=labelled&labels=%7B%22" + guardtest.OwnerLabel + "%22%3A%22{id}%22%7D", body: plain, header: tarType, bare: built, tamed: harmless},
		{name: "a build of another's, cancelled", method: "POST", path: "/build/cancel?id=x", bare: reached, tamed: func(*testing.T, *arena, *guardtest.Answer) {}},
		{name: "a body of a form", method: "POST", path: "/build", body: "remote=http%3A%2F%2F127.0.0.1%3A1%2Fx&networkmode=host", header: []string{"Content-Type: application/x-www-form-urlencoded"}, bare: reached, tamed: noBuild},
	}

	// Each of these contexts is a build of the same Dockerfile, which shows the victim's secret, behind another mask.
	const evil = "FROM {theirs}\nRUN cat /secret\n"
	context := func(name string, make func(evil string) []byte) {
		rows = append(rows, attack{name: "another's base: " + name, method: "POST", path: "/build?nocache=1", header: tarType, bare: leaks(a), tamed: noBuild,
			body: func(w words) []byte { return make(w.in(evil)) }})
	}
	dockerfile := func(name, text string) {
		rows = append(rows, attack{name: "another's base: " + name, method: "POST", path: "/build?nocache=1", header: tarType, bare: leaks(a), tamed: noBuild,
			body: func(w words) []byte { return pack(entry{name: "Dockerfile", text: w.in(text)}) }})
	}
	dockerfile("by its name", evil)
	dockerfile("by its id", "FROM {theirsid}\nRUN cat /secret\n")
	dockerfile("by its id alone", "FROM {theirshex}\nRUN cat /secret\n")
	dockerfile("in lower case", "from {theirs}\nrun cat /secret\n")
	dockerfile("with a platform", "FROM --platform=linux {theirsid}\nRUN cat /secret\n")
	dockerfile("by an argument", "ARG B={theirs}\nFROM $B\nRUN cat /secret\n")
	dockerfile("by an argument with a default", "ARG B\nFROM ${B:-{theirs}}\nRUN cat /secret\n")
	dockerfile("by two arguments", "ARG A={id}\nARG B=.build.invalid\nFROM ${A}${B}/docker.io/library/theirs:1\nRUN cat /secret\n")
	dockerfile("over two lines", "FROM \\\n  {theirs}\nRUN cat /secret\n")
	dockerfile("in the middle of a word", "FR\\\nOM {theirsid}\nRUN cat /secret\n")
	dockerfile("with another escape", "# escape=`\nFROM `\n{theirs}\nRUN cat /secret\n")
	dockerfile("with a comment in the middle", "FROM \\\n# comment\n {theirs}\nRUN cat /secret\n")
	dockerfile("with other line ends", "FROM {theirs}\r\nRUN cat /secret\r\n")
	dockerfile("with a mark of its order", "\ufeffFROM {theirs}\nRUN cat /secret\n")
	dockerfile("with blanks and tabs", "\n\n \t FROM\t \t{theirs}  \nRUN cat /secret\n")
	dockerfile("as a second stage", "FROM {image} AS x\nFROM {theirs}\nRUN cat /secret\n")
	dockerfile("as a stage with a name of another", "FROM {theirs} AS scratch2\nFROM scratch2\nRUN cat /secret\n")
	dockerfile("copied from", "FROM {image}\nCOPY --from={theirs} /secret /x\nRUN cat /x\n")
	dockerfile("copied from by its id", "FROM {image}\nCOPY --from={theirsid} /secret /x\nRUN cat /x\n")
	dockerfile("copied from over two lines", "FROM {image}\nCOPY \\\n --from={theirsid} /secret /x\nRUN cat /x\n")
	dockerfile("copied from with another flag first", "FROM {image}\nCOPY --chown=0:0 --from={theirs} /secret /x\nRUN cat /x\n")
	dockerfile("copied from, in capitals", "FROM {image}\ncopy --from={theirs} /secret /x\nRUN cat /x\n")
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
	rows = append(rows,
		attack{name: "another's base: in a file that is named", method: "POST", path: "/build?nocache=1&dockerfile=x%2Fy", header: tarType, bare: leaks(a), tamed: noBuild, body: func(w words) []byte {
			return pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image}, entry{name: "x/y", text: w.in(evil)})
		}},
		attack{name: "another's base: in a file that is named with dots", method: "POST", path: "/build?nocache=1&dockerfile=z%2F..%2Fx%2Fy", header: tarType, bare: leaks(a), tamed: noBuild, body: func(w words) []byte {
			return pack(entry{name: "z/a", text: ""}, entry{name: "x/y", text: w.in(evil)})
		}},
		attack{name: "another's base: by an argument of the build", method: "POST", path: "/build?nocache=1&buildargs=%7B%22B%22%3A%22{theirsid}%22%7D", header: tarType, bare: leaks(a), tamed: noBuild, body: func(words) []byte {
			return pack(entry{name: "Dockerfile", text: "ARG B=" + guardtest.Image + "\nFROM $B\nRUN cat /secret\n"})
		}},
		attack{name: "another's base: by an onbuild", method: "POST", path: "/build?nocache=1&t=trigger", header: tarType, bare: built, tamed: func(t *testing.T, a *arena, got *guardtest.Answer) {
			if !built(got) {
				return
			}
			again, err := guardtest.Send(a.attacker.Socket, "POST", "/build?nocache=1", pack(entry{name: "Dockerfile", text: "FROM trigger\nRUN cat /x\n"}))
			if err != nil || strings.Contains(again.Body, a.target["secret"]) || built(&again) {
				t.Errorf("%v %s", err, again.Body)
			}
		}, body: func(w words) []byte {
			return pack(entry{name: "Dockerfile", text: w.in("FROM " + guardtest.Image + "\nONBUILD COPY --from={theirsid} /secret /x\n")})
		}},
	)
	a.fight(t, rows)
}

// built is the proof that an image was built.
func built(a *guardtest.Answer) bool { return strings.Contains(a.Body, "Successfully built") }

// leaks is the proof that the secret of the spare's image was shown.
func leaks(a *arena) func(*guardtest.Answer) bool {
	return func(got *guardtest.Answer) bool { return strings.Contains(got.Body, a.spare["secret"]) }
}

// noBuild wants that no instruction about the secret was built (another Dockerfile of the context may be); the arena looks for the secret itself.
func noBuild(t *testing.T, _ *arena, got *guardtest.Answer) {
	t.Helper()
	if built(got) && strings.Contains(got.Body, "/secret") {
		t.Errorf("the guard answers %d %s", got.Status, got.Body)
	}
}
