package buildkit

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerfile"
)

// ending is a connection whose end ends more.
type ending struct {
	net.Conn
	end func()
}

// Close closes the connection.
func (e *ending) Close() error {
	e.end()
	return e.Conn.Close()
}

// PolicyVersion is the version of the API from which on BuildKit takes source policies.
const PolicyVersion = "1.43"

// fileSync is the call with which a daemon reads a folder of a client's.
const fileSync = "/moby.filesync.v1.FileSync/DiffCopy"

// syncLimit bounds, in bytes, the Dockerfiles that one folder may have, and the packets that wait
// while one is fetched.
const syncLimit = 8 << 20

// packetRoom is about what a packet takes in memory besides what it says.
const packetRoom = 256

// syncFiles carries the reading of a folder. In the one of the Dockerfile, files are fetched from
// the client before the daemon asks, and offered to it as they are rewritten.
func syncFiles(ctx context.Context, r *carrier, c *call, daemon grpc.ServerStream, client grpc.ClientStream) error {
	if c.dir != "dockerfile" {
		return relayAll(ctx, r, c, daemon, client)
	}
	s := &syncing{p: c.p, session: c.session, daemon: daemon, client: client, files: map[uint32][]byte{}}
	done := make(chan error, 1)
	r.calls.Go(func() {
		err := s.requests()
		done <- err
		if err != nil {
			c.cancel()
		}
	})
	err := s.answers(ctx)
	select {
	case reqErr := <-done:
		if reqErr != nil {
			err = reqErr
		}
	default: // it ends with the call
	}
	return err
}

// syncing is the reading of one folder. See fsutil's protocol: the sender tells of files (their
// numbers are their places in the list) and sends those that are asked for.
type syncing struct {
	p       *Proxy
	session string
	daemon  grpc.ServerStream
	client  grpc.ClientStream

	toDaemon, toClient sync.Mutex // one message at a time
	mu                 sync.Mutex
	files              map[uint32][]byte // rewritten
	kept               int               // bytes in files
	next               uint32
}

func (s *syncing) sendDaemon(p *types.Packet) error {
	b, err := proto.Marshal(p)
	if err != nil {
		return err
	}
	s.toDaemon.Lock()
	defer s.toDaemon.Unlock()
	return s.daemon.SendMsg(&frame{b})
}

func (s *syncing) sendClient(p *types.Packet) error {
	b, err := proto.Marshal(p)
	if err != nil {
		return err
	}
	s.toClient.Lock()
	defer s.toClient.Unlock()
	return s.client.SendMsg(&frame{b})
}

func (s *syncing) recvClient() (*types.Packet, error) {
	var f frame
	if err := s.client.RecvMsg(&f); err != nil {
		return nil, err
	}
	p := &types.Packet{}
	return p, proto.Unmarshal(f.b, p)
}

// requests carries what the daemon asks for, and answers for files that are rewritten.
func (s *syncing) requests() error {
	for {
		var f frame
		if err := s.daemon.RecvMsg(&f); err != nil {
			if errors.Is(err, io.EOF) {
				return s.client.CloseSend()
			}
			return nil // the call has ended
		}
		p := &types.Packet{}
		if err := proto.Unmarshal(f.b, p); err != nil {
			return err
		}
		s.mu.Lock()
		data, mine := s.files[p.ID]
		s.mu.Unlock()
		if p.Type != types.PACKET_REQ || !mine {
			if err := s.sendClient(p); err != nil {
				return nil // answers gets the reason
			}
			continue
		}
		for chunk := range slices.Chunk(data, 32<<10) {
			if err := s.sendDaemon(&types.Packet{Type: types.PACKET_DATA, ID: p.ID, Data: chunk}); err != nil {
				return err
			}
		}
		if err := s.sendDaemon(&types.Packet{Type: types.PACKET_DATA, ID: p.ID}); err != nil {
			return err
		}
	}
}

// answers carries what the client says.
func (s *syncing) answers(ctx context.Context) error {
	header, err := s.client.Header()
	if err != nil {
		return err
	}
	if err := s.daemon.SendHeader(answerMetadata(header)); err != nil {
		return err
	}
	var waiting []*types.Packet
	for {
		var p *types.Packet
		if len(waiting) > 0 {
			p, waiting = waiting[0], waiting[1:]
		} else if p, err = s.recvClient(); err != nil {
			s.daemon.SetTrailer(answerMetadata(s.client.Trailer()))
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if p.Type == types.PACKET_STAT && p.Stat != nil {
			id := s.next
			s.next++
			if isDockerfile(p.Stat) {
				if waiting, err = s.fetch(ctx, id, p.Stat, waiting); err != nil {
					return err
				}
			}
		}
		if err := s.sendDaemon(p); err != nil {
			return err
		}
	}
}

// isDockerfile reports whether a file may be one: its name is the client's choice.
func isDockerfile(s *types.Stat) bool {
	return fs.FileMode(s.Mode)&fs.ModeType == 0 && s.Size > 0 && s.Size <= dockerfile.Limit &&
		!strings.HasSuffix(s.Path, dockerfile.IgnoreFile)
}

// fetch reads a file from the client and rewrites it; stat tells of it as it is then. Other packets
// that come meanwhile wait.
func (s *syncing) fetch(
	ctx context.Context,
	id uint32,
	stat *types.Stat,
	waiting []*types.Packet,
) ([]*types.Packet, error) {
	if err := s.sendClient(&types.Packet{Type: types.PACKET_REQ, ID: id}); err != nil {
		return nil, err
	}
	var data []byte
	held := s.kept // of files that were rewritten, and what waits
	for _, p := range waiting {
		held += packetRoom + proto.Size(p)
	}
	for {
		p, err := s.recvClient()
		if err != nil {
			return nil, err
		}
		if p.Type != types.PACKET_DATA || p.ID != id {
			waiting = append(waiting, p)
			if held += packetRoom + proto.Size(p); held > syncLimit {
				return nil, tooManyDockerfiles()
			}
			continue
		}
		if len(p.Data) == 0 {
			break
		}
		if data = append(data, p.Data...); len(data) > dockerfile.Limit {
			return nil, apierror.BadRequest("the Dockerfile is larger than %d bytes", dockerfile.Limit)
		}
		if held+len(data) > syncLimit {
			return nil, tooManyDockerfiles()
		}
	}
	changed, err := s.p.Dockerfile(ctx, data, s.p.sessions.args(s.session))
	if err != nil {
		return nil, err
	}
	if string(changed) != string(data) {
		// The daemon takes a file of the same size and time for the one that it has.
		sum := fnv.New32a()
		_, _ = sum.Write(changed) // never fails
		stat.Size, stat.ModTime = int64(len(changed)), stat.ModTime-stat.ModTime%1e9+int64(sum.Sum32()%1e9)
	}
	s.mu.Lock()
	s.files[id] = changed
	s.kept += packetRoom + len(changed)
	s.mu.Unlock()
	return waiting, nil
}

func tooManyDockerfiles() error {
	return apierror.BadRequest(
		"the folder of the Dockerfile has more than %d bytes of files that could be one",
		syncLimit,
	)
}
