package rpctest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
	"go.yaml.in/yaml/v3"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

// Build is what Enqueue makes a build of. Everything but YAML has a default.
type Build struct {
	// YAML is the .drone.yml. Each pipeline document of it becomes a stage; a document that can't
	// be read, one named "default".
	YAML string
	// Secrets of the repository, by name. Netrc, if any, makes the repository private.
	Secrets map[string]string
	Netrc   *drone.Netrc

	Event   string // "push"
	Action  string
	Branch  string // "main"
	Ref     string // "refs/heads/" and the branch
	Target  string // the branch
	Message string
	Params  map[string]string

	Slug    string // "octo/lab"
	Trusted bool
	Timeout int64 // minutes; 60

	// OS and Arch of stages whose document has no platform; "linux" and "amd64", as Drone has it.
	OS, Arch string
	// Repo and Change have the last word.
	Repo   func(*drone.Repo)
	Change func(*drone.Build)
}

// document is what the server itself reads of a pipeline.
type document struct {
	Kind      string            `yaml:"kind"`
	Type      string            `yaml:"type"`
	Name      string            `yaml:"name"`
	DependsOn []string          `yaml:"depends_on"`
	Node      map[string]string `yaml:"node"`
	Platform  struct {
		OS      string `yaml:"os"`
		Arch    string `yaml:"arch"`
		Variant string `yaml:"variant"`
	} `yaml:"platform"`
	Trigger struct {
		Status any `yaml:"status"`
	} `yaml:"trigger"`
}

// Enqueue adds a build whose stages runners may ask for at once, those without depends_on, and
// returns its id.
func (s *Server) Enqueue(b Build) int64 {
	branch := or(b.Branch, "main")
	slug := or(b.Slug, "octo/lab")
	namespace, name, _ := strings.Cut(slug, "/")
	const commit = "88a58b5299342b16f80d4d4c78cb948acea039c2"
	web := "http://git.example.com/" + slug
	timeout := b.Timeout
	if timeout == 0 {
		timeout = 60
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids.build++
	id := s.ids.build
	nb := &build{
		Build: drone.Build{
			ID: id, RepoID: 1, Trigger: "octo", Number: id, Status: drone.StatusPending, Event: or(b.Event, "push"), Action: b.Action,
			Link: web + "/commit/" + commit, Message: or(b.Message, "a change"), Before: commit, After: commit, Ref: or(b.Ref, "refs/heads/"+branch),
			Source: branch, Target: or(b.Target, branch), Author: "octo", AuthorName: "octo", AuthorEmail: "octo@example.com", Sender: "octo",
			Params: maps.Clone(b.Params), Created: now(), Updated: now(), Version: 1,
		},
		repo: drone.Repo{
			ID: 1, UID: "946053", UserID: 1, Namespace: namespace, Name: name, Slug: slug, HTTPURL: web + ".git",
			SSHURL: "git@git.example.com:" + slug + ".git", Link: web, Branch: "main", Private: b.Netrc != nil, Visibility: "public", Active: true,
			Config: ".drone.yml", Trusted: b.Trusted, Timeout: timeout, Counter: id, Synced: now(), Created: now(), Updated: now(), Version: 1,
			Secret: "repository-secret",
		},
		netrc: b.Netrc, config: []byte(b.YAML),
	}
	if nb.repo.Private {
		nb.repo.Visibility = "private"
	}
	for _, secret := range slices.Sorted(maps.Keys(b.Secrets)) {
		nb.secrets = append(nb.secrets, &drone.Secret{Name: secret, Data: b.Secrets[secret]})
	}
	if b.Repo != nil {
		b.Repo(&nb.repo)
	}
	if b.Change != nil {
		b.Change(&nb.Build)
	}
	for i, doc := range pipelines(b.YAML) {
		s.ids.stage++
		st := &stage{build: nb, Stage: drone.Stage{
			ID: s.ids.stage, BuildID: id, Number: i + 1, Name: or(doc.Name, "default"), Kind: "pipeline", Type: or(doc.Type, "docker"),
			Status: drone.StatusPending, OS: or(doc.Platform.OS, or(b.OS, "linux")), Arch: or(doc.Platform.Arch, or(b.Arch, "amd64")),
			Variant: doc.Platform.Variant, Created: now(), Updated: now(), Version: 1, OnSuccess: true, DependsOn: doc.DependsOn, Labels: doc.Node,
		}}
		st.OnSuccess, st.OnFailure = doc.outcomes()
		if len(st.DependsOn) > 0 {
			st.Status = drone.StatusWaiting
		}
		nb.stages = append(nb.stages, st)
		s.stages[st.ID] = st
	}
	s.builds[id] = nb
	s.notify()
	return id
}

// pipelines are the pipeline documents of a file; one without a name where none can be read.
func pipelines(file string) []document {
	var out []document
	dec := yaml.NewDecoder(bytes.NewReader([]byte(file)))
	for {
		var doc document
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			out = nil
			break
		}
		if doc.Kind == "pipeline" || doc.Kind == "" && doc.Name != "" {
			out = append(out, doc)
		}
	}
	if len(out) == 0 {
		out = []document{{}}
	}
	return out
}

// outcomes tells for which outcome of the stages before it the stage runs.
func (d *document) outcomes() (onSuccess, onFailure bool) {
	text := fmt.Sprint(d.Trigger.Status)
	if d.Trigger.Status == nil {
		return true, false
	}
	return strings.Contains(text, drone.StatusPassing), strings.Contains(text, drone.StatusFailing)
}

// Cancel ends a build as its user would: the server writes the final states itself, and tells those
// who watch at this moment, nobody else.
func (s *Server) Cancel(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.builds[id]
	if b == nil || rpc.Final(b.Status) {
		return
	}
	at := now()
	b.Status, b.Finished = drone.StatusKilled, at
	b.Version++
	for _, st := range b.stages {
		if rpc.Final(st.Status) {
			continue
		}
		st.Status = drone.StatusSkipped
		if st.Started != 0 {
			st.Status, st.ExitCode = drone.StatusKilled, 130
		}
		st.Started, st.Stopped = max(st.Started, b.Created), at
		st.Version++
		for _, step := range st.steps {
			if rpc.Final(step.Status) {
				continue
			}
			step.ExitCode = 130
			step.Status = drone.StatusSkipped
			if step.Started != 0 {
				step.Status = drone.StatusKilled
			}
			step.Stopped = at
			step.Version++
		}
	}
	for watcher, watched := range s.watchers {
		if watched == id {
			close(watcher)
			delete(s.watchers, watcher)
		}
	}
	s.notify()
}

// settle goes on after a stage has ended: stages that waited for it run or are skipped, and the
// build ends with its last stage. The caller holds mu.
func (b *build) settle() {
	for again := true; again; {
		again = false
		for _, st := range b.stages {
			if st.Status != drone.StatusWaiting {
				continue
			}
			ready, failed := b.dependencies(st)
			switch {
			case !ready:
				continue
			case failed && !st.OnFailure, !failed && !st.OnSuccess:
				st.Status, st.Started, st.Stopped = drone.StatusSkipped, now(), now()
			default:
				st.Status = drone.StatusPending
			}
			st.Version++
			again = true
		}
	}
	b.Status = drone.StatusPassing
	for _, st := range b.stages {
		switch {
		case !rpc.Final(st.Status):
			b.Status = drone.StatusRunning
			return
		case st.Status != drone.StatusPassing && st.Status != drone.StatusSkipped && b.Status == drone.StatusPassing:
			b.Status = st.Status
		}
	}
	b.Finished = now()
}

// dependencies reports whether all that the stage waits for has ended, and whether any of it
// failed.
func (b *build) dependencies(st *stage) (ready, failed bool) {
	for _, other := range b.stages {
		if !slices.Contains(st.DependsOn, other.Name) {
			continue
		}
		if !rpc.Final(other.Status) {
			return false, false
		}
		failed = failed || other.Status != drone.StatusPassing && other.Status != drone.StatusSkipped
	}
	return true, failed
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// reoffer is when a stage that was given to a poll and not accepted is given to another one.
const reoffer = 2 * time.Second
