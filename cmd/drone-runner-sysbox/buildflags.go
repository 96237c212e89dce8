package main

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
	"github.com/spf13/pflag"
)

// noCommit stands for the commit of a folder that git knows nothing of, so that ${DRONE_COMMIT_SHA:0:8} works there as well.
const noCommit = "0000000000000000000000000000000000000000"

// Events that drone-go has no names for.
const (
	eventCron   = "cron"
	eventCustom = "custom"
)

// events are the ones that a build can have in Drone.
var events = []string{drone.EventPush, drone.EventPullRequest, drone.EventTag, drone.EventPromote, drone.EventRollback, eventCron, eventCustom}

// buildFlags make up the build that a server would have sent. What they don't say is taken from git, where there is any.
type buildFlags struct {
	event, action, branch, ref, commit string
	repo, deploy, cron, instance       string
	trusted                            bool
	env                                []string
	envFiles, secretFiles              []string
}

func (f *buildFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.event, "event", "", "event of the build: "+strings.Join(events, ", ")+" (default push, or what --ref says)")
	flags.StringVar(&f.action, "action", "", "action of the event: opened, synchronize, …")
	flags.StringVar(&f.branch, "branch", "", "branch of the build, for a pull request the one that it is for (default git's, or main)")
	flags.StringVar(&f.ref, "ref", "", "git reference (default refs/heads/BRANCH, for a tag refs/tags/TAG)")
	flags.StringVar(&f.commit, "commit", "", "commit (default git's HEAD)")
	flags.StringVar(&f.repo, "repo", "", "repository as NAMESPACE/NAME (default that of git's remote origin, or local/FOLDER)")
	flags.StringVar(&f.deploy, "deploy-to", "", "target of a promotion or rollback; --target is the same")
	flags.StringVar(&f.cron, "cron", "", "name of the cron job")
	flags.StringVar(&f.instance, "instance", "drone.local", "host name of the server, as when.instance sees it")
	flags.BoolVar(&f.trusted, "trusted", false, "allow what a server allows trusted repositories alone")
	flags.StringArrayVar(&f.env, "env", nil, "variable of the build, KEY=VALUE, or KEY alone to hand on this shell's; steps get it, and ${KEY} in the file is replaced (repeatable)")
	flags.StringArrayVar(&f.envFiles, "env-file", nil, "file of such variables, KEY=VALUE lines as in a .env file; --env wins (repeatable)")
	flags.StringArrayVar(&f.secretFiles, "secret-file", nil, "file of secrets for from_secret, KEY=VALUE lines; put values with $ or # in single quotes (repeatable)")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "target" {
			name = "deploy-to"
		}
		return pflag.NormalizedName(name)
	})
}

// context makes the build of the file in data, with the folder dir as its sources. The stage is left for the caller to name.
func (f *buildFlags) context(ctx context.Context, dir string, data []byte, timeout time.Duration) (*client.Context, *gitInfo, error) {
	git := readGit(ctx, dir)
	var errs []error
	event, ref, branch, err := f.place(git)
	errs = append(errs, err)
	repo, err := f.repository(dir, git)
	errs = append(errs, err)
	params, err := f.variables()
	errs = append(errs, err)
	secrets, err := f.secrets()
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	repo.Branch = cmp.Or(git.defaultBranch, git.branch, "main")
	repo.Trusted = f.trusted
	// Whole minutes are all that a repository can have; the exact limit is the executor's.
	repo.Timeout = max(1, int64(timeout/time.Minute))

	now := time.Now().Unix()
	commit := cmp.Or(f.commit, git.commit, noCommit)
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
		Action:      f.action,
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
		Cron:        f.cron,
		Deploy:      f.deploy,
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
			Machine: hostname(),
			Created: now,
			Started: now,
		},
		Config:  &client.File{Data: data},
		Repo:    repo,
		Secrets: secrets,
		System:  &drone.System{Proto: "https", Host: f.instance, Link: "https://" + f.instance, Version: versionText()},
	}, &git, nil
}

// place finds out the event, the reference and the branch, each from the others or from git.
func (f *buildFlags) place(git gitInfo) (event, ref, branch string, err error) {
	event, ref, branch = f.event, f.ref, f.branch
	if event == "" {
		switch {
		case strings.HasPrefix(ref, "refs/tags/"):
			event = drone.EventTag
		case strings.HasPrefix(ref, "refs/pull/"), strings.HasPrefix(ref, "refs/merge-requests/"):
			event = drone.EventPullRequest
		case f.deploy != "":
			event = drone.EventPromote
		case f.cron != "":
			event = eventCron
		default:
			event = drone.EventPush
		}
	}
	if !slices.Contains(events, event) {
		return "", "", "", fmt.Errorf("--event: there is no event %q: it can be %s", event, strings.Join(events, ", "))
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

// repository is the folder's.
func (f *buildFlags) repository(dir string, git gitInfo) (*drone.Repo, error) {
	slug := f.repo
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

// variables are those of the files, then those of the flags.
func (f *buildFlags) variables() (map[string]string, error) {
	vars, err := readEnvFiles("--env-file", f.envFiles)
	if err != nil {
		return nil, err
	}
	for _, entry := range f.env {
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

// secrets are those of the files, open to pull requests.
func (f *buildFlags) secrets() ([]*drone.Secret, error) {
	vars, err := readEnvFiles("--secret-file", f.secretFiles)
	if err != nil {
		return nil, err
	}
	var out []*drone.Secret
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, &drone.Secret{Name: name, Data: vars[name], PullRequest: true, PullRequestPush: true})
	}
	return out, nil
}

// readEnvFiles reads KEY=VALUE files; later ones win. The parser's own errors quote the file, which may hold secrets, so they aren't shown.
func readEnvFiles(flag string, paths []string) (map[string]string, error) {
	vars := map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		file, err := godotenv.UnmarshalBytes(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %s holds something that isn't KEY=VALUE: write one variable a line, and quote values that hold quotes, spaces or #", flag, path)
		}
		maps.Copy(vars, file)
	}
	return vars, nil
}

// hostname is this machine's, or "localhost".
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
