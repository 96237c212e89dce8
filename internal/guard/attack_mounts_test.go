//go:build !unit

package guard_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// attackMounts has links in the workspace that lead out of it, at rest and on the move.
func attackMounts(t *testing.T, a *arena) {
	outside := t.TempDir() // of the daemon's machine
	if err := os.WriteFile(filepath.Join(outside, "canary"), []byte(a.target["secret"]), 0o600); err != nil {
		t.Fatal(err)
	}
	links := "cd /drone/src && mkdir -p real/deep && echo inside >real/canary && ln -s " + outside + " out && ln -s ../../../../../../../../.." + outside + " up && ln -s out chain && ln -s ../out real/back" +
		" && ln -s /proc/self/root proc && ln -s /proc/1/root proc1 && ln -s / root && ln -s " + outside + "/canary file && ln -s /var/run/docker.sock sock && ln -s loop loop && mkfifo fifo"
	for _, step := range []string{a.target["own.step"], a.spare["step"]} {
		a.attacker.Host("exec", step, "sh", "-c", links)
	}
	data := func(volume string) string {
		return strings.TrimSpace(a.attacker.Host("volume", "inspect", "-f", "{{.Mountpoint}}", volume))
	}
	// A bind of the workspace is written as the step sees it to the guard, and as the machine sees
	// it to the daemon.
	from := func(_ *testing.T, a *arena, bare bool) words {
		if bare {
			return words{"src": data(a.spare["workspace"])}
		}
		return words{"src": guardtest.WorkDir}
	}
	// Daemons from API 1.45 on look at links themselves, and as late as they can: when the
	// container starts.
	unseen := func(t *testing.T, a *arena, got *guardtest.Answer) {
		t.Helper()
		var made struct {
			ID string `json:"Id"`
		}
		if got.Status != http.StatusCreated {
			if got.Status != http.StatusBadRequest && got.Status != http.StatusForbidden {
				t.Errorf("the guard answers %d %s, want a refusal", got.Status, got.Body)
			}
			return
		}
		if err := json.Unmarshal([]byte(got.Body), &made); err != nil {
			t.Fatal(err)
		}
		if started, err := guardtest.Send(a.attacker.Socket, "POST", "/containers/"+made.ID+"/start", nil); err != nil || started.Status < 400 {
			t.Errorf("a container starts with what is outside of the volume: %d %s %v", started.Status, started.Body, err)
		}
	}
	var rows []attack
	for _, l := range []struct{ name, path string }{
		{"an absolute link", "out"}, {"a link upwards", "up"}, {"a link to a link", "chain"}, {"a link in a subfolder", "real/back"}, {"a link to a file", "file"},
		{"a link to /proc/self/root", "proc/" + outside}, {"a link to /proc/1/root", "proc1/" + outside}, {"a link to the root", "root/" + outside}, {"a link to a socket", "sock"},
		{"a file behind a link", "out/canary"}, {"dots behind a link", "real/deep/../../out"},
	} {
		row := createRow(l.name, ``, `"Binds":["{src}/`+l.path+`:/x"]`, "")
		row.prepare, row.tamed = from, unseen
		rows = append(rows, row)
		row = createRow(l.name+", as a mount", ``, `"Mounts":[{"Type":"bind","Source":"{src}/`+l.path+`","Target":"/x"}]`, "")
		row.prepare, row.tamed = from, unseen
		row.bare = accepted("permission denied") // of /proc/1, where the machine guards it
		rows = append(rows, row)
	}
	for _, p := range []string{"..", "../..", "real/../../..", "/etc", "out", "up"} {
		row := createRow("a volume's subpath "+p, ``, `"Mounts":[{"Type":"volume","Source":"{own.workspace}","Target":"/x","VolumeOptions":{"Subpath":"`+p+`"}}]`, "")
		row.bare, row.tamed = reached, unseen // daemons before API 1.45 know no subpaths
		rows = append(rows, row)
	}
	a.fight(t, rows)
	t.Run("a race", func(t *testing.T) { a.races(t, outside, data) })
}

// races swaps a folder for a link out, as fast as it goes, while it is mounted again and again.
func (a *arena) races(t *testing.T, outside string, data func(string) string) {
	// The proof: the daemon itself follows the link that is there when the container starts.
	seen := a.attacker.Host("run", "--rm", "--network", "none", "-v", data(a.spare["workspace"])+"/out:/x", guardtest.Image, "cat", "/x/canary")
	if seen != a.target["secret"] {
		t.Errorf("the race proves nothing: the daemon shows %q", seen)
	}
	dir := data(a.target["own.workspace"])
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "canary"), []byte("inside"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		// a is a folder, l a link out: they change places.
		for at := func(n string) string { return filepath.Join(dir, n) }; ; {
			select {
			case <-stop:
				return
			default:
			}
			for _, move := range [][2]string{{"a", "t"}, {"l", "a"}, {"t", "l"}} {
				_ = os.Rename(at(move[0]), at(move[1])) // whatever happens, the race goes on
			}
		}
	})
	defer swapping.Wait()
	defer close(stop)
	granted, refused, started := 0, 0, 0
	for range 50 {
		got := a.attacker.Request("POST", "/containers/create", `{"Image":"`+guardtest.Image+`","HostConfig":{"Binds":["`+guardtest.WorkDir+`/a:/x:ro"]},"Cmd":["cat","/x/canary"]}`)
		if got.Status != http.StatusCreated {
			refused++
			continue
		}
		granted++
		var made struct {
			ID     string `json:"Id"`
			Mounts []struct{ Source string }
		}
		if err := json.Unmarshal([]byte(got.Body), &made); err != nil {
			t.Fatal(err)
		}
		seen, err := guardtest.Send(a.daemon, "GET", "/containers/"+made.ID+"/json", nil)
		if err != nil || json.Unmarshal([]byte(seen.Body), &made) != nil || len(made.Mounts) != 1 {
			t.Fatalf("look at the container: %v %s", err, seen.Body)
		}
		// What it would see, from outside: the daemon mounts this path when it starts.
		text, err := os.ReadFile(filepath.Join(made.Mounts[0].Source, "canary"))
		if string(text) == a.target["secret"] {
			t.Errorf("a container sees what is outside of the volume, at %s", made.Mounts[0].Source)
		}
		if err == nil && strings.HasPrefix(made.Mounts[0].Source, dir) {
			t.Errorf("the daemon was given the path %s, which can change until the container starts", made.Mounts[0].Source)
		}
		// A daemon that mounts parts of volumes itself looks for the part when it starts the
		// container.
		if made.Mounts[0].Source == dir && started < 10 {
			started++
			if said := a.run(t, made.ID); strings.Contains(said, a.target["secret"]) {
				t.Errorf("a container is shown what is outside of the volume: %q", said)
			}
		}
		a.undo(t, "/containers/create", &got)
	}
	t.Logf("%d mounts granted, %d refused", granted, refused)
	if granted == 0 || refused == 0 {
		t.Logf("the race was always won by the same side")
	}
}

// run starts a container by the daemon itself, waits for its end, and is what it wrote; empty if it
// can't be started.
func (a *arena) run(t *testing.T, id string) string {
	t.Helper()
	var said string
	for _, step := range []struct{ method, path string }{{"POST", "/start"}, {"POST", "/wait"}, {"GET", "/logs?stdout=1&stderr=1"}} {
		got, err := guardtest.Send(a.daemon, step.method, "/containers/"+id+step.path, nil)
		if err != nil {
			t.Fatalf("run a container: %v", err)
		}
		if got.Status >= 400 {
			return ""
		}
		said = got.Body
	}
	return said
}
