//go:build !unit

package guard_test

import (
	"net"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// TestCallerByAddress has two steps with different volumes at one path: who calls over TCP is known
// by its address, or the path could mean either.
func TestCallerByAddress(t *testing.T) {
	b := guardtest.Start(t, func(o *guard.Options) { o.Hosts = []string{"docker"} })
	gateway := strings.TrimSpace(b.Host("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", b.Network))
	l, err := net.Listen("tcp4", net.JoinHostPort(gateway, "2375"))
	if err != nil {
		t.Fatal(err)
	}
	b.Serve(l, b.Guard.Serve)
	label := "--label=" + guardtest.OwnerLabel + "=" + b.ID
	b.Host("volume", "create", label, b.ID+"-other")
	b.Host("run", "-d", "--init", label, "--name", b.ID+"-2", "--network", b.Network, "-v", b.ID+"-other:"+guardtest.WorkDir, guardtest.Image, "sleep", "100000")

	out := b.InStep("echo mine >file; export DOCKER_HOST=tcp://" + gateway + ":2375; docker run --rm -v $PWD:/x " + guardtest.Image + " cat /x/file /etc/hosts")
	if !strings.HasPrefix(out, "mine\n") {
		t.Errorf("the caller's own folder has %q", out)
	}
	if !strings.Contains(out, gateway+"\tdocker\n") {
		t.Errorf("what it starts doesn't find the daemon's name: %s", out)
	}
}
