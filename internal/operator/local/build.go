package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/joho/godotenv"
)

// noCommit stands for the commit of a folder without git, so that ${DRONE_COMMIT_SHA:0:8} works
// there as well.
const noCommit = "0000000000000000000000000000000000000000"

// Events that drone-go has no names for.
const (
	eventCron   = "cron"
	eventCustom = "custom"
)

// Events are those that a build can have in Drone.
var Events = []string{
	drone.EventPush, drone.EventPullRequest, drone.EventTag,
	drone.EventPromote, drone.EventRollback, eventCron, eventCustom,
}

// Build makes up the build that a server would have sent. What its fields don't say is taken from
// git, where there is any.
type Build struct {
	Event, Action, Branch, Ref, Commit string
	// Repo is NAMESPACE/NAME.
	Repo, Deploy, Cron string
	// Instance is the host name of the server, as when.instance sees it.
	Instance string
	Trusted  bool
	// Env are variables of the build: KEY=VALUE, or KEY for one of this process.
	Env []string
	// EnvFiles and SecretFiles have KEY=VALUE lines.
	EnvFiles, SecretFiles []string
	// Machine is the name of this machine, Version that of the runner.
	Machine, Version string
}

// Context makes the build of the file in data, with the folder dir as its sources. The caller names
// the stage. The netrc has the credentials of git's remote, if its address does.
func (b *Build) Context(
	ctx context.Context, dir string, data []byte, timeout time.Duration,
) (*client.Context, error) {
	git := readGit(ctx, dir)
	var errs []error
	event, ref, branch, err := b.place(git)
	errs = append(errs, err)
	repo, err := b.repository(dir, git)
	errs = append(errs, err)
	params, err := b.variables()
	errs = append(errs, err)
	secrets, err := b.secrets()
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	repo.Branch = cmp.Or(git.defaultBranch, git.branch, "main")
	repo.Trusted = b.Trusted
	// Whole minutes are all that a repository can have; the exact limit is the executor's.
	repo.Timeout = max(1, int64(timeout/time.Minute))

	now := time.Now().Unix()
	commit := cmp.Or(b.Commit, git.commit, noCommit)
	source := branch
	if event == drone.EventPullRequest {
		source = cmp.Or(git.branch, branch)
	}
	title, _, _ := strings.Cut(git.message, "\n")
	build := &drone.Build{
		ID:          1,
		RepoID:      1,
		Number:      1,
		Status:      drone.StatusRunning,
		Event:       event,
		Action:      b.Action,
		Trigger:     "@hook",
		Link:        repo.Link,
		Title:       title,
		Message:     git.message,
		Before:      git.parent,
		After:       commit,
		Ref:         ref,
		Source:      source,
		Target:      branch,
		Author:      git.author,
		AuthorName:  git.author,
		AuthorEmail: git.email,
		Sender:      git.author,
		Params:      params,
		Cron:        b.Cron,
		Deploy:      b.Deploy,
		Created:     now,
		Started:     now,
		Updated:     now,
	}
	return &client.Context{
		Build: build,
		Stage: &drone.Stage{
			ID:      1,
			BuildID: 1,
			Number:  1,
			Kind:    "pipeline",
			Type:    "docker",
			Status:  drone.StatusRunning,
			OS:      "linux",
			Arch:    runtime.GOARCH,
			Machine: b.Machine,
			Created: now,
			Started: now,
		},
		Config:  &client.File{Data: data},
		Repo:    repo,
		Secrets: secrets,
		Netrc:   git.netrc(),
		System: &drone.System{
			Proto: "https", Host: b.Instance, Link: "https://" + b.Instance, Version: b.Version,
		},
	}, nil
}

// place finds the event, the reference and the branch, each from the others or from git.
func (b *Build) place(git repository) (event, ref, branch string, err error) {
	event, ref, branch = b.Event, b.Ref, b.Branch
	if event == "" {
		switch {
		case strings.HasPrefix(ref, "refs/tags/"):
			event = drone.EventTag
		case strings.HasPrefix(ref, "refs/pull/"), strings.HasPrefix(ref, "refs/merge-requests/"):
			event = drone.EventPullRequest
		case b.Deploy != "":
			event = drone.EventPromote
		case b.Cron != "":
			event = eventCron
		default:
			event = drone.EventPush
		}
	}
	if !slices.Contains(Events, event) {
		return "", "", "", fmt.Errorf("--event: there is no event %q: write one of %s",
			event, strings.Join(Events, ", "))
	}
	if branch == "" {
		branch, _ = strings.CutPrefix(ref, "refs/heads/")
		if branch == ref {
			branch = git.branch
		}
	}
	if branch == "" {
		branch = "main"
	}
	if ref == "" {
		switch event {
		case drone.EventTag:
			if git.tag == "" {
				return "", "", "", errors.New("--event tag: HEAD has no tag: say which one by --ref refs/tags/NAME")
			}
			ref = "refs/tags/" + git.tag
		case drone.EventPullRequest:
			ref = "refs/pull/1/head"
		default:
			ref = "refs/heads/" + branch
		}
	}
	return event, ref, branch, nil
}

// repository returns the folder's.
func (b *Build) repository(dir string, git repository) (*drone.Repo, error) {
	slug := b.Repo
	if slug == "" {
		slug = slugOf(git.remote)
	}
	if slug == "" {
		slug = "local/" + filepath.Base(dir)
	}
	i := strings.LastIndexByte(slug, '/')
	if i <= 0 || i == len(slug)-1 {
		return nil, fmt.Errorf("--repo: %q is no repository: write NAMESPACE/NAME", slug)
	}
	repo := &drone.Repo{
		ID:         1,
		Namespace:  slug[:i],
		Name:       slug[i+1:],
		Slug:       slug,
		SCM:        "git",
		HTTPURL:    git.remote,
		SSHURL:     git.remote,
		Visibility: "private",
		Private:    true,
		Active:     true,
		Config:     ".drone.yml",
	}
	if u, err := url.Parse(git.remote); err == nil && strings.HasPrefix(u.Scheme, "http") {
		repo.Link = strings.TrimSuffix(git.remote, ".git")
	}
	return repo, nil
}

// variables returns those of the files, and over them those of the flags.
func (b *Build) variables() (map[string]string, error) {
	vars, err := readEnvFiles("--env-file", b.EnvFiles)
	if err != nil {
		return nil, err
	}
	for _, entry := range b.Env {
		key, value, given := strings.Cut(entry, "=")
		if !given {
			if value, given = os.LookupEnv(key); !given {
				return nil, fmt.Errorf("--env %s: this shell has no such variable: write %s=VALUE", key, key)
			}
		}
		if key == "" {
			return nil, fmt.Errorf("--env %s: a variable needs a name: write KEY=VALUE", entry)
		}
		vars[key] = value
	}
	return vars, nil
}

// secrets returns those of the files, open to pull requests.
func (b *Build) secrets() ([]*drone.Secret, error) {
	vars, err := readEnvFiles("--secret-file", b.SecretFiles)
	if err != nil {
		return nil, err
	}
	var out []*drone.Secret
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, &drone.Secret{Name: name, Data: vars[name], PullRequest: true, PullRequestPush: true})
	}
	return out, nil
}

// readEnvFiles reads KEY=VALUE files; later ones win. The parser's errors quote the file, which may
// hold secrets, so they aren't shown.
func readEnvFiles(flag string, paths []string) (map[string]string, error) {
	vars := map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		file, err := godotenv.UnmarshalBytes(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %s holds something that isn't KEY=VALUE: write one variable a line, "+
				"and quote values that hold quotes, spaces or #", flag, path)
		}
		maps.Copy(vars, file)
	}
	return vars, nil
}
