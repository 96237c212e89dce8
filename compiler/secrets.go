package compiler

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/secret"
)

// secretFinder looks secrets up for one build, each name once.
type secretFinder struct {
	repository, encrypted, operator secret.Provider
	args                            Args
	found                           map[string]foundSecret
}

// foundSecret is the answer for one name. Without ok, why says in a few words what stood in the
// way, or is empty where the name is unknown.
type foundSecret struct {
	data string
	ok   bool
	why  string
}

func newSecretFinder(operator secret.Provider, a Args) *secretFinder {
	return &secretFinder{
		repository: secret.Static(a.Secrets),
		encrypted:  secret.Encrypted(),
		operator:   operator,
		args:       a,
		found:      map[string]foundSecret{},
	}
}

// find asks the repository's secrets, those encrypted in the file, then the operator's static and
// external ones. The first that has a value wins; a secret that is empty everywhere is there, and
// empty. An error means that a provider failed, not that the secret is missing.
func (f *secretFinder) find(ctx context.Context, name string) (foundSecret, error) {
	if got, ok := f.found[name]; ok {
		return got, nil
	}
	got, err := f.lookup(ctx, name)
	if err == nil {
		f.found[name] = got
	}
	return got, err
}

func (f *secretFinder) lookup(ctx context.Context, name string) (foundSecret, error) {
	var got foundSecret
	in := &secret.Request{Name: name, Repo: f.args.Repo, Build: f.args.Build, Conf: f.args.Manifest}
	for _, p := range []secret.Provider{f.repository, f.encrypted, f.operator} {
		if p == nil {
			continue
		}
		s, err := p.Find(ctx, in)
		switch {
		case err != nil && p == f.encrypted:
			// Copied from another repository, say, whose key this one doesn't have. Drone runs such
			// a build without the secret.
			got.why = "it is encrypted in the file, and this repository's key doesn't decrypt it"
		case refused(err) != "":
			got.why = refused(err)
		case err != nil:
			return got, fmt.Errorf("get secret %q: %w", name, err)
		case s == nil:
		case s.Data != "":
			return foundSecret{data: s.Data, ok: true}, nil
		default:
			got.ok = true
		}
	}
	return got, nil
}

// refused is the text of a plugin that answers "not for this build". Plugins made with drone-go say
// so, and that they don't know a secret, by status 404 (https://github.com/drone/drone-go,
// plugin/secret/handler.go); every other failure is one.
func refused(err error) string {
	var answer *drone.Error
	if errors.As(err, &answer) && answer.Code == http.StatusNotFound {
		return fmt.Sprintf("the secret plugin answered %q", answer.Message)
	}
	return ""
}

// addSecret sets a variable to a secret. The variable of one that this build doesn't get is there
// and empty, with a note: scripts with set -u, and os.environ["X"], count on it.
func (b *builder) addSecret(ctx context.Context, env environment, variable, name string, notes *[]string) error {
	got, err := b.secrets.find(ctx, name)
	if err != nil {
		return err
	}
	if !got.ok {
		*notes = append(*notes, missingSecret(variable+" is empty", name, got, b.args.Build))
	}
	env.hide(variable, name, got.data)
	return nil
}

// missingSecret is a note: the effect, the secret, and why.
func missingSecret(effect, name string, got foundSecret, build *drone.Build) string {
	why := got.why
	switch {
	case why != "":
	case build.Event == drone.EventPullRequest:
		why = "there is none of this name that is open to pull requests"
	default:
		why = "there is none of this name"
	}
	return fmt.Sprintf("%s: this build doesn't get secret %q: %s", effect, name, why)
}
