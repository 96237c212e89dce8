package syscont

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
)

// crashed is what Docker 20.10.24 printed after a kill -9 in a moment in which it made a network.
const crashed = `time="2026-11-21T18:28:22.579758873Z" level=warning msg="[core] grpc: addrConn.createTransport failed to connect" module=grpc
panic: runtime error: index out of range [0] with length 0

goroutine 1 [running]:
github.com/docker/libnetwork.(*controller).reservePools(0x55a20b7b3e70?)
	/build/src/github.com/docker/libnetwork/controller.go:956 +0xb65
github.com/docker/libnetwork.New({0xc00037f600, 0xa, 0x10})
	/build/src/github.com/docker/libnetwork/controller.go:245 +0x757
github.com/docker/docker/daemon.(*Daemon).initNetworkController(0xc000c76000, 0xc0001bc680, 0xc0007b90b0)
	/build/src/github.com/docker/docker/daemon/daemon_unix.go:855 +0x65
github.com/docker/docker/daemon.(*Daemon).restore(0xc000c76000)
	/build/src/github.com/docker/docker/daemon/daemon.go:489 +0x525
github.com/docker/docker/daemon.NewDaemon({0x55a20b7c6b70?, 0xc000471780}, 0xc0001bc680, 0xc000aa9380)
	/build/src/github.com/docker/docker/daemon/daemon.go:1151 +0x3037
main.(*DaemonCli).start(0xc000bd9d70, 0xc000123920)
	/build/src/github.com/docker/docker/cmd/dockerd/daemon.go:195 +0x9f0
main.runDaemon(...)
	/build/src/github.com/docker/docker/cmd/dockerd/docker_unix.go:14
`

// networks gives the stand-in a file of networks, at which it dies as long as the file is there.
func networks(t *testing.T, words, after string) *Daemon {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "local-kv.db")
	if err := os.WriteFile(file, []byte("half of a network"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "words"), []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	d := script(t, "[ ! -e "+file+" ] || { "+after+" cat "+dir+"/words >&2; exit 2; }\ntouch $up; while :; do sleep 0.02; done")
	d.Networks = file
	return d
}

// unreadableNetworks are what Docker 20.10.24 printed on broken files of networks.
var unreadableNetworks = map[string]string{
	"a half-written record": crashed,
	"no database":           "failed to start daemon: Error initializing network controller: error obtaining controller instance: failed to get bridge network configurations from store: error while populating kmap: invalid database\n",
	"a short file":          "failed to start daemon: Error initializing network controller: error obtaining controller instance: failed to get bridge network configurations from store: error while populating kmap: file size too small\n",
	"a wrong page": "panic: runtime error: index out of range [11527483652952027136] with length 281474976710655\n\ngoroutine 1 [running]:\n" +
		"go.etcd.io/bbolt.(*DB).page(...)\n\t/build/src/go.etcd.io/bbolt/db.go:933\n",
}

func TestDaemonThatCannotReadItsNetworks(t *testing.T) {
	for name, words := range unreadableNetworks {
		t.Run(name, func(t *testing.T) { cannotReadItsNetworks(t, words) })
	}
}

func cannotReadItsNetworks(t *testing.T, words string) {
	d := networks(t, words, "")
	var log *test.Hook
	d.Log, log = test.NewNullLogger()
	run(t, d)
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(d.Networks + ".broken"); err != nil || string(text) != "half of a network" {
		t.Errorf("what was set aside is %q: %v", text, err)
	}
	_, death := d.Deaths()
	if said := death.Report(); words == crashed && (!strings.Contains(said, "panic: runtime error: index out of range") || !strings.Contains(said, "reservePools")) {
		t.Errorf("the death is reported as %s", said)
	}
	told := false
	for _, entry := range log.AllEntries() {
		told = told || strings.Contains(entry.Message, "set aside as "+d.Networks+".broken")
	}
	if !told {
		t.Error("the log doesn't tell of it")
	}
}

// TestDaemonThatDiesOfSomethingElse keeps its networks.
func TestDaemonThatDiesOfSomethingElse(t *testing.T) {
	for _, row := range []struct{ name, words, after string }{
		{"an error", `level=error msg="Error initializing network controller: libnetwork.New: no iptables"`, ""},
		{"a panic elsewhere", strings.ReplaceAll(crashed, "libnetwork", "containerd"), ""},
		{"a panic in mid-life", crashed, "rm -f $up.seen; touch $up; until [ -e $up.seen ]; do sleep 0.02; done; rm -f $up;"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := networks(t, row.words, row.after)
			d.OnUp = func(context.Context, int) error {
				return os.WriteFile(filepath.Join(filepath.Dir(d.Program), "up.seen"), nil, 0o600)
			}
			run(t, d)
			for n, _ := d.Deaths(); n < 2; n, _ = d.Deaths() {
				time.Sleep(5 * time.Millisecond)
			}
			if _, err := os.Stat(d.Networks); err != nil {
				t.Errorf("the networks are gone: %v", err)
			}
		})
	}
}
