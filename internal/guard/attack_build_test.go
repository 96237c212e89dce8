//go:build !unit

package guard_test

import (
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// attackBuild is about the classic builder: what a build may ask for, and all the ways to have it
// start from another's image when the guard doesn't look.
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
		untaken(ask("an unknown parameter", "privileged=1", "", reached)),
		ask("a file outside of the context", "dockerfile=..%2F..%2Fetc%2Fpasswd", "", reached),
		ask("an absolute file", "dockerfile=%2Fetc%2Fpasswd", "", reached),
		ask("an unknown builder", "version=3", "version", reached),
		untaken(ask("limits of nobody", "ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Superpower%22%3A1%7D%5D", "", reached)),
		{name: "another's label", method: "POST", path: "/build?t=labelled&labels=%7B%22" + guardtest.OwnerLabel + "%22%3A%22{id}%22%7D", body: plain, header: tarType, bare: built, tamed: harmless},
		{name: "a build of another's, cancelled", method: "POST", path: "/build/cancel?id=x", bare: reached, tamed: func(*testing.T, *arena, *guardtest.Answer) {}},
		ask("the machine's network, with BuildKit", "version=2&networkmode=host", "networkmode", reached),
		ask("the victim's network stack, with BuildKit", "version=2&networkmode=container:{container}", "networkmode", reached),
		ask("the victim's network, with BuildKit", "version=2&networkmode={netname}", "networkmode", reached),
		ask("a cgroup parent, with BuildKit", "version=2&cgroupparent=%2Fescape", "CgroupParent", reached),
		ask("no seccomp, with BuildKit", "version=2&securityopt=seccomp%3Dunconfined", "securityopt", reached),
		ask("a context of a server, with BuildKit", "version=2&remote=http%3A%2F%2F127.0.0.1%3A1%2Fx", "remote", reached),
		ask("a result on the machine, with BuildKit", "version=2&outputs=%5B%7B%22Type%22%3A%22local%22%2C%22Attrs%22%3A%7B%22dest%22%3A%22%2Ftmp%22%7D%7D%5D", "outputs", reached),
		ask("another's session, with BuildKit", "version=2&remote=client-session&session=theirs", "none of this stage's", reached),
		ask("a version that comes twice", "version=1&version=2", "2 times", reached),
		{name: "a body of a form", method: "POST", path: "/build", body: "remote=http%3A%2F%2F127.0.0.1%3A1%2Fx&networkmode=host", header: []string{"Content-Type: application/x-www-form-urlencoded"}, bare: reached, tamed: noBuild},
	}
	// The network for builders is made with the first build, and stays.
	if got := a.attacker.Request("POST", "/build", plain); !built(&got) {
		t.Fatalf("the guard answers %d %s", got.Status, got.Body)
	}
	a.fight(t, rows)
}

// built is the proof that an image was built.
func built(a *guardtest.Answer) bool { return strings.Contains(a.Body, "Successfully built") }

// untaken is a row with something that isn't known: the guard drops it, and the build goes on as
// without.
func untaken(row attack) attack {
	row.tamed = dropped
	return row
}
