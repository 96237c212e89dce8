//go:build !unit

package guard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// attackForgeries has images whose labels say that they are another's. Labels of images go onto
// their containers.
func attackForgeries(t *testing.T, a *arena) {
	victim := a.target["id"]
	forged := fmt.Sprintf("FROM %s\nLABEL %s=%s %s=%s io.drone-runner-sysbox.persistent=/x guardtest=2\nVOLUME /data\nEXPOSE 80\n", guardtest.Image, guardtest.OwnerLabel, victim, guard.LabelGuard, victim)
	build := func(socket, tag, dockerfile string) string {
		got, err := guardtest.Send(socket, "POST", "/build?t="+tag, pack(entry{name: "Dockerfile", text: dockerfile}))
		if err != nil {
			t.Errorf("build %s: %v", tag, err)
		}
		return got.Body
	}

	t.Run("proof", func(t *testing.T) {
		if out := build(a.daemon, "forged-proof", forged); !strings.Contains(out, "Successfully built") {
			t.Fatal(out)
		}
		id := strings.TrimSpace(a.attacker.Host("create", "forged-proof"))
		defer a.attacker.Host("rm", "-v", id)
		if got := a.attacker.Host("ps", "-aq", "--no-trunc", "--filter", "label="+guardtest.OwnerLabel+"="+victim); !strings.Contains(got, id) {
			t.Errorf("a container of a forged image doesn't bear its labels: %q", got)
		}
		// By labels alone it is the victim's; the name isn't.
		if out := a.victim.Docker("ps", "-a", "--format", "{{.Names}}"); strings.Contains(out, "forged") || len(strings.Fields(out)) != 2 {
			t.Errorf("the victim sees %q", out)
		}
		if got := a.victim.Request("GET", "/containers/"+id+"/json", nil); got.Status != http.StatusNotFound {
			t.Errorf("the victim sees %d %s", got.Status, got.Body)
		}
	})

	t.Run("by a Dockerfile", func(t *testing.T) {
		if out := build(a.attacker.Socket, "forged", forged); !strings.Contains(out, "Successfully built") {
			t.Logf("the guard refuses the image: %s", out)
			return
		}
		a.forgedContainer(t, "forged")
	})
	t.Run("by a commit", func(t *testing.T) {
		got := a.attacker.Request("POST", "/commit?container="+a.target["own.container"]+"&repo=forgedcommit&pause=0&changes=LABEL%20"+guardtest.OwnerLabel+"%3D"+victim+"%20"+guard.LabelGuard+"%3D"+victim, nil)
		if got.Status != http.StatusCreated {
			return
		}
		a.forgedContainer(t, "forgedcommit")
	})
	t.Run("by a commit of a configuration", func(t *testing.T) {
		got := a.attacker.Request("POST", "/commit?container="+a.target["own.container"]+"&repo=forgedcommit2&pause=0", `{"Labels":{"`+guardtest.OwnerLabel+`":"`+victim+`"}}`)
		if got.Status != http.StatusCreated {
			return
		}
		a.forgedContainer(t, "forgedcommit2")
	})
	t.Run("by an image that was there", func(t *testing.T) {
		// Made around the guard, as if pulled: everybody's.
		build(a.daemon, "attack.test/forged:1", forged)
		a.forgedContainer(t, "attack.test/forged:1")
	})
	t.Run("by a running build", func(t *testing.T) {
		var building sync.WaitGroup
		ended := make(chan struct{})
		building.Go(func() {
			defer close(ended)
			build(a.attacker.Socket, "forged3", forged+"RUN sleep 1\n")
		})
		defer building.Wait()
		for done := false; !done; {
			select {
			case <-ended:
				done = true
			default:
			}
			if got := a.victim.Docker("ps", "-a", "--format", "{{.Names}} {{.Command}}"); len(strings.Split(strings.TrimSpace(got), "\n")) != 2 {
				t.Fatalf("the victim sees %q", got)
			}
		}
	})
	t.Run("by a name", func(t *testing.T) {
		for _, name := range []string{victim + ".x", victim + "-2", a.attacker.ID + "-2", "/" + victim + ".y"} {
			got := a.attacker.Request("POST", "/containers/create?name="+name, `{"Image":"`+guardtest.Image+`"}`)
			if got.Status == http.StatusCreated {
				var c struct{ Name string }
				madeBy(t, a, &got, &c)
				if !strings.HasPrefix(c.Name, "/"+a.attacker.ID+".") {
					t.Errorf("%s became %s", name, c.Name)
				}
				a.undo(t, "/containers/create", &got)
			}
		}
	})
	a.unharmed(t)
}

// forgedContainer runs a forged image, and wants that what comes of it is the attacker's.
func (a *arena) forgedContainer(t *testing.T, image string) {
	t.Helper()
	got := a.attacker.Request("POST", "/containers/create", `{"Image":"`+image+`","HostConfig":{"PublishAllPorts":true}}`)
	var c struct {
		Config     struct{ Labels map[string]string }
		HostConfig struct {
			PublishAllPorts bool
		}
		Mounts []struct{ Name string }
	}
	madeBy(t, a, &got, &c)
	defer a.undo(t, "/containers/create", &got)
	for k, want := range map[string]string{guardtest.OwnerLabel: a.attacker.ID, guard.LabelGuard: a.attacker.ID, "io.drone-runner-sysbox.persistent": "", "guardtest": "1"} {
		if c.Config.Labels[k] != want {
			t.Errorf("the container's label %s is %q, not %q", k, c.Config.Labels[k], want)
		}
	}
	for _, m := range c.Mounts {
		seen, err := guardtest.Send(a.daemon, "GET", "/volumes/"+m.Name, nil)
		var v struct{ Labels map[string]string }
		if err != nil || json.Unmarshal([]byte(seen.Body), &v) != nil || v.Labels[guardtest.OwnerLabel] != a.attacker.ID {
			t.Errorf("the image's volume is labelled %v: %v", v.Labels, err)
		}
	}
	if c.HostConfig.PublishAllPorts {
		t.Error("the image's ports are published on all addresses")
	}
	if out := a.victim.Docker("ps", "-a", "--format", "{{.Names}}"); len(strings.Fields(out)) != 2 {
		t.Errorf("the victim sees %q", out)
	}
}
