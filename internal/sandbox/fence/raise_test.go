//go:build !unit

package fence_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
)

// That a fence keeps packets out is tested in package engine, with builds. Here is its life.

func around(t *testing.T, build string) []string {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, table := range tables {
		if _, gateway, ok := strings.Cut(table.Name, "/"+bridge.Of(build)+"/"); ok {
			out = append(out, gateway)
		}
	}
	slices.Sort(out) // a fence has a table for each family
	return slices.Compact(out)
}

func raise(t *testing.T, build string) {
	t.Helper()
	t.Cleanup(func() {
		if err := fence.Lower(build); err != nil {
			t.Error(err)
		}
	})
	if err := fence.Raise(build, loopback); err != nil {
		t.Fatal(err)
	}
}

func TestFence(t *testing.T) {
	one, two := t.Name()+"-one", t.Name()+"-two"
	raise(t, one)
	raise(t, one)
	if got := around(t, one); !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("raised twice: %q", got)
	}
	// A runner was killed, and its build's subnet belongs to another now, whose own packets the old
	// fence would drop.
	raise(t, two)
	if old, fresh := around(t, one), around(t, two); len(old) != 0 || !slices.Equal(fresh, []string{"127.0.0.1"}) {
		t.Errorf("the fence of a build that is over: %q, of the one that has its address: %q", old, fresh)
	}
	if err := fence.Lower(one); err != nil {
		t.Error(err)
	}
	if got := around(t, two); len(got) != 1 {
		t.Errorf("lowering one build's fence leaves %q of another's", got)
	}
	for range 2 {
		if err := fence.Lower(two); err != nil {
			t.Error(err)
		}
	}
	if got := around(t, two); len(got) != 0 {
		t.Errorf("lowered: %q", got)
	}
}
