package compiler

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/distribution/reference"
	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/registry"
	"github.com/drone/runner-go/registry/auths"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	registries "github.com/drone-runner-sysbox/drone-runner-sysbox/internal/registry"
)

// credentials are a user and a password for one registry. source says in a note where they come
// from.
type credentials struct {
	host, address, username, password string
	source                            string
}

// credentials lists all that the build has, in the order in which they are tried:
// image_pull_secrets, of which the last one wins as on Drone's runner, then the operator's plugins
// and files. A secret that holds no credentials is left out with a note: the pull may well do
// without it.
func (b *builder) credentials(ctx context.Context) ([]credentials, error) {
	var out []credentials
	for _, name := range b.args.Pipeline.PullSecrets {
		got, err := b.secrets.find(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("image_pull_secrets: %w", err)
		}
		if !got.ok {
			b.notes = append(b.notes, missingSecret("image_pull_secrets has no effect", name, got, b.args.Build))
			continue
		}
		list, err := auths.ParseString(got.data)
		if err != nil {
			// The parser's error may quote the secret.
			b.notes = append(b.notes, fmt.Sprintf("image_pull_secrets: secret %q is ignored, since it is not a "+
				"Docker config.json: "+
				`write {"auths": {"HOST": {"auth": "BASE64 OF USER:PASSWORD"}}} into it`, name))
			continue
		}
		out = append(known(ordered(list), fmt.Sprintf("secret %q of image_pull_secrets", name)), out...)
	}
	if b.Registry == nil {
		return out, nil
	}
	list, err := b.Registry.List(ctx, &registry.Request{Repo: b.args.Repo, Build: b.args.Build})
	if err != nil {
		return nil, fmt.Errorf("get the registry credentials that the runner's operator provides: %w", err)
	}
	return append(out, known(list, "the runner's configuration")...), nil
}

// known turns one source's list into credentials.
func known(list []*drone.Registry, source string) []credentials {
	var out []credentials
	for _, r := range list {
		if r != nil {
			out = append(out, credentials{registries.Host(r.Address), r.Address, r.Username, r.Password, source})
		}
	}
	return out
}

// ordered sorts what comes out of a config.json. Its entries are those of a JSON object, in no
// order; with one, which of several for the same host counts is the same in every build.
func ordered(list []*drone.Registry) []*drone.Registry {
	slices.SortFunc(list, func(a, b *drone.Registry) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Username, b.Username),
			cmp.Compare(a.Password, b.Password))
	})
	return list
}

// auth finds the credentials for an image, by the host of its registry: the first that match. Nil
// pulls anonymously. The note, if there is one, is for the step's log.
func (b *builder) auth(image string) (auth *spec.Auth, note string) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, ""
	}
	host := registries.Host(reference.Domain(named))
	for _, c := range b.registries {
		switch {
		case c.host != host:
		case c.username == "" && c.password == "":
			note = fmt.Sprintf("%s names %s without a user and password (its auth must be the base64 of "+
				"USER:PASSWORD)", c.source, host)
		default:
			return &spec.Auth{Address: c.address, Username: c.username, Password: spec.Sensitive(c.password)}, ""
		}
	}
	return nil, note
}
