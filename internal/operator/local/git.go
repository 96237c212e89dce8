package local

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
)

// repository is what git knows about a folder. Everything is empty where there is no git, or no
// repository.
type repository struct {
	commit, parent, message   string
	author, email             string
	branch, tag               string
	defaultBranch             string // of the remote
	remote                    string // without credentials
	login, password, hostname string // of the remote, if its address has them
}

// readGit asks git about a folder. What git doesn't know stays empty: a folder needn't be a
// repository.
func readGit(ctx context.Context, dir string) repository {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	git := func(args ...string) string {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0")
		out, err := cmd.Output()
		if err != nil {
			return ""
		}
		return strings.TrimRight(string(out), "\r\n")
	}
	var g repository
	if head := strings.SplitN(git("log", "-1", "--format=%H%x00%P%x00%an%x00%ae%x00%B"), "\x00", 5); len(head) == 5 {
		g.commit, g.author, g.email, g.message = head[0], head[2], head[3], head[4]
		g.parent, _, _ = strings.Cut(head[1], " ")
		g.tag = git("describe", "--tags", "--exact-match", "HEAD")
	}
	g.branch = git("symbolic-ref", "--short", "HEAD")
	g.defaultBranch = strings.TrimPrefix(git("symbolic-ref", "--short", "refs/remotes/origin/HEAD"), "origin/")
	g.setRemote(git("config", "--get", "remote.origin.url"))
	return g
}

// setRemote takes the credentials out of the address, so that no step finds them in
// DRONE_REMOTE_URL.
func (g *repository) setRemote(address string) {
	g.remote = address
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User == nil || !strings.HasPrefix(u.Scheme, "http") {
		return
	}
	g.login, g.hostname = u.User.Username(), u.Hostname()
	g.password, _ = u.User.Password()
	u.User = nil
	g.remote = u.String()
}

// netrc returns the credentials of the remote, or nil.
func (g *repository) netrc() *drone.Netrc {
	if g.login == "" {
		return nil
	}
	return &drone.Netrc{Machine: g.hostname, Login: g.login, Password: g.password}
}

// scpAddress matches git@host:path.
var scpAddress = regexp.MustCompile(`^[^/:]+:([^/].*)$`)

// slugOf returns the namespace and name of the repository at a remote's address, or "".
func slugOf(address string) string {
	path := ""
	if m := scpAddress.FindStringSubmatch(address); m != nil {
		path = m[1]
	} else if u, err := url.Parse(address); err == nil && u.Host != "" {
		path = u.Path
	}
	path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	if !strings.Contains(path, "/") {
		return ""
	}
	return path
}
