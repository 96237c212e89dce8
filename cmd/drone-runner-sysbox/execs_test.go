//go:build !unit

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What a killed exec has left the next one removes, but nothing of one that runs, nor of one that
// keeps account elsewhere.
func TestExecCleansUpAfterAKilledOne(t *testing.T) {
	t.Parallel()
	home, elsewhere := t.TempDir(), t.TempDir()
	in := func(home, file string) job {
		j := newJob(t, map[string]string{".drone.yml": file})
		j.env = append(j.env, "HOME="+home, "XDG_STATE_HOME=")
		return j
	}
	quick := "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: ['true']}]\n"
	alive, killed, other := in(home, sleeper), in(home, sleeper), in(elsewhere, quick)
	running, dying := alive.start(t), killed.start(t)
	running.stdout.await(t, "slow | it runs")
	dying.stdout.await(t, "slow | it runs")
	dying.signal(t, syscall.SIGKILL)
	<-dying.ended
	there := len(objects(t, killed.label))
	if there < 3 {
		t.Errorf("a killed exec leaves two containers and a network, not %q", objects(t, killed.label))
	}
	other.run(t).expect(t, 0, "!removed what")
	if got := len(objects(t, killed.label)); got != there {
		t.Errorf("one that keeps account elsewhere removed %d of %d objects", there-got, there)
	}
	in(home, quick).run(t).expect(t, 0, "removed what a build that is over had left: 2 containers, 1 network")
	if left := objects(t, killed.label); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	in(home, quick).run(t).expect(t, 0, "!removed what")
	if !running.running() || len(objects(t, alive.label)) < 3 {
		t.Errorf("one that runs was touched: %s", running.stderr)
	}
	running.signal(t, syscall.SIGINT)
	running.wait(t).expect(t, 130)
	found, err := os.ReadDir(filepath.Join(home, ".local", "state", "drone-runner-sysbox", "exec"))
	if err != nil || len(found) != 1 || found[0].Name() != "id" {
		t.Errorf("the folder holds %v (%v), want the id alone", found, err)
	}
}

// Where there is no place to keep account, the build runs all the same.
func TestExecWithoutAHome(t *testing.T) {
	t.Parallel()
	j := newJob(t, map[string]string{".drone.yml": "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: ['true']}]\n"})
	j.env = append(j.env, "HOME=/dev/null", "XDG_STATE_HOME=")
	j.run(t).expect(t, 0, "should this be killed")
}
