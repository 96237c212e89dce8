package guard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/protobuf/proto"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/buildkit"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/tarfile"
)

// The ids of BuildKit's messages in the answer to POST /build.
const (
	traceMessage = "moby.buildkit.trace"
	imageMessage = "moby.image.id"
)

// buildKit has BuildKit build, asked for by POST /build: the way of clients before buildx, and of
// those that only send an archive.
func (b *buildRequest) buildKit(ctx context.Context) error {
	q := b.Query
	mode, err := policy.BuildKitNetwork(b.query.Get("networkmode"))
	if err != nil {
		return err
	}
	if mode != "" {
		q.Set("networkmode", mode)
	}
	for _, k := range []string{"memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems"} {
		q.Del(k) // BuildKit has no such limits
	}
	for _, k := range []string{"platform", "q", "pull"} {
		if v := b.query.Get(k); v != "" {
			q.Set(k, v)
		}
	}
	q.Set("version", "2")
	if args := b.g.kit.ScopeArgs(b.Args); len(args) > 0 {
		text, err := json.Marshal(args)
		if err != nil {
			return err
		}
		q.Set("buildargs", string(text))
	}
	if host := buildkit.ProxyHost(b.Args); host != "" {
		q.Add("extrahosts", host+":127.0.0.1")
	}
	dockerfile := b.query.Get("dockerfile")
	if dockerfile != "" {
		q.Set("dockerfile", dockerfile)
	} else {
		dockerfile = "Dockerfile"
	}
	if id := b.query.Get("buildid"); id != "" {
		q.Set("buildid", b.g.kit.Ref(id))
	}

	out := dockerd.Request{Method: http.MethodPost, Path: "/build", Query: q, Header: b.registryAuth()}
	done := func() error { return nil }
	switch remote := b.query.Get("remote"); remote {
	case "client-session":
		id := b.query.Get("session")
		if err := b.g.kit.BuildFromSession(ctx, id, given(b.Args)); err != nil {
			return err
		}
		q.Set("remote", remote)
		q.Set("session", id)
	case "":
		if b.query.Get("session") != "" {
			return apierror.BadRequest(
				"a build with a session takes its context from there: remote is no client-session",
			)
		}
		out.Header.Set("Content-Type", "application/x-tar")
		out.Body, done = tarfile.Body(b.w, b.r.Body, b.mapped(ctx, dockerfile))
		out.Length = -1
	default:
		return policy.BuildRemote(remote)
	}
	resp, err := b.ask(ctx, out)
	if err != nil {
		return errors.Join(done(), err)
	}
	defer resp.Body.Close()
	m := &messages{call: b.call}
	copied := m.copy(resp.Body, b.traced)
	return m.end(copied, done())
}

// given returns the build arguments that have a value.
func given(args map[string]*string) map[string]string {
	out := map[string]string{}
	for k, v := range args {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}

// mapped puts the names of the stage's own images into the Dockerfile of a context.
func (b *buildRequest) mapped(ctx context.Context, dockerfile string) tarfile.Edit {
	name := cleanFile(dockerfile)
	lower := name
	if name == "Dockerfile" {
		lower = "dockerfile" // BuildKit's own fallback
	}
	args := given(b.Args)
	return tarfile.Edit{
		Wanted: func(n string) bool { return n == name || n == lower },
		Rest: func(taken []tarfile.File) ([]tarfile.File, error) {
			for i := range taken {
				var err error
				if taken[i].Data, err = b.g.kit.Dockerfile(ctx, taken[i].Data, args); err != nil {
					return nil, err
				}
			}
			return taken, nil
		},
	}
}

// traced returns a message of BuildKit's as the client sees it.
func (b *buildRequest) traced(raw []byte) []byte {
	var m struct {
		ID  string          `json:"id"`
		Aux json.RawMessage `json:"aux"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return b.message(raw, nil)
	}
	switch m.ID {
	case traceMessage:
		var bytes []byte
		var status controlapi.StatusResponse
		if json.Unmarshal(m.Aux, &bytes) != nil || proto.Unmarshal(bytes, &status) != nil {
			return nil
		}
		b.g.kit.ShowStatus(&status)
		bytes, err := proto.Marshal(&status)
		if err != nil {
			return nil
		}
		out, err := json.Marshal(map[string]any{"id": m.ID, "aux": bytes})
		if err != nil {
			return nil
		}
		return out
	case imageMessage:
		var made struct{ ID string }
		if json.Unmarshal(m.Aux, &made) == nil {
			if id, ok := names.ImageID(made.ID); ok {
				b.g.images.remember(id)
			}
		}
	}
	return b.message(raw, nil)
}

// cancelBuild cancels one of the stage's own builds with BuildKit.
func cancelBuild(ctx context.Context, c *call) error {
	id := c.query.Get("id")
	if id == "" {
		return apierror.BadRequest("build ID not provided")
	}
	return c.send(
		ctx,
		dockerd.Request{Method: http.MethodPost, Path: "/build/cancel", Query: url.Values{"id": {c.g.kit.Ref(id)}}},
	)
}
