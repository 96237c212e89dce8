package pipeline

import (
	"runtime"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/linter"
)

// Lint returns what is wrong with a file, in its order. Variables of the build have the values of a
// made-up one.
func Lint(name string, data []byte, o linter.Options) resource.Findings {
	wrong := func(message string) resource.Findings {
		return resource.Findings{{Severity: resource.Error, File: name, Message: message}}
	}
	if Converted(name) {
		return wrong("this isn't YAML, but what Drone's server converts to YAML, with lines of its own: " +
			"lint what comes out, as in: drone starlark convert --stdout | drone-runner-sysbox lint -")
	}
	substituted, err := resource.Substitute(data, Substitutions(sampleBuild(), time.Now()))
	if err != nil {
		return wrong(err.Error())
	}
	file, found := resource.Parse(name, substituted)
	if len(file.Pipelines)+len(file.Others)+len(file.Secrets)+len(found) == 0 {
		return wrong("the file holds no pipeline: write a document with kind: pipeline, type: docker, a name and steps")
	}
	for _, p := range file.Pipelines {
		found = append(found, linter.Lint(name, p, o)...)
	}
	_, circles := Order(file, file.Pipelines)
	found = append(found, circles...)
	found.Sort()
	return found
}

// sampleBuild returns a build with a value for every variable, so that image: app:${DRONE_TAG} is
// read as in the build that it was written for.
func sampleBuild() *client.Context {
	return &client.Context{
		Build: &drone.Build{
			ID: 1, RepoID: 1, Number: 1, Status: drone.StatusRunning, Trigger: "@hook",
			Event: drone.EventTag, Action: "opened", Link: "https://git.example.com/octocat/hello/commit/1",
			Title: "title", Message: "message", Before: strings.Repeat("0", 40), After: strings.Repeat("1", 40),
			Ref:    "refs/tags/v1.0.0",
			Source: "main", Target: "main", Fork: "octocat/hello",
			Author: "octocat", AuthorName: "octocat", AuthorEmail: "octocat@example.com", AuthorAvatar: "https://git.example.com/octocat.png", Sender: "octocat",
			Cron: "nightly", Deploy: "production", DeployID: 1, Parent: 1, Created: 1, Started: 1, Finished: 1,
			Updated: 1,
		},
		Stage: &drone.Stage{
			ID: 1, BuildID: 1, Number: 1, Name: "default", Kind: "pipeline", Type: "docker",
			Status: drone.StatusRunning,
			OS:     "linux", Arch: runtime.GOARCH, Machine: "runner", Created: 1, Started: 1,
		},
		Repo: &drone.Repo{
			ID: 1, Namespace: "octocat", Name: "hello", Slug: "octocat/hello", SCM: "git", Branch: "main",
			Config: ".drone.yml", Visibility: "public",
			HTTPURL: "https://git.example.com/octocat/hello.git",
			SSHURL:  "git@git.example.com:octocat/hello.git", Link: "https://git.example.com/octocat/hello",
		},
		System: &drone.System{Proto: "https", Host: "drone.example.com", Link: "https://drone.example.com",
			Version: "2.0.0"},
	}
}
