// Package buildkit judges and carries a stage's calls to BuildKit, which speaks gRPC behind two
// upgraded connections: /grpc, on which a client calls the daemon, and /session, on which the
// daemon calls the client for files, credentials and secrets.
//
// The property: a build takes the stage's own images where it names them, takes no image of another
// stage and none that the stage may not have, makes none under a name that another stage could
// mean, and runs its steps with no more rights than a container.
//
// The one rule to keep: what isn't known is refused: methods, fields of messages, parameters of
// frontends, attributes of exporters.
package buildkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"google.golang.org/grpc/metadata"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// World answers about the daemon's images, and about the daemon.
type World interface {
	// OwnImages returns the daemon's names of the stage's own images.
	OwnImages(ctx context.Context) ([]string, error)
	// FindImage finds an image by what a client calls it, name, which is parsed already. An image
	// that is found is about to be used.
	FindImage(ctx context.Context, name string, ref reference.Named) (Image, error)
	// Withheld returns the shared names of images that the daemon has, and that the stage may not
	// have.
	Withheld(ctx context.Context) ([]string, error)
	// CheckHeld refuses an image that the daemon has, and that the stage may not have.
	CheckHeld(ctx context.Context, ref reference.Named) error
	// Made notes that the stage has made an image.
	Made(id string)
	// Dropped notes that a parameter of a frontend isn't known, and is left out.
	Dropped(parameter string)
	// Gateway returns the address of the daemon's machine on the stage's network.
	Gateway(ctx context.Context) (netip.Addr, error)
	// Version returns the newest version of the API that the daemon and the guard speak.
	Version(ctx context.Context) (string, error)
	// ContainerdImages reports whether the daemon keeps its images in containerd's store.
	ContainerdImages(ctx context.Context) (bool, error)
}

// Image is an image that a build names.
type Image struct {
	// Private is the stage's own name that it was found by; empty if it's a shared one.
	Private string
	// OnBuild are the instructions that it adds to builds upon it.
	OnBuild []string
}

// Options say whose calls a Proxy carries.
type Options struct {
	// ID of the stage.
	ID string
	// Names translates the stage's names.
	Names names.Names
	// CacheScope sets apart what builds keep in cache mounts; see guard.Options.
	CacheScope string
}

// Proxy judges and carries the calls of one stage. It is safe for concurrent use.
type Proxy struct {
	options  Options
	world    World
	sessions *sessions
}

// New returns a Proxy.
func New(o Options, w World) *Proxy { return &Proxy{options: o, world: w, sessions: newSessions()} }

// Serve answers the calls that come on client, an HTTP/2 connection, until it ends. dial opens
// connections to the daemon's BuildKit.
func (p *Proxy) Serve(ctx context.Context, client net.Conn, dial func(context.Context) (net.Conn, error)) error {
	daemon, err := newClient(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) })
	if err != nil {
		return fmt.Errorf("open a way to BuildKit: %w", err)
	}
	known := func(name string) (method, bool) { m, ok := methods[name]; return m, ok }
	r := &carrier{p: p, to: daemon, method: known, metadata: p.requestMetadata}
	r.serve(ctx, client)
	_ = daemon.Close() // it fails only if it's closed already
	return nil
}

// ServeSession carries a session of that id, with a daemon that takes no source policies: the names
// of the stage's own images are put into Dockerfiles, on their way from the client. The daemon is
// the one that calls here.
func (p *Proxy) ServeSession(ctx context.Context, daemon, client net.Conn, id string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var once sync.Once
	dial := func(context.Context, string) (conn net.Conn, err error) {
		err = errors.New("the client has gone")
		once.Do(func() { conn, err = &ending{client, cancel}, nil })
		return conn, err
	}
	to, err := newClient(dial)
	if err != nil {
		return fmt.Errorf("open a way to the client: %w", err)
	}
	to.Connect()
	r := &carrier{p: p, to: to, metadata: func(_ string, md metadata.MD) (metadata.MD, *call) {
		return answerMetadata(md), &call{p: p, session: id, dir: strings.Join(md.Get("dir-name"), "")}
	}, method: func(name string) (method, bool) {
		if name == fileSync {
			return method{relay: syncFiles}, true
		}
		return method{}, true // the client knows what it offers
	}}
	r.serve(ctx, daemon)
	_ = to.Close() // it fails only if it's closed already
	return nil
}

// OpenSession notes that a session is the stage's, by its header, and whether its Dockerfiles are
// rewritten on their way (ServeSession). It changes what the session shares with others.
func (p *Proxy) OpenSession(h http.Header, rewritten bool) error {
	return p.session(httpHeader(h), rewritten)
}

// BuildFromSession notes that POST /build builds from a session, with these build arguments. That
// way has no source policies, so Dockerfiles must be rewritten.
func (p *Proxy) BuildFromSession(ctx context.Context, id string, args map[string]string) error {
	if err := p.sessions.wait(ctx, id); err != nil {
		return err
	}
	if !p.sessions.rewritten(id) {
		return apierror.Refuse(
			"the session "+apierror.Quote(id)+" for POST /build",
			"its Dockerfile isn't read by the guard",
			"use docker buildx build, or open the session with a version of the API below "+PolicyVersion,
		)
	}
	attrs := map[string]string{}
	for k, v := range args {
		attrs["build-arg:"+k] = v
	}
	ref := "session:" + id
	p.sessions.build(ref, id)
	p.sessions.frontend(ref, attrs)
	return nil
}

// buildIDKey is the metadata with which calls of a frontend in the client name their build.
const buildIDKey = "buildkit-controlapi-buildid"

// requestMetadata returns what goes to the daemon with a client's call.
func (p *Proxy) requestMetadata(method string, md metadata.MD) (metadata.MD, *call) {
	c := &call{p: p}
	out := metadata.MD{}
	switch {
	case strings.HasPrefix(method, bridgeService):
		if v := md.Get(buildIDKey); len(v) > 0 && v[0] != "" {
			c.ref = p.Ref(v[0])
			out.Set(buildIDKey, c.ref)
		}
	case method == controlService+"Session":
		for _, k := range SessionHeaders {
			if v := md.Get(k); len(v) > 0 {
				out[strings.ToLower(k)] = v
			}
		}
		if p.session(metadataHeader(out), false) != nil {
			delete(out, strings.ToLower(SessionID)) // BuildKit takes no session without an id
		}
	}
	return out, c
}

// Ref returns the daemon's name for a client's build. With the stage's id in it nobody follows
// another's.
func (p *Proxy) Ref(ref string) string {
	if ref == "" {
		return ""
	}
	return p.options.ID + "-" + strings.TrimPrefix(ref, p.options.ID+"-")
}

// SessionID is the header with a session's id. The others have a name, what it has in common with
// other sessions of the same folder, and the methods that the client answers.
const (
	SessionID        = "X-Docker-Expose-Session-Uuid"
	sessionName      = "X-Docker-Expose-Session-Name"
	sessionSharedKey = "X-Docker-Expose-Session-Sharedkey"
	sessionMethod    = "X-Docker-Expose-Session-Grpc-Method"
)

// SessionHeaders are all headers of a session.
var SessionHeaders = []string{SessionID, sessionName, sessionSharedKey, sessionMethod}

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

// session notes that a session is the stage's, and whether its Dockerfiles are rewritten on their
// way (ServeSession). It changes what the session shares with others: the daemon keeps the files of
// a folder from one session to the next with the same key, and takes a client's word that a file
// hasn't changed. With another stage's key a client would get at its files.
func (p *Proxy) session(h values, rewritten bool) error {
	if id := h.get(SessionID); len(id) > 0 {
		if err := p.sessions.open(id[0], rewritten); err != nil {
			return err
		}
	}
	// An empty key is one, too: many clients set none.
	sum := sha256.Sum256([]byte(p.options.ID + "\x00" + strings.Join(h.get(sessionSharedKey), "\x00")))
	h.set(sessionSharedKey, hex.EncodeToString(sum[:]))
	return nil
}

// ownSession wants a session to be the stage's, and one whose Dockerfiles the guard has read where
// no source policy does its work.
func (p *Proxy) ownSession(ctx context.Context, id string) error {
	if err := p.sessions.wait(ctx, id); err != nil {
		return err
	}
	newest, err := p.world.Version(ctx)
	if err == nil && !apiversion.AtLeast(newest, PolicyVersion) && !p.sessions.rewritten(id) {
		return apierror.Refuse(
			"the session "+apierror.Quote(id),
			"its Dockerfiles aren't read by the guard",
			"open it at /session",
		)
	}
	return err
}
