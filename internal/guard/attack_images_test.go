//go:build !unit

package guard_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// entry is a file of an archive that is made by hand, since nobody makes such archives in good
// faith.
type entry struct {
	name, text string
	kind       byte // of archive/tar; 0 is a file
	link       string
}

// pack makes a tar.
func pack(entries ...entry) []byte {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.text)), Typeflag: e.kind, Linkname: e.link}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := t.WriteHeader(h); err != nil {
			panic(err) // a mistake in a row
		}
		if _, err := t.Write([]byte(e.text)); err != nil {
			panic(err)
		}
	}
	if err := t.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// saved is an image as docker save writes it, with these files besides its own; manifest stands for
// the one that names the image.
func saved(files ...entry) []byte {
	layer := pack(entry{name: "poison", text: "poison"})
	sum := sha256.Sum256(layer)
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}`, hex.EncodeToString(sum[:]))
	return pack(append([]entry{{name: "c.json", text: config}, {name: "l/layer.tar", text: string(layer)}}, files...)...)
}

// manifest is docker save's list of images, with tags as JSON.
func manifest(fields string) entry {
	return entry{name: "manifest.json", text: `[{"Config":"c.json","Layers":["l/layer.tar"],` + fields + `}]`}
}

var tarType = []string{"Content-Type: application/x-tar"}

// attackImages is about what the shared base image is, and what others have built.
func attackImages(t *testing.T, a *arena) {
	id := func(through func(...string) string) string {
		return strings.TrimSpace(through("image", "inspect", "-f", "{{.Id}}", base))
	}
	genuine := id(a.victim.Host)
	// poisoned is the proof that the name of the base means something else, or nothing, for all; it
	// puts the name back.
	poisoned := func(*guardtest.Answer) bool {
		got, err := guardtest.Send(a.daemon, "GET", "/images/"+base+"/json", nil)
		var i struct{ ID string }
		bad := err != nil || json.Unmarshal([]byte(got.Body), &i) != nil || i.ID != genuine
		a.victim.Host("tag", guardtest.Image, base)
		return bad
	}
	// pure wants that it means what it meant, for the daemon and the victim.
	pure := func(t *testing.T, _ *arena, got *guardtest.Answer) {
		t.Helper()
		for who, through := range map[string]func(...string) string{"the daemon": a.victim.Host, "the victim": a.victim.Docker} {
			if now := id(through); now != genuine {
				t.Errorf("after %d %.300s, %s is %s for %s", got.Status, got.Body, base, now, who)
			}
		}
	}
	poison := func(name, method, path string, body any) attack {
		row := attack{name: name, method: method, path: path, body: body, bare: poisoned, tamed: pure}
		if body != nil {
			row.header = tarType
		}
		return row
	}
	const none = "No such image"
	const unrecognized = "unrecognized image format" // containerd's store knows neither the oldest form nor links
	rows := []attack{
		poison("the base, tagged", "POST", "/images/"+guardtest.DockerImage+"/tag?repo=attack.test/base&tag=1", nil),
		poison("the base, tagged in one word", "POST", "/images/"+guardtest.DockerImage+"/tag?repo=attack.test/base:1", nil),
		poison("the base, committed", "POST", "/commit?container={own.container}&repo=attack.test/base&tag=1&pause=0", nil),
		poison("the base, committed in one word", "POST", "/commit?container={own.container}&repo=attack.test/base:1&pause=0", nil),
		poison("the base, imported", "POST", "/images/create?fromSrc=-&repo=attack.test/base&tag=1", pack(entry{name: "poison"})),
		poison("the base, loaded", "POST", "/images/load", saved(manifest(`"RepoTags":["`+base+`"]`))),
		poison("the base, loaded in another case", "POST", "/images/load", saved(manifest(`"repotags":["`+base+`"]`))),
		poison("the base, loaded as a second tag", "POST", "/images/load", saved(manifest(`"RepoTags":["other:1","`+base+`"]`))),
		poison("the base, loaded by a second RepoTags", "POST", "/images/load", saved(manifest(`"RepoTags":["other:1"],"repoTags":["`+base+`"]`))),
		poison("the base, loaded by a second manifest", "POST", "/images/load", saved(manifest(`"RepoTags":["other:1"]`), manifest(`"RepoTags":["`+base+`"]`))),
		poison("the base, loaded by a manifest before it", "POST", "/images/load", saved(manifest(`"RepoTags":["`+base+`"]`), entry{name: "x", text: "x"})),
		closed(poison("the base, loaded by an old list", "POST", "/images/load", legacy()), unrecognized),
		poison("the base, loaded by ./manifest.json", "POST", "/images/load", saved(entry{name: "./manifest.json", text: manifest(`"RepoTags":["` + base + `"]`).text})),
		closed(poison("the base, loaded by a link", "POST", "/images/load", saved(entry{name: "m", text: manifest(`"RepoTags":["` + base + `"]`).text}, entry{name: "manifest.json", kind: tar.TypeSymlink, link: "m"})), unrecognized),
		closed(poison("the base, loaded by a hard link", "POST", "/images/load", saved(entry{name: "m", text: manifest(`"RepoTags":["` + base + `"]`).text}, entry{name: "manifest.json", kind: tar.TypeLink, link: "m"})), unrecognized),
		poison("the base, loaded from a form", "POST", "/images/load", saved(manifest(`"RepoTags":["`+base+`"]`))),
		poison("the base, built", "POST", "/build?t="+base, pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image + "\nCMD poison\n"})),
		poison("the base, built as a second tag", "POST", "/build?t=other:1&t="+base, pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image + "\nCMD poison\n"})),
		poison("the base, built with the whole of its name", "POST", "/build?t=attack.test/base:1", pack(entry{name: "Dockerfile", text: "FROM " + guardtest.Image + "\nCMD poison twice\n"})),
		poison("the base, removed", "DELETE", "/images/"+base, nil),
		poison("the base, removed by force", "DELETE", "/images/"+base+"?force=1&noprune=1", nil),

		{name: "import from a server", method: "POST", path: "/images/create?fromSrc=http://127.0.0.1:1/x&repo=x", bare: reached, says: "fromSrc"},
		{name: "import with another's label", method: "POST", path: "/images/create?fromSrc=-&repo=x&changes=LABEL%20" + guardtest.OwnerLabel + "%3D{id}", body: pack(entry{name: "x"}), header: tarType, tamed: harmless},
		{name: "push of a shared image", method: "POST", path: "/images/" + guardtest.Image + "/push", header: []string{"X-Registry-Auth: e30="}, bare: reached, tamed: notPushed},
		{name: "push of another's", method: "POST", path: "/images/{theirs}/push", header: []string{"X-Registry-Auth: e30="}, bare: reached, tamed: notPushed},

		{name: "another's, inspected", method: "GET", path: "/images/{theirs}/json", says: none},
		{name: "another's, inspected by its id", method: "GET", path: "/images/{theirsid}/json", says: none},
		{name: "another's, inspected by its id alone", method: "GET", path: "/images/{theirshex}/json", says: none},
		{name: "another's, history", method: "GET", path: "/images/{theirs}/history", bare: answered, says: none},
		{name: "another's, history by its id", method: "GET", path: "/images/{theirsid}/history", bare: answered, says: none},
		{name: "another's, saved", method: "GET", path: "/images/{theirs}/get", bare: answered, tamed: nothingSaved},
		{name: "another's, saved by its id", method: "GET", path: "/images/{theirsid}/get", bare: answered, tamed: nothingSaved},
		{name: "another's, saved in a list", method: "GET", path: "/images/get?names={theirs}", bare: answered, tamed: nothingSaved},
		{name: "another's, saved in a list behind one's own", method: "GET", path: "/images/get?names={image}&names={theirsid}", bare: answered, tamed: nothingSaved},
		{name: "another's, tagged", method: "POST", path: "/images/{theirs}/tag?repo=mine", says: none},
		{name: "another's, tagged by its id", method: "POST", path: "/images/{theirsid}/tag?repo=mine2", says: none},
		{name: "another's, removed", method: "DELETE", path: "/images/{theirs}", prepare: named, says: none},
		{name: "another's, removed by its id", method: "DELETE", path: "/images/{theirsid}?force=1", prepare: spentImage, says: none},
		{name: "another's, run", method: "POST", path: "/containers/create", body: `{"Image":"{theirs}"}`, says: none},
		{name: "another's, run by its id", method: "POST", path: "/containers/create", body: `{"Image":"{theirsid}"}`, says: none},
		{name: "another's, run by a short id", method: "POST", path: "/containers/create", body: `{"Image":"{theirsshort}"}`, prepare: short, says: none},
		{name: "another's, mounted", method: "POST", path: "/containers/create", body: `{"Image":"{image}","HostConfig":{"Mounts":[{"Type":"image","Source":"{theirsid}","Target":"/x"}]}}`, bare: accepted("mount type unknown")},
		{name: "another's, pulled", method: "POST", path: "/images/create?fromImage={theirs}", bare: reached, tamed: notPushed},
		{name: "list of images", method: "GET", path: "/images/json?all=1", tamed: hidden},
		{name: "list of images by label", method: "GET", path: "/images/json?all=1&filters=%7B%22label%22%3A%5B%22secret%3D{secret}%22%5D%7D", tamed: hidden},
		{name: "list of images by name", method: "GET", path: "/images/json?filters=%7B%22reference%22%3A%5B%22{id}.build.invalid%2F*%2F*%2F*%22%5D%7D", tamed: hidden},
		{name: "list of images since another's", method: "GET", path: "/images/json?filters=%7B%22since%22%3A%5B%22{theirsid}%22%5D%7D", bare: answered, status: http.StatusNotFound, says: none},
		{name: "list of images before another's", method: "GET", path: "/images/json?filters=%7B%22before%22%3A%5B%22{theirs}%22%5D%7D", bare: answered, status: http.StatusNotFound, says: none},
		{name: "layers of others in the disk usage", method: "GET", path: "/system/df", tamed: hidden},
	}
	a.fight(t, rows)
}

// legacy is an image as Docker saved it before 1.10, with a list of names.
func legacy() []byte {
	layer := string(pack(entry{name: "poison", text: "legacy"}))
	const id = "1111111111111111111111111111111111111111111111111111111111111111"
	return pack(entry{name: id + "/VERSION", text: "1.0"}, entry{name: id + "/json", text: `{"id":"` + id + `","created":"2020-01-01T00:00:00Z","os":"linux","architecture":"amd64","config":{}}`},
		entry{name: id + "/layer.tar", text: layer}, entry{name: "repositories", text: `{"attack.test/base":{"1":"` + id + `"}}`})
}

// harmless wants that an image, if one was made, says nothing of another owner.
func harmless(t *testing.T, a *arena, got *guardtest.Answer) {
	t.Helper()
	out := a.attacker.Host("images", "-q", "--filter", "label="+guardtest.OwnerLabel+"="+a.target["id"])
	if out != "" {
		t.Errorf("after %d %s, images bear another's label: %s", got.Status, got.Body, out)
	}
}

// notPushed wants a refusal, be it in the stream of the answer.
func notPushed(t *testing.T, _ *arena, got *guardtest.Answer) {
	t.Helper()
	if got.Status < 400 && !strings.Contains(got.Body, `"error"`) {
		t.Errorf("the guard answers %d %s", got.Status, got.Body)
	}
}

// nothingSaved wants no layer of another's: what the arena looks for is in its configuration as it
// is.
func nothingSaved(t *testing.T, a *arena, got *guardtest.Answer) {
	t.Helper()
	if got.Status < 400 {
		t.Errorf("the guard answers %d and %d bytes", got.Status, len(got.Body))
	}
}

// named gives the spare's image a second name, which the row takes away.
func named(_ *testing.T, a *arena, bare bool) words {
	if !bare {
		return nil
	}
	a.attacker.Host("tag", a.spare["theirsid"], "attack.test/second:1")
	return words{"theirs": "attack.test/second:1"}
}

// short is the beginning of the image's id.
func short(_ *testing.T, a *arena, bare bool) words {
	if bare {
		return words{"theirsshort": a.spare["theirshex"][:12]}
	}
	return words{"theirsshort": a.target["theirshex"][:12]}
}

// spentImage makes, for the run against the daemon, an image that the row may remove.
func spentImage(_ *testing.T, a *arena, bare bool) words {
	if !bare {
		return nil
	}
	return words{"theirsid": strings.TrimSpace(a.attacker.Host("commit", "--change", "LABEL spent=1", a.spare["container"]))}
}
