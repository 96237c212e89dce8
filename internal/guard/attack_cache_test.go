//go:build !unit

package guard_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// attackCache has a build leave, in the cache that all stages share, something else than what a
// step makes.
func attackCache(t *testing.T, a *arena) {
	t.Run("a step without a network", func(t *testing.T) {
		for _, row := range []struct {
			through, then string
			want          bool
		}{{a.daemon, a.daemon, true}, {a.attacker.Socket, a.victim.Socket, false}} {
			dockerfile := "FROM " + guardtest.Image + "\nRUN ls /sys/class/net | grep -c . >/made; echo " + fmt.Sprint(row.want) + a.target["id"] + "\n"
			if _, err := guardtest.Send(row.through, "POST", "/build?networkmode=none", string(pack(entry{name: "Dockerfile", text: dockerfile}))); err != nil {
				t.Fatal(err)
			}
			out, err := guardtest.Send(row.then, "POST", "/build", string(pack(entry{name: "Dockerfile", text: dockerfile})))
			if err != nil || strings.Contains(out.Body, "Using cache") != row.want {
				t.Errorf("a build with a network prints %s: %v", out.Body, err)
			}
		}
	})
	a.unharmed(t)
}
