package guard

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

const (
	controlService = "/moby.buildkit.v1.Control/"
	bridgeService  = "/moby.buildkit.v1.frontend.LLBBridge/"
)

const noContainers = "it runs a process in a step of a build, for debugging"

// grpcMethods are all methods of BuildKit that a daemon has. What isn't here is refused.
var grpcMethods = map[string]grpcMethod{
	controlService + "Info":               {},
	controlService + "ListWorkers":        {},
	controlService + "Solve":              {request: solveRequest, response: solveResponse},
	controlService + "Status":             {request: statusRequest, response: statusResponse},
	controlService + "Session":            {}, // as buildSession: see requestMetadata
	controlService + "DiskUsage":          {answer: answerEmpty},
	controlService + "Prune":              {answer: answerNothing},
	controlService + "ListenBuildHistory": {answer: answerNothing}, // of all builds
	controlService + "UpdateBuildHistory": {refused: "the history is of all builds"},

	bridgeService + "Ping":               {},
	bridgeService + "ResolveImageConfig": {request: checked(func() proto.Message { return &bridgeResolveImage{} })},
	bridgeService + "ResolveSourceMeta":  {request: checked(func() proto.Message { return &bridgeResolveSource{} })},
	bridgeService + "Solve":              {request: bridgeSolve},
	bridgeService + "ReadFile":           {},
	bridgeService + "ReadDir":            {},
	bridgeService + "StatFile":           {},
	bridgeService + "Evaluate":           {},
	bridgeService + "Inputs":             {},
	bridgeService + "Return":             {},
	bridgeService + "Warn":               {},
	bridgeService + "NewContainer":       {refused: noContainers},
	bridgeService + "ReleaseContainer":   {refused: noContainers},
	bridgeService + "ExecProcess":        {refused: noContainers},

	"/grpc.health.v1.Health/Check": {},
}

// answerEmpty answers a call with an empty message: nothing that is the build's alone.
func answerEmpty(_ context.Context, _ *grpcCall, s grpc.ServerStream) error {
	var f grpcFrame
	if err := s.RecvMsg(&f); err != nil {
		return err
	}
	return s.SendMsg(&grpcFrame{})
}

// answerNothing answers a call with a stream of no messages.
func answerNothing(_ context.Context, _ *grpcCall, s grpc.ServerStream) error {
	var f grpcFrame
	return s.RecvMsg(&f)
}

// readRequest reads a client's message, and refuses one that names an image of another build.
func (c *grpcCall) readRequest(b []byte, m proto.Message) error {
	foreign := bytes.ReplaceAll(b, []byte(c.g.tags.Domain+"/"), nil)
	if bytes.Contains(foreign, []byte(names.TagSpace+"/")) {
		return apierror.New(http.StatusNotFound, "No such image: names that end a host in "+names.TagSpace+" are the runner's own")
	}
	return decodeMessage(b, m)
}

// decodeMessage reads a message, and refuses one with fields that the guard doesn't know: it couldn't judge them.
func decodeMessage(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return apierror.BadRequest("a message of BuildKit's is malformed: %v", err)
	}
	if name := unknownField(m.ProtoReflect()); name != "" {
		return apierror.Refuse("a field of BuildKit's message "+name, "the guard doesn't know it", "")
	}
	return nil
}

// unknownField is the name of a message, somewhere in m, that has fields which aren't known; empty if none has.
func unknownField(m protoreflect.Message) (found string) {
	if len(m.GetUnknown()) > 0 {
		return string(m.Descriptor().FullName())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Kind() == protoreflect.MessageKind {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					found = unknownField(v.Message())
					return found == ""
				})
			}
		case f.Kind() != protoreflect.MessageKind:
		case f.IsList():
			for i := range v.List().Len() {
				if found = unknownField(v.List().Get(i).Message()); found != "" {
					break
				}
			}
		default:
			found = unknownField(v.Message())
		}
		return found == ""
	})
	return found
}

// encodeMessage writes a message.
func encodeMessage(m proto.Message) ([]byte, error) { return proto.Marshal(m) }

// statusRequest follows the build's own builds alone.
func statusRequest(_ context.Context, c *grpcCall, b []byte) ([]byte, error) {
	var m controlapi.StatusRequest
	if err := c.readRequest(b, &m); err != nil {
		return nil, err
	}
	m.Ref = c.g.buildRef(m.Ref)
	return encodeMessage(&m)
}

// statusResponse shows progress with the client's names of images.
func statusResponse(c *grpcCall, b []byte) ([]byte, error) {
	var m controlapi.StatusResponse
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	c.g.showStatus(&m)
	return encodeMessage(&m)
}

func (g *Guard) showStatus(m *controlapi.StatusResponse) {
	for _, v := range m.Vertexes {
		v.Name, v.Error = g.names.Unscope(v.Name), g.names.Unscope(v.Error)
	}
	for _, s := range m.Statuses {
		s.ID, s.Name = g.names.Unscope(s.ID), g.names.Unscope(s.Name)
	}
	for _, w := range m.Warnings {
		w.Short = g.tags.Show(w.Short)
	}
}

// sessions are those that the build has opened with BuildKit.
type sessions struct {
	mu   sync.Mutex
	seen map[string]chan struct{} // closed when the session is there
	refs map[string]string        // the sessions of builds
	vars map[string]map[string]string
	kept map[string]bool // whether a session's Dockerfiles are rewritten
	// patience is how long a session may come after what is asked of it.
	patience time.Duration
}

func newSessions() *sessions {
	return &sessions{seen: map[string]chan struct{}{}, refs: map[string]string{}, kept: map[string]bool{}, vars: map[string]map[string]string{}, patience: sessionTime}
}

// build notes which session a build has.
func (s *sessions) build(ref, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs[ref] = id
}

// frontend notes the build arguments of a build's Dockerfile: of the session, as nothing else is known when the daemon reads the file.
func (s *sessions) frontend(ref string, attrs map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	args := map[string]string{}
	for k, v := range attrs {
		if name, ok := strings.CutPrefix(k, "build-arg:"); ok {
			args[name] = v
		}
	}
	s.vars[s.refs[ref]] = args
}

// args are the build arguments of a session.
func (s *sessions) args(id string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vars[id]
}

func (s *sessions) get(id string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[id] == nil {
		s.seen[id] = make(chan struct{})
	}
	return s.seen[id]
}

// open notes a session. One that is opened again, BuildKit takes in place of the first, so it must be of the same kind.
func (s *sessions) open(id string, rewritten bool) error {
	c := s.get(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind, again := s.kept[id]; again && kind != rewritten {
		return apierror.BadRequest("the session %s has been opened in another way", apierror.Quote(id))
	}
	s.kept[id] = rewritten
	select {
	case <-c:
	default:
		close(c)
	}
	return nil
}

// rewritten tells whether the Dockerfiles of a session that is open are rewritten on their way.
func (s *sessions) rewritten(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[id]
}

// sessionTime is how long BuildKit itself waits for a session.
const sessionTime = 5 * time.Second

// wait tells whether a session is the build's. It may be on its way.
func (s *sessions) wait(ctx context.Context, id string) error {
	t := time.NewTimer(s.patience)
	defer t.Stop()
	select {
	case <-s.get(id):
		return nil
	case <-t.C:
		return apierror.Refuse("the session "+apierror.Quote(id), "it is none of this build's", "")
	case <-ctx.Done():
		return ctx.Err()
	}
}
