package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// buildKit answers POST /grpc: it ends HTTP/2 here, and forwards calls method by method (grpcMethods).
func buildKit(ctx context.Context, c *call) error {
	if !c.wantsUpgrade("h2c") {
		return apierror.BadRequest("this endpoint needs an upgrade to h2c")
	}
	client, err := c.hijack(http.Header{"Upgrade": {"h2c"}})
	if err != nil {
		return err
	}
	defer c.g.release(client)
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, resp, err := c.g.up.Upgrade(ctx, dockerd.Request{Method: http.MethodPost, Path: "/grpc"}, "h2c")
		if err != nil {
			return nil, err
		}
		if conn == nil {
			return nil, errors.Join(dockerd.AnswerError(resp), resp.Body.Close())
		}
		return conn, nil
	}
	daemon, err := grpcClient(dial)
	if err != nil {
		return fmt.Errorf("open a way to BuildKit: %w", err)
	}
	p := &grpcProxy{g: c.g, to: daemon, method: func(name string) (grpcMethod, bool) { m, ok := grpcMethods[name]; return m, ok }, metadata: c.g.requestMetadata}
	p.serve(ctx, client)
	_ = daemon.Close() // it fails only if it's closed already
	return dockerd.ErrAnswered
}

// buildIDKey is the metadata with which calls of a frontend in the client name their build.
const buildIDKey = "buildkit-controlapi-buildid"

// requestMetadata is what goes to the daemon with a client's call.
func (g *Guard) requestMetadata(method string, md metadata.MD) (metadata.MD, *grpcCall) {
	call := &grpcCall{g: g}
	out := metadata.MD{}
	switch {
	case strings.HasPrefix(method, bridgeService):
		if v := md.Get(buildIDKey); len(v) > 0 && v[0] != "" {
			call.ref = g.buildRef(v[0])
			out.Set(buildIDKey, call.ref)
		}
	case method == controlService+"Session":
		for _, k := range []string{sessionUUID, sessionName, sessionSharedKey, sessionMethod} {
			if v := md.Get(k); len(v) > 0 {
				out[strings.ToLower(k)] = v
			}
		}
		if g.session(metadataHeader(out), false) != nil {
			delete(out, strings.ToLower(sessionUUID)) // BuildKit takes no session without an id
		}
	}
	return out, call
}

// buildRef is the daemon's name for a client's build. With the build's id in it nobody follows another's.
func (g *Guard) buildRef(ref string) string {
	if ref == "" {
		return ""
	}
	return g.opts.ID + "-" + strings.TrimPrefix(ref, g.opts.ID+"-")
}

// The headers of a session: its id, a name, what it has in common with other sessions of the same folder, and the methods that the client answers.
const (
	sessionUUID      = "X-Docker-Expose-Session-Uuid"
	sessionName      = "X-Docker-Expose-Session-Name"
	sessionSharedKey = "X-Docker-Expose-Session-Sharedkey"
	sessionMethod    = "X-Docker-Expose-Session-Grpc-Method"
)

// values are headers or metadata.
type values interface {
	get(key string) []string
	set(key, value string)
}

type metadataHeader metadata.MD

func (m metadataHeader) get(key string) []string { return metadata.MD(m).Get(key) }
func (m metadataHeader) set(key, value string)   { metadata.MD(m).Set(key, value) }

type httpHeader http.Header

func (h httpHeader) get(key string) []string { return http.Header(h).Values(key) }
func (h httpHeader) set(key, value string)   { http.Header(h).Set(key, value) }

// session notes that a session is the build's, and whether its Dockerfiles are rewritten on their way (proxySession). It changes what the session shares with others: the daemon keeps the files of a folder from one session to the next with the same key, and
// takes a client's word that a file hasn't changed. With another build's key a client would get at its files.
func (g *Guard) session(h values, rewritten bool) error {
	if id := h.get(sessionUUID); len(id) > 0 {
		if err := g.sessions.open(id[0], rewritten); err != nil {
			return err
		}
	}
	// An empty key is one, too: many clients set none.
	sum := sha256.Sum256([]byte(g.opts.ID + "\x00" + strings.Join(h.get(sessionSharedKey), "\x00")))
	h.set(sessionSharedKey, hex.EncodeToString(sum[:]))
	return nil
}

// ownSession wants a session to be the build's, and one whose Dockerfiles the guard has read where no source policy does its work.
func (g *Guard) ownSession(ctx context.Context, id string) error {
	if err := g.sessions.wait(ctx, id); err != nil {
		return err
	}
	newest, _, err := g.up.Versions(ctx)
	if err == nil && !dockerd.AtLeast(newest, policyVersion) && !g.sessions.rewritten(id) {
		return apierror.Refuse("the session "+apierror.Quote(id), "its Dockerfiles aren't read by the guard", "open it at /session")
	}
	return err
}

// buildSession answers POST /session: the connection on which the daemon calls the client, for files of the context, credentials and secrets. On it the daemon is HTTP/2's client,
// and takes no requests, so it's carried as it is.
func buildSession(ctx context.Context, c *call) error {
	if !c.wantsUpgrade("h2c") {
		return apierror.BadRequest("this endpoint needs an upgrade to h2c")
	}
	h := http.Header{}
	for _, k := range []string{sessionUUID, sessionName, sessionSharedKey, sessionMethod} {
		if v := c.r.Header.Values(k); len(v) > 0 {
			h[http.CanonicalHeaderKey(k)] = v
		}
	}
	if h.Get(sessionUUID) == "" {
		return apierror.BadRequest("the session has no id")
	}
	newest, _, err := c.g.up.Versions(ctx)
	if err != nil {
		return err
	}
	rewritten := !dockerd.AtLeast(newest, policyVersion) || !dockerd.AtLeast(c.version, policyVersion) // the client may build by POST /build, which has no policies
	if err := c.g.session(httpHeader(h), rewritten); err != nil {
		return err
	}
	out := dockerd.Request{Method: http.MethodPost, Path: "/session", Header: h}
	if rewritten {
		return proxySession(ctx, c, out)
	}
	return c.tunnelAs(ctx, out, "h2c")
}
