package buildkit

import (
	"context"
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

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// messageLimit bounds a message of BuildKit's, in bytes. Its own clients and daemons take 16 MiB.
const messageLimit = 32 << 20

// method is the policy of a method of BuildKit's.
type method struct {
	// refused says why the method isn't for builds.
	refused string
	// answer is given in place of asking the daemon; nil asks it.
	answer func(context.Context, *call, grpc.ServerStream) error
	// request and response judge and change each message of a direction; nil passes them as they
	// are.
	request  func(context.Context, *call, []byte) ([]byte, error)
	response func(*call, []byte) ([]byte, error)
	// relay carries the call in place of that; nil is relayAll.
	relay func(ctx context.Context, r *carrier, c *call, in grpc.ServerStream, out grpc.ClientStream) error
}

// call is one call of a method.
type call struct {
	p *Proxy
	// ref of the build that the call belongs to, as the daemon knows it; for calls by the frontends
	// that run in clients.
	ref string
	// session and dir are for calls of the daemon's, for a folder of the client's.
	session, dir string
	method       method
	cancel       func() // ends the call
}

// frame is a message, encoded.
type frame struct{ b []byte }

// rawCodec leaves messages encoded.
type rawCodec struct{}

// Marshal returns the bytes of a frame.
func (rawCodec) Marshal(v any) ([]byte, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("a message of type %T is none of the guard's", v)
	}
	return f.b, nil
}

// Unmarshal makes a frame of bytes.
func (rawCodec) Unmarshal(b []byte, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("a message of type %T is none of the guard's", v)
	}
	f.b = slices.Clone(b)
	return nil
}

// Name returns that of the format that the bytes are in.
func (rawCodec) Name() string { return "proto" }

// newClient calls over connections that dial makes.
func newClient(dial func(context.Context, string) (net.Conn, error)) (*grpc.ClientConn, error) {
	return grpc.NewClient(
		"passthrough:///buildkit",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dial),
		grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodec(rawCodec{}),
			grpc.MaxCallRecvMsgSize(messageLimit),
			grpc.MaxCallSendMsgSize(messageLimit),
		),
	)
}

// carrier serves one connection, and makes the calls that come on it on another.
type carrier struct {
	p  *Proxy
	to *grpc.ClientConn
	// method is the policy of a method; false for unknown ones.
	method func(name string) (method, bool)
	// metadata is what goes on of a call's, and what call it is.
	metadata func(method string, md metadata.MD) (metadata.MD, *call)

	calls sync.WaitGroup
}

// serve answers calls until the connection ends.
func (r *carrier) serve(ctx context.Context, conn net.Conn) {
	s := grpc.NewServer(
		grpc.UnknownServiceHandler(r.handle),
		grpc.ForceServerCodec(rawCodec{}),
		grpc.MaxRecvMsgSize(messageLimit),
		grpc.MaxSendMsgSize(messageLimit),
	)
	l := &oneConn{Conn: conn, gone: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // ends with Stop
	<-l.gone
	s.Stop()
	serving.Wait()
	r.calls.Wait()
}

// oneConn is a listener that has one connection, and that connection.
type oneConn struct {
	net.Conn
	gone chan struct{}

	mu     sync.Mutex
	given  bool
	closed bool
}

// Accept returns the connection, and then waits for its end.
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

// Addr returns the connection's.
func (o *oneConn) Addr() net.Addr { return o.LocalAddr() }

// handle makes a call.
func (r *carrier) handle(_ any, in grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(in)
	m, known := r.method(name)
	switch {
	case !known:
		return status.Errorf(codes.Unimplemented, "the method %s is refused: the guard doesn't know it", name)
	case m.refused != "":
		return status.Errorf(codes.PermissionDenied, "the method %s is refused: %s", name, m.refused)
	}
	md, _ := metadata.FromIncomingContext(in.Context())
	md, call := r.metadata(name, md)
	if m.answer != nil {
		return r.wordStatus(m.answer(in.Context(), call, in))
	}
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(in.Context(), md))
	defer cancel()
	out, err := r.to.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name)
	if err != nil {
		return r.wordStatus(err)
	}
	call.method, call.cancel = m, cancel
	if m.relay != nil {
		return r.wordStatus(m.relay(ctx, r, call, in, out))
	}
	return r.wordStatus(relayAll(ctx, r, call, in, out))
}

// relayAll carries a call's messages both ways.
func relayAll(ctx context.Context, r *carrier, c *call, in grpc.ServerStream, out grpc.ClientStream) error {
	refused := make(chan error, 1)
	r.calls.Go(func() {
		if err := r.copyIn(ctx, c.method, c, in, out); err != nil {
			refused <- err
			c.cancel()
		}
	})
	err := r.copyOut(c.method, c, in, out)
	select {
	case reason := <-refused:
		return reason
	default:
		return err
	}
}

// copyIn carries what the caller says.
func (r *carrier) copyIn(
	ctx context.Context,
	m method,
	call *call,
	in grpc.ServerStream,
	out grpc.ClientStream,
) error {
	for {
		var f frame
		err := in.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return out.CloseSend()
		}
		if err != nil {
			return nil // the call's context has ended with it
		}
		if m.request != nil {
			if f.b, err = judged(func() ([]byte, error) { return m.request(ctx, call, f.b) }); err != nil {
				return err
			}
		}
		if err := out.SendMsg(&f); err != nil {
			return nil // copyOut gets the reason
		}
	}
}

// copyOut carries the answers, and the call's end.
func (r *carrier) copyOut(m method, call *call, in grpc.ServerStream, out grpc.ClientStream) error {
	header, err := out.Header()
	if err != nil {
		return err
	}
	if err := in.SendHeader(answerMetadata(header)); err != nil {
		return err
	}
	for {
		var f frame
		err := out.RecvMsg(&f)
		if err != nil {
			in.SetTrailer(answerMetadata(out.Trailer()))
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if m.response != nil {
			if f.b, err = judged(func() ([]byte, error) { return m.response(call, f.b) }); err != nil {
				return err
			}
		}
		if err := in.SendMsg(&f); err != nil {
			return err
		}
	}
}

// judged returns what a policy makes of a message. A message that it can't stand ends its call, and
// not the runner: no server catches this panic, as net/http does.
func judged(policy func() ([]byte, error)) (b []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			b, err = nil, apierror.BadRequest("a message of BuildKit's can't be read: %v", p)
		}
	}()
	return policy()
}

// wordStatus is an error as the caller gets it.
func (r *carrier) wordStatus(err error) error {
	if err == nil {
		return nil
	}
	var no apierror.Refusal
	var e apierror.Status
	if errors.As(err, &no) {
		return status.Error(codes.PermissionDenied, no.Error())
	}
	if errors.As(err, &e) {
		code := codes.InvalidArgument
		switch {
		case e.Code == http.StatusNotFound:
			code = codes.NotFound
		case e.Code >= 500:
			code = codes.Unavailable
		}
		return status.Error(code, r.p.options.Names.Unscope(e.Message))
	}
	s, _ := status.FromError(err)
	pb := s.Proto() // a copy
	pb.Message = r.p.options.Names.Unscope(pb.Message)
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
