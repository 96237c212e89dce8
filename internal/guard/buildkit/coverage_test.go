package buildkit

import (
	"slices"
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// judgedFields are the fields of BuildKit's requests that somebody has thought about. A new version
// that has more fails here: think about it, then name it.
var judgedFields = map[string]string{
	"moby.buildkit.v1.SolveRequest": "Cache Definition EnableSessionExporter Entitlements ExporterAttrsDeprecated ExporterDeprecated Exporters Frontend FrontendAttrs FrontendInputs " +
		"Internal Ref Session SourcePolicy",
	"moby.buildkit.v1.CacheOptions":      "ExportAttrsDeprecated ExportRefDeprecated Exports ImportRefsDeprecated Imports",
	"moby.buildkit.v1.CacheOptionsEntry": "Attrs Type",
	"moby.buildkit.v1.Exporter":          "Attrs Type",
	"moby.buildkit.v1.StatusRequest":     "Ref",
	"moby.buildkit.v1.frontend.SolveRequest": "CacheImports Definition Evaluate ExporterAttr Final Frontend FrontendInputs FrontendOpt SourcePolicies allowResultArrayRef " +
		"allowResultReturn",
	"pb.Op":       "build constraints diff exec file inputs merge platform source",
	"pb.ExecOp":   "cdiDevices meta mounts network secretenv security",
	"pb.Meta":     "args cgroupParent cwd env extraHosts hostname proxy_env removeMountStubsRecursive ulimit user validExitCodes",
	"pb.Mount":    "SSHOpt TmpfsOpt cacheOpt contentCache dest input mountType output readonly resultID secretOpt selector",
	"pb.SourceOp": "attrs identifier",
	"pb.BuildOp":  "attrs builder def inputs",
}

func TestEveryFieldOfBuildKit(t *testing.T) {
	for _, m := range []proto.Message{
		&controlapi.SolveRequest{}, &controlapi.CacheOptions{}, &controlapi.CacheOptionsEntry{}, &controlapi.Exporter{}, &controlapi.StatusRequest{}, &gatewayapi.SolveRequest{},
		&pb.Op{}, &pb.ExecOp{}, &pb.Meta{}, &pb.Mount{}, &pb.SourceOp{}, &pb.BuildOp{},
	} {
		d := m.ProtoReflect().Descriptor()
		var names []string
		for i := range d.Fields().Len() {
			names = append(names, string(d.Fields().Get(i).Name()))
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != judgedFields[string(d.FullName())] {
			t.Errorf("%s has the fields %s\nthought about are     %s", d.FullName(), got, judgedFields[string(d.FullName())])
		}
	}
}

// TestEveryMethodOfBuildKit: what the services have that a daemon serves is in methods.
func TestEveryMethodOfBuildKit(t *testing.T) {
	for _, file := range []protoreflect.FileDescriptor{controlapi.File_github_com_moby_buildkit_api_services_control_control_proto, gatewayapi.File_github_com_moby_buildkit_frontend_gateway_pb_gateway_proto} {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				name := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())
				if _, ok := methods[name]; !ok {
					t.Errorf("%s has no policy", name)
				}
			}
		}
	}
}

// FuzzSolve: no message breaks it, and one that passes names images in the build's domain alone.
