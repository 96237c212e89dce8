package compiler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/clone"
	"github.com/drone/runner-go/environ"
	"github.com/drone/runner-go/environ/provider"
	"github.com/drone/runner-go/manifest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// defaultPath is what $PATH means in a PATH that a pipeline sets: the search path of nearly every
// image. The image's own isn't known before it has been pulled.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is a step's variables, plain ones and secrets under one name each, so that what is
// set later wins whatever it replaces.
type environment map[string]variable

// variable is text, or a secret.
type variable struct {
	text   string
	secret *spec.Secret
}

// set makes a variable plain text. A name with a = in it ends there, as it does where a container's
// environment is a list of NAME=VALUE: {"A=b": c} is A with the value b=c.
func (e environment) set(name, text string) {
	if short, rest, found := strings.Cut(name, "="); found && short != "" {
		name, text = short, rest+"="+text
	}
	e[name] = variable{text: text}
}

func (e environment) setAll(vars map[string]string) {
	for name, text := range vars {
		e.set(name, text)
	}
}

// describe sets what the runner knows about the build. What has no value there is unset, whatever
// set it before: Drone's runner leaves such variables out, and scripts ask [ -n "${DRONE_TAG+set}"
// ].
func (e environment) describe(vars map[string]string) {
	for name, text := range vars {
		if text == "" {
			delete(e, name)
		} else {
			e.set(name, text)
		}
	}
}

// dropEmptySettings unsets the settings without a value: to a plugin PLUGIN_X="" is a value that
// was given, and plugins/docker fails on several. Secrets stay, as they do on Drone's runner.
func (e environment) dropEmptySettings() {
	maps.DeleteFunc(e, func(name string, v variable) bool {
		return v.secret == nil && v.text == "" && strings.HasPrefix(name, settingPrefix)
	})
}

// hide makes a variable of that name a secret. secretName is what the pipeline calls it.
func (e environment) hide(name, secretName, data string) {
	e[name] = variable{secret: &spec.Secret{Name: secretName, Env: name, Data: spec.Sensitive(data)}}
}

// split gives the plain variables, and the secrets in the order of their variables.
func (e environment) split() (map[string]string, []*spec.Secret) {
	plain := map[string]string{}
	var secrets []*spec.Secret
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if v := e[name]; v.secret != nil {
			secrets = append(secrets, v.secret)
		} else {
			plain[name] = v.text
		}
	}
	return plain, secrets
}

// maxVariable is what Linux takes as one string of a process's environment, NAME=VALUE and the byte
// that ends it (MAX_ARG_STRLEN in linux/binfmts.h).
const maxVariable = 128 << 10

// check refuses names and values that no process could be given.
func (e environment) check() error {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(e)) {
		v := e[name]
		size := len(name) + len(v.text) + 2
		if v.secret != nil {
			size += len(v.secret.Data)
		}
		total += size
		switch {
		case size > maxVariable && name == scriptVariable:
			return fmt.Errorf("commands: they and their echo make a script of %d bytes, and Linux takes %d: move "+
				"some into a file of the repository", size, maxVariable)
		case size > maxVariable:
			return fmt.Errorf("environment: %s has %d bytes, and Linux takes %d for one variable: pass it in a "+
				"file", name, size, maxVariable)
		case total > maxEnvironment:
			return fmt.Errorf("environment: the variables have more than %d bytes, and Linux takes no more: pass "+
				"some in files", maxEnvironment)
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return fmt.Errorf("environment: %q can't be the name of a variable: it must not be empty nor hold = "+
				"or NUL", name)
		case strings.Contains(v.text, "\x00") || v.secret != nil && strings.Contains(string(v.secret.Data), "\x00"):
			return fmt.Errorf("environment: the value of %q holds a NUL byte, which no variable can", name)
		}
	}
	return nil
}

// environment is what every step starts from. The order is Drone's, and later wins: the operator's
// variables, parameters of the build, the pipeline's own, proxies, then what describes the system,
// the repository, the build, the stage and the link to it, and who authored the commit.
func (b *builder) environment(ctx context.Context) (environment, error) {
	a := b.args
	env := environment{}
	if b.Environ != nil {
		vars, err := b.Environ.List(ctx, &provider.Request{Repo: a.Repo, Build: a.Build})
		if err != nil {
			return nil, fmt.Errorf("get the environment that the runner's operator provides: %w", err)
		}
		for _, v := range vars {
			switch {
			case v == nil:
			case v.Mask:
				env.hide(v.Name, v.Name, v.Data)
			default:
				env.set(v.Name, v.Data)
			}
		}
	}
	env.setAll(a.Build.Params)
	if err := b.addVariables(ctx, env, a.Pipeline.Environment, &b.notes); err != nil {
		return nil, err
	}
	env.setAll(b.Proxy)
	env.describe(Metadata(a.System, a.Repo, a.Build, a.Stage, b.now))
	env.describe(clone.Environ(clone.Config{
		SkipVerify: a.Pipeline.Clone.SkipVerify,
		Trace:      a.Pipeline.Clone.Trace,
		User:       clone.User{Name: a.Build.AuthorName, Email: a.Build.AuthorEmail},
	}))

	env.describe(map[string]string{
		"DRONE_DOCKER_NETWORK_ID": b.spec.Network.Name,
		"DRONE_DOCKER_VOLUME_ID":  b.workspaceVolume(),
		"DRONE_WORKSPACE":         b.workspace.full,
		"DRONE_WORKSPACE_BASE":    b.workspace.base,
		"DRONE_WORKSPACE_PATH":    b.workspace.path,
	})
	return env, nil
}

// Metadata are Drone's variables that describe a build, without what its pipeline says. now stands
// in for times that are still zero. No argument may be nil.
func Metadata(system *drone.System, repo *drone.Repo, build *drone.Build, stage *drone.Stage,
	now time.Time) map[string]string {
	// runner-go follows the pointers in these lists, and a server's JSON may hold null there.
	cleanBuild, cleanStage := *build, *stage
	cleanBuild.Stages = withoutNil(build.Stages)
	cleanStage.Steps = withoutNil(stage.Steps)
	env := environ.Combine(
		environ.System(system),
		environ.Repo(repo),
		environ.Build(&cleanBuild),
		environ.Stage(&cleanStage),
		environ.Link(repo, build, system),
	)
	// runner-go reads the clock for these; a spec must not depend on when it was compiled.
	for name, at := range map[string]int64{
		"DRONE_BUILD_STARTED":  build.Started,
		"DRONE_BUILD_FINISHED": build.Finished,
		"DRONE_STAGE_STARTED":  stage.Started,
		"DRONE_STAGE_FINISHED": stage.Stopped,
	} {
		if at == 0 {
			at = now.Unix()
		}
		env[name] = fmt.Sprint(at)
	}
	return env
}

// addVariables adds an `environment` of the YAML. A variable whose secret this build doesn't get is
// empty, with a note.
func (b *builder) addVariables(ctx context.Context, env environment, vars map[string]*manifest.Variable,
	notes *[]string) error {
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		v := vars[name]
		switch {
		case v == nil:
			env.set(name, "")
		case v.Secret != "":
			if err := b.addSecret(ctx, env, name, v.Secret, notes); err != nil {
				return fmt.Errorf("environment: %s: %w", name, err)
			}
		case name == "PATH":
			env.set(name, expandPath(v.Value))
		default:
			env.set(name, v.Value)
		}
	}
	return nil
}

// addNetrc adds the credentials of git; the password, and what holds it, as secrets.
func (b *builder) addNetrc(env environment) {
	n := b.args.Netrc
	if n == nil {
		return
	}
	for name, value := range environ.Netrc(n) {
		switch {
		case name == "DRONE_NETRC_MACHINE", name == "DRONE_NETRC_USERNAME" && !loginIsToken(n):
			env.set(name, value)
		default:
			env.hide(name, name, value)
		}
	}
}

// loginIsToken reports whether the login of a netrc is the secret part: GitHub and Gitea take the
// token as the user, with this placeholder as the password.
func loginIsToken(n *drone.Netrc) bool {
	return n.Login != "" && (n.Password == "" || n.Password == "x-oauth-basic")
}

// expandPath replaces $PATH and ${PATH}, and no other variable: there is no environment that a
// pipeline's text may be expanded with. The runner's own holds its secrets.
func expandPath(value string) string {
	value = strings.ReplaceAll(value, "${PATH}", defaultPath)
	var out strings.Builder
	for {
		before, after, found := strings.Cut(value, "$PATH")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if after != "" && isNameByte(after[0]) {
			out.WriteString("$PATH")
		} else {
			out.WriteString(defaultPath)
		}
		value = after
	}
}

func isNameByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
