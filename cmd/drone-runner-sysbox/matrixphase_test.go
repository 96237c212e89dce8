//go:build !unit

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// phase is what a build is doing when a fault meets it.
type phase struct {
	name string
	// park enqueues a build and returns, with its id, what waits until it stands still in the
	// phase.
	park func(t testing.TB, w *world) (id int64, parked func())
	// printed are lines that were printed before the fault, by step.
	printed map[string][]string
}

// phases are all of them. Behind the last step of each is one that only runs when all went well.
func phases() []phase {
	return []phase{
		{name: "clone", park: func(t testing.TB, w *world) (int64, func()) {
			id := w.enqueue(rpctest.Build{YAML: "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: [cat tracked.txt]}]\n",
				Repo:   func(repo *drone.Repo) { repo.HTTPURL = "http://" + w.bridge(t) + ":" + w.git.port + "/octo/lab.git" },
				Change: func(build *drone.Build) { build.After = "" }})
			return id, func() { meet(t, w, "a clone", w.git.met) }
		}},
		{name: "pull", park: func(t testing.TB, w *world) (int64, func()) {
			id := w.enqueue(rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: [echo one]}, {name: b, pull: always, image: '" + w.registry.image + "', commands: ['true']}]\n"})
			return id, func() {
				meet(t, w, "a pull", w.registry.met)
				// The image is fetched while the step before runs.
				eventually(t, "the end of the step before", func() bool { return w.server.Result(id).Step("a").Status == drone.StatusPassing })
			}
		}, printed: map[string][]string{"a": {"one"}}},
		{name: "step", park: func(t testing.TB, w *world) (int64, func()) {
			// With a docker socket, so that there is a guard to clean up.
			id := w.enqueue(rpctest.Build{Trusted: true, YAML: `
kind: pipeline
clone: {disable: true}
volumes: [{name: docker, host: {path: /var/run/docker.sock}}]
steps:
- {name: a, image: IMAGE, volumes: [{name: docker, path: /var/run/docker.sock}], commands: [echo one, echo two, "until [ -e /shared/go ]; do sleep 0.1; done", echo three]}
- {name: b, image: IMAGE, commands: ['true']}
`})
			return id, func() { w.until(t, id, "a", "\ntwo\n") }
		}, printed: map[string][]string{"a": {"one", "two"}}},
		{name: "service wait", park: func(t testing.TB, w *world) (int64, func()) {
			id := w.enqueue(rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nservices: [{name: db, image: '" + w.checked + "', commands: [echo served, sleep 600]}]\n" +
				"steps: [{name: a, image: IMAGE, commands: [test -e /shared/healthy]}]\n"})
			return id, func() { w.until(t, id, "db", "served\n") }
		}, printed: map[string][]string{"db": {"served"}}},
		{name: "log upload", park: func(t testing.TB, w *world) (int64, func()) {
			id := w.enqueue(rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: [seq 101 150, 'until [ -e /shared/upload ]; do sleep 0.1; done']}]\n"})
			return id, func() {
				w.until(t, id, "a", "\n150\n")
				before := w.server.Faulted()
				w.server.Fault(rpctest.Fault{Path: fmt.Sprintf("/rpc/v2/step/%d/logs/upload", w.server.Result(id).Step("a").ID), Hold: w.released})
				w.touch(t, "upload")
				eventually(t, "the upload that is held", func() bool { return w.server.Faulted() > before })
			}
		}, printed: map[string][]string{"a": strings.Fields("101 102 120 149 150")}},
		{name: "destroy", park: func(t testing.TB, w *world) (int64, func()) {
			id := w.enqueue(rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: [echo done, 'until [ -e /shared/destroy ]; do sleep 0.1; done']}]\n"})
			return id, func() {
				w.until(t, id, "a", "\ndone\n")
				network := w.networkOf(t, w.specOf(t, id))
				w.wire.on(network, w.released)
				w.touch(t, "destroy")
				eventually(t, "the removal that is held", func() bool { return w.wire.holds(network) })
				eventually(t, "the end of the step, on the server", func() bool { return w.server.Result(id).Step("a").Status == drone.StatusPassing })
			}
		}, printed: map[string][]string{"a": {"done"}}},
	}
}

// meet waits until something is closed.
func meet(t testing.TB, w *world, what string, met <-chan struct{}) {
	t.Helper()
	eventually(t, what, func() bool {
		select {
		case <-met:
			return true
		default:
			return false
		}
	})
}

// specOf is the spec of a build that runs.
func (w *world) specOf(t testing.TB, build int64) string {
	t.Helper()
	records, err := journal.Records(w.state)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.Build == build {
			return r.Spec
		}
	}
	t.Fatalf("build %d isn't in the journal", build)
	return ""
}
