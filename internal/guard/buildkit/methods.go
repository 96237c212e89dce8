package buildkit

import (
	"bytes"
	"context"
	"net/http"

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

// methods are all methods of BuildKit that a daemon has. What isn't here is refused.
var methods = map[string]method{
	controlService + "Info":               {},
	controlService + "ListWorkers":        {},
	controlService + "Solve":              {request: solveRequest, response: solveResponse},
	controlService + "Status":             {request: statusRequest, response: statusResponse},
	controlService + "Session":            {}, // as buildSession: see requestMetadata
	controlService + "DiskUsage":          {answer: answerEmpty},
	controlService + "Prune":              {answer: answerNothing},
	controlService + "ListenBuildHistory": {answer: answerNothing}, // of all stages
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

// answerEmpty answers a call with an empty message: nothing is the stage's alone.
func answerEmpty(_ context.Context, _ *call, s grpc.ServerStream) error {
	var f frame
	if err := s.RecvMsg(&f); err != nil {
		return err
	}
	return s.SendMsg(&frame{})
}

// answerNothing answers a call with a stream of no messages.
func answerNothing(_ context.Context, _ *call, s grpc.ServerStream) error {
	var f frame
	return s.RecvMsg(&f)
}

// readRequest reads a client's message, and refuses one that names an image of another stage.
func (c *call) readRequest(b []byte, m proto.Message) error {
	foreign := bytes.ReplaceAll(b, []byte(c.p.options.Names.Tags.Domain+"/"), nil)
	if bytes.Contains(foreign, []byte(names.TagSpace+"/")) {
		return apierror.New(
			http.StatusNotFound,
			"No such image: names that end a host in "+names.TagSpace+" are the runner's own",
		)
	}
	return decodeMessage(b, m)
}

// decodeMessage reads a message, and refuses one with fields that the guard doesn't know: it
// couldn't judge them.
func decodeMessage(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return apierror.BadRequest("a message of BuildKit's is malformed: %v", err)
	}
	if name := unknownField(m.ProtoReflect()); name != "" {
		return apierror.Refuse("a field of BuildKit's message "+name, "the guard doesn't know it", "")
	}
	return nil
}

// unknownField returns the name of a message, somewhere in m, that has fields which aren't known;
// empty if none has.
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

// statusRequest follows the stage's own builds alone.
func statusRequest(_ context.Context, c *call, b []byte) ([]byte, error) {
	var m controlapi.StatusRequest
	if err := c.readRequest(b, &m); err != nil {
		return nil, err
	}
	m.Ref = c.p.Ref(m.Ref)
	return encodeMessage(&m)
}

// statusResponse shows progress with the client's names of images.
func statusResponse(c *call, b []byte) ([]byte, error) {
	var m controlapi.StatusResponse
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	c.p.ShowStatus(&m)
	return encodeMessage(&m)
}

// ShowStatus replaces the daemon's names in a build's progress by those that the client knows.
func (p *Proxy) ShowStatus(m *controlapi.StatusResponse) {
	for _, v := range m.Vertexes {
		v.Name, v.Error = p.options.Names.Unscope(v.Name), p.options.Names.Unscope(v.Error)
	}
	for _, s := range m.Statuses {
		s.ID, s.Name = p.options.Names.Unscope(s.ID), p.options.Names.Unscope(s.Name)
	}
	for _, w := range m.Warnings {
		w.Short = p.options.Names.Tags.Show(w.Short)
	}
}
