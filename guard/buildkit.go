package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// messageLimit bounds a message of BuildKit's, in bytes. Its own clients and daemons take 16 MiB.
const messageLimit = 32 << 20

// grpcMethod is the policy of a method of BuildKit's.
type grpcMethod struct {
	// refused says why the method isn't for builds.
	refused string
	// answer is given in place of asking the daemon; nil asks it.
	answer func(context.Context, *grpcCall, grpc.ServerStream) error
	// request and response judge and change each message of a direction; nil passes them as they are.
	request  func(context.Context, *grpcCall, []byte) ([]byte, error)
	response func(*grpcCall, []byte) ([]byte, error)
	// relay carries the call in place of that; nil is relayAll.
	relay func(ctx context.Context, p *grpcProxy, c *grpcCall, in grpc.ServerStream, out grpc.ClientStream) error
}

// grpcCall is one call of a method.
type grpcCall struct {
	g *Guard
	// ref of the build that the call belongs to, as the daemon knows it; for calls by the frontends that run in clients.
	ref string
	// session and dir are for calls of the daemon's, for a folder of the client's.
	session, dir string
	method       grpcMethod
	cancel       func() // ends the call
}

// grpcFrame is a message, encoded.
type grpcFrame struct{ b []byte }

// rawCodec leaves messages encoded.
type rawCodec struct{}

// Marshal gives the bytes of a frame.
func (rawCodec) Marshal(v any) ([]byte, error) {
	f, ok := v.(*grpcFrame)
	if !ok {
		return nil, fmt.Errorf("a message of type %T is none of the guard's", v)
	}
	return f.b, nil
}

// Unmarshal makes a frame of bytes.
func (rawCodec) Unmarshal(b []byte, v any) error {
	f, ok := v.(*grpcFrame)
	if !ok {
		return fmt.Errorf("a message of type %T is none of the guard's", v)
	}
	f.b = slices.Clone(b)
	return nil
}

// Name is that of the format that the bytes are in.
func (rawCodec) Name() string { return "proto" }

// buildKit answers POST /grpc: it ends HTTP/2 here, and forwards calls method by method (grpcMethods).
func buildKit(ctx context.Context, c *call) error {
	if !c.wantsUpgrade("h2c") {
		return badRequest("this endpoint needs an upgrade to h2c")
	}
	client, err := c.hijack()
	if err != nil {
		return err
	}
	defer c.g.release(client)
	if err := c.greet(client, &http.Response{Header: http.Header{"Upgrade": {"h2c"}}}); err != nil {
		return errAnswered // the client has gone
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, resp, err := c.g.up.upgrade(ctx, outgoing{method: http.MethodPost, path: "/grpc"}, "h2c")
		if err != nil {
			return nil, err
		}
		if conn == nil {
			return nil, errors.Join(answerError(resp), resp.Body.Close())
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
	return errAnswered
}

// grpcClient calls over connections that dial makes.
func grpcClient(dial func(context.Context, string) (net.Conn, error)) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///buildkit",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dial),
		grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(messageLimit), grpc.MaxCallSendMsgSize(messageLimit)),
	)
}

// grpcProxy serves one connection, and makes the calls that come on it on another.
type grpcProxy struct {
	g  *Guard
	to *grpc.ClientConn
	// method is the policy of a method; false for unknown ones.
	method func(name string) (grpcMethod, bool)
	// metadata is what goes on of a call's, and what call it is.
	metadata func(method string, md metadata.MD) (metadata.MD, *grpcCall)

	calls sync.WaitGroup
}

// serve answers calls until the connection ends.
func (p *grpcProxy) serve(ctx context.Context, conn net.Conn) {
	s := grpc.NewServer(grpc.UnknownServiceHandler(p.handle), grpc.ForceServerCodec(rawCodec{}), grpc.MaxRecvMsgSize(messageLimit), grpc.MaxSendMsgSize(messageLimit))
	l := &oneConn{Conn: conn, gone: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // ends with Stop
	<-l.gone
	s.Stop()
	serving.Wait()
	p.calls.Wait()
}

// oneConn is a listener that has one connection, and that connection.
type oneConn struct {
	net.Conn
	gone chan struct{}

	mu     sync.Mutex
	given  bool
	closed bool
}

// Accept gives the connection, and then waits for its end.
func (o *oneConn) Accept() (net.Conn, error) {
	o.mu.Lock()
	given := o.given
	o.given = true
	o.mu.Unlock()
	if !given {
		return o, nil
	}
	<-o.gone
	return nil, net.ErrClosed
}

// Close ends it.
func (o *oneConn) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	close(o.gone)
	return o.Conn.Close()
}

// Addr is the connection's.
func (o *oneConn) Addr() net.Addr { return o.LocalAddr() }

// handle makes a call.
func (p *grpcProxy) handle(_ any, in grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(in)
	m, known := p.method(name)
	switch {
	case !known:
		return status.Errorf(codes.Unimplemented, "the method %s is refused: the guard doesn't know it", name)
	case m.refused != "":
		return status.Errorf(codes.PermissionDenied, "the method %s is refused: %s", name, m.refused)
	}
	md, _ := metadata.FromIncomingContext(in.Context())
	md, call := p.metadata(name, md)
	if m.answer != nil {
		return p.wordStatus(m.answer(in.Context(), call, in))
	}
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(in.Context(), md))
	defer cancel()
	out, err := p.to.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name)
	if err != nil {
		return p.wordStatus(err)
	}
	call.method, call.cancel = m, cancel
	if m.relay != nil {
		return p.wordStatus(m.relay(ctx, p, call, in, out))
	}
	return p.wordStatus(relayAll(ctx, p, call, in, out))
}

// relayAll carries a call's messages both ways.
func relayAll(ctx context.Context, p *grpcProxy, c *grpcCall, in grpc.ServerStream, out grpc.ClientStream) error {
	refused := make(chan error, 1)
	p.calls.Go(func() {
		if err := p.copyIn(ctx, c.method, c, in, out); err != nil {
			refused <- err
			c.cancel()
		}
	})
	err := p.copyOut(c.method, c, in, out)
	select {
	case reason := <-refused:
		return reason
	default:
		return err
	}
}

// copyIn carries what the caller says.
func (p *grpcProxy) copyIn(ctx context.Context, m grpcMethod, call *grpcCall, in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var f grpcFrame
		err := in.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return out.CloseSend()
		}
		if err != nil {
			return nil // the call's context has ended with it
		}
		if m.request != nil {
			if f.b, err = m.request(ctx, call, f.b); err != nil {
				return err
			}
		}
		if err := out.SendMsg(&f); err != nil {
			return nil // copyOut gets the reason
		}
	}
}

// copyOut carries the answers, and the call's end.
func (p *grpcProxy) copyOut(m grpcMethod, call *grpcCall, in grpc.ServerStream, out grpc.ClientStream) error {
	header, err := out.Header()
	if err != nil {
		return err
	}
	if err := in.SendHeader(answerMetadata(header)); err != nil {
		return err
	}
	for {
		var f grpcFrame
		err := out.RecvMsg(&f)
		if err != nil {
			in.SetTrailer(answerMetadata(out.Trailer()))
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if m.response != nil {
			if f.b, err = m.response(call, f.b); err != nil {
				return err
			}
		}
		if err := in.SendMsg(&f); err != nil {
			return err
		}
	}
}

// wordStatus is an error as the caller gets it.
func (p *grpcProxy) wordStatus(err error) error {
	if err == nil {
		return nil
	}
	var r refusal
	var e statusError
	if errors.As(err, &r) {
		return status.Error(codes.PermissionDenied, r.Error())
	}
	if errors.As(err, &e) {
		code := codes.InvalidArgument
		switch {
		case e.status == http.StatusNotFound:
			code = codes.NotFound
		case e.status >= 500:
			code = codes.Unavailable
		}
		return status.Error(code, p.g.names.unscope(e.message))
	}
	s, _ := status.FromError(err)
	pb := s.Proto() // a copy
	pb.Message = p.g.names.unscope(pb.Message)
	return status.FromProto(pb).Err()
}

// answerMetadata leaves out what belongs to the connection.
func answerMetadata(md metadata.MD) metadata.MD {
	out := metadata.MD{}
	for k, v := range md {
		if !strings.HasPrefix(k, ":") && k != "content-type" && !strings.HasPrefix(k, "grpc-") {
			out[k] = v
		}
	}
	return out
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
		g.session(metadataHeader(out))
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

// session notes that a session is the build's, and changes what it shares with others: the daemon keeps the files of a folder from one session to the next with the same key, and
// takes a client's word that a file hasn't changed. With another build's key a client would get at its files.
func (g *Guard) session(h values) {
	if id := h.get(sessionUUID); len(id) > 0 {
		g.sessions.open(id[0])
	}
	if key := h.get(sessionSharedKey); len(key) > 0 && key[0] != "" {
		sum := sha256.Sum256([]byte(g.opts.ID + "\x00" + key[0]))
		h.set(sessionSharedKey, hex.EncodeToString(sum[:]))
	}
}

// buildSession answers POST /session: the connection on which the daemon calls the client, for files of the context, credentials and secrets. On it the daemon is HTTP/2's client,
// and takes no requests, so it's carried as it is.
func buildSession(ctx context.Context, c *call) error {
	if !c.wantsUpgrade("h2c") {
		return badRequest("this endpoint needs an upgrade to h2c")
	}
	h := http.Header{}
	for _, k := range []string{sessionUUID, sessionName, sessionSharedKey, sessionMethod} {
		if v := c.r.Header.Values(k); len(v) > 0 {
			h[http.CanonicalHeaderKey(k)] = v
		}
	}
	if h.Get(sessionUUID) == "" {
		return badRequest("the session has no id")
	}
	c.g.session(httpHeader(h))
	out := outgoing{method: http.MethodPost, path: "/session", header: h}
	newest, _, err := c.g.up.versions(ctx)
	if err != nil {
		return err
	}
	if !atLeast(newest, policyVersion) || !atLeast(c.version, policyVersion) { // the client may build by POST /build, which has no policies
		return proxySession(ctx, c, out)
	}
	return c.tunnelAs(ctx, out, "h2c")
}
