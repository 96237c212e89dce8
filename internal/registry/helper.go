package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
)

// helperTime bounds a call of a helper. One that asks its user something would wait for ever.
const helperTime = 30 * time.Second

// Credentials are a user's at one registry. With the user TokenUser, the password is an identity
// token, as helpers and Docker's own client write it.
type Credentials struct{ Address, Username, Password string }

// TokenUser stands in place of a user.
const TokenUser = "<token>"

// Helped asks the credential helpers that a Docker config.json names, credHelpers before
// credsStore, for what they know: docker-credential-NAME of each, which must be in PATH. An empty
// path, and a file without helpers, have none.
//
// The file must be the operator's: to name a helper is to run a program.
func Helped(ctx context.Context, path string) ([]Credentials, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the Docker configuration: %w", err)
	}
	var config struct {
		Store   string            `json:"credsStore"`
		Helpers map[string]string `json:"credHelpers"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("read the Docker configuration %s: %w", path, err)
	}
	var out []Credentials
	for _, address := range slices.Sorted(maps.Keys(config.Helpers)) {
		if out, err = ask(ctx, out, config.Helpers[address], address); err != nil {
			return nil, err
		}
	}
	if config.Store == "" {
		return out, nil
	}
	known, err := client.List(program(ctx, config.Store))
	if err != nil {
		return nil, fmt.Errorf("list the credentials of docker-credential-%s (credsStore): %w", config.Store, err)
	}
	for _, address := range slices.Sorted(maps.Keys(known)) {
		if out, err = ask(ctx, out, config.Store, address); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ask adds what a helper has for a registry.
func ask(ctx context.Context, to []Credentials, helper, address string) ([]Credentials, error) {
	got, err := client.Get(program(ctx, helper), address)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return to, nil
	case err != nil:
		return nil, fmt.Errorf("get the credentials for %s from docker-credential-%s: %w", address, helper, err)
	}
	return append(to, Credentials{Address: address, Username: got.Username, Password: got.Secret}), nil
}

// program runs a helper, no longer than ctx.
func program(ctx context.Context, helper string) client.ProgramFunc {
	return func(args ...string) client.Program {
		return &run{ctx: ctx, name: "docker-credential-" + helper, args: args}
	}
}

// run is one call of a helper.
type run struct {
	ctx   context.Context //nolint:containedctx // client.Program has no context, and lives for one call
	name  string
	args  []string
	input io.Reader
}

// Input is what the helper reads.
func (r *run) Input(in io.Reader) { r.input = in }

// Output is what the helper prints, errors included: it has no other way to say what is wrong.
func (r *run) Output() ([]byte, error) {
	if strings.ContainsRune(r.name, '/') {
		return nil, errors.New("a helper is named by what follows docker-credential- in the name of its program")
	}
	ctx, cancel := context.WithTimeout(r.ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.name, r.args...)
	cmd.Stdin = r.input
	cmd.WaitDelay = time.Second
	return cmd.Output()
}
