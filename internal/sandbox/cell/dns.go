package cell

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// A cell can't use the system container's resolvers as they are: Docker's own, 127.0.0.11, answers
// in one network namespace alone. So queries are handed on, as the bytes that they are.

const (
	// maxQueries bounds what one cell has in flight. Its resolver asks again.
	maxQueries = 256
	// resolverPatience is how long an answer may take before the next resolver is asked.
	resolverPatience = 3 * time.Second
	// maxMessage is the longest DNS message over UDP (RFC 6891 sets none, UDP does).
	maxMessage = 64 << 10
)

// resolver is the end of a cable that a cell finds its names at.
type resolver struct {
	udp       net.PacketConn
	tcp       net.Listener
	upstreams []string
	slots     chan struct{}
	log       logrus.FieldLogger
}

// listenDNS listens at port 53 of an address that need not exist yet.
func listenDNS(at netip.Addr, upstreams []netip.Addr, log logrus.FieldLogger) (*resolver, error) {
	if len(upstreams) == 0 {
		return nil, errors.New("this container has no resolver: /etc/resolv.conf names none")
	}
	address := net.JoinHostPort(at.String(), "53")
	early := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) }); e != nil {
			return e
		}
		return err
	}}
	udp, err := early.ListenPacket(context.Background(), "udp4", address)
	if err != nil {
		return nil, err
	}
	tcp, err := early.Listen(context.Background(), "tcp4", address)
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	r := &resolver{udp: udp, tcp: tcp, slots: make(chan struct{}, maxQueries), log: log}
	for _, upstream := range upstreams {
		r.upstreams = append(r.upstreams, net.JoinHostPort(upstream.String(), "53"))
	}
	return r, nil
}

// serve hands queries on until ctx ends, and waits for those in flight.
func (r *resolver) serve(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	stop := context.AfterFunc(ctx, func() { _, _ = r.udp.Close(), r.tcp.Close() })
	defer stop()
	running.Go(func() { r.streams(ctx, &running) })
	for {
		buffer := make([]byte, maxMessage)
		n, from, err := r.udp.ReadFrom(buffer)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			r.log.WithError(err).Debug("a cell's DNS query can't be read")
			continue
		}
		if !r.take() {
			continue // its resolver asks again
		}
		running.Go(func() {
			defer r.give()
			if answer := r.ask(ctx, buffer[:n]); answer != nil {
				_, _ = r.udp.WriteTo(answer, from) // who asked may be gone
			}
		})
	}
}

func (r *resolver) take() bool {
	select {
	case r.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r *resolver) give() { <-r.slots }

// ask returns the first answer of a resolver, or nil.
func (r *resolver) ask(ctx context.Context, query []byte) []byte {
	for _, upstream := range r.upstreams {
		answer, err := exchange(ctx, upstream, query)
		if err == nil {
			return answer
		}
		if ctx.Err() != nil {
			return nil
		}
		r.log.WithError(err).WithField("resolver", upstream).Debug("a resolver doesn't answer a cell's query")
	}
	return nil
}

func exchange(ctx context.Context, upstream string, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, resolverPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", upstream)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	answer := make([]byte, maxMessage)
	n, err := conn.Read(answer)
	return answer[:n], err
}

// streams hands on queries over TCP, which a resolver turns to when an answer is long.
func (r *resolver) streams(ctx context.Context, running *sync.WaitGroup) {
	for {
		conn, err := r.tcp.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(50 * time.Millisecond) // no descriptor is left, for one
			continue
		}
		if !r.take() {
			_ = conn.Close()
			continue
		}
		running.Go(func() {
			defer r.give()
			defer conn.Close()
			r.stream(ctx, conn)
		})
	}
}

// stream joins a connection with one to a resolver, for as long as a lookup may take.
func (r *resolver) stream(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, 2*resolverPatience)
	defer cancel()
	for _, upstream := range r.upstreams {
		other, err := new(net.Dialer).DialContext(ctx, "tcp", upstream)
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { _, _ = conn.Close(), other.Close() })
		var back sync.WaitGroup
		back.Go(func() { _, _ = io.Copy(conn, other); _ = conn.Close() })
		_, _ = io.Copy(other, conn) // either end may hang up first
		_ = other.Close()
		back.Wait()
		stop()
		return
	}
}
