package buildkit

import (
	"slices"
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/sourcepolicy"
	policyapi "github.com/moby/buildkit/sourcepolicy/pb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

const (
	imageOwn   = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	imageBase  = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	imageOther = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// graph is a definition of one operation.
func graph(t testing.TB, op *pb.Op) *pb.Definition {
	return &pb.Definition{Def: [][]byte{marshal(t, op)}}
}

func execOp(e *pb.ExecOp) *pb.Op { return &pb.Op{Op: &pb.Op_Exec{Exec: e}} }

func sourceOp(id string) *pb.Op {
	return &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: id}}}
}

func TestSolveRefused(t *testing.T) {
	p := imageProxy(t)
	attrs := func(kv ...string) func(*controlapi.SolveRequest) {
		return func(m *controlapi.SolveRequest) {
			m.FrontendAttrs = map[string]string{}
			for i := 0; i < len(kv); i += 2 {
				m.FrontendAttrs[kv[i]] = kv[i+1]
			}
		}
	}
	exporter := func(kind string, kv ...string) func(*controlapi.SolveRequest) {
		return func(m *controlapi.SolveRequest) {
			e := &controlapi.Exporter{Type: kind, Attrs: map[string]string{}}
			for i := 0; i < len(kv); i += 2 {
				e.Attrs[kv[i]] = kv[i+1]
			}
			m.Exporters = append(m.Exporters, e)
		}
	}
	def := func(op *pb.Op) func(*controlapi.SolveRequest) {
		return func(m *controlapi.SolveRequest) { m.Definition = graph(t, op) }
	}
	for _, tt := range []struct {
		name   string
		change func(*controlapi.SolveRequest)
		want   string
	}{
		{"no ref", func(m *controlapi.SolveRequest) { m.Ref = "" }, "no ref"},
		{"the network", func(m *controlapi.SolveRequest) { m.Entitlements = []string{"network.host"} }, "network.host"},
		{"insecurity", func(m *controlapi.SolveRequest) { m.Entitlements = []string{"security.insecure"} }, "security.insecure"},
		{"a device", func(m *controlapi.SolveRequest) { m.Entitlements = []string{"device=x"} }, "device"},
		{"another's session", func(m *controlapi.SolveRequest) { m.Session = "theirs" }, "none of this stage's"},
		{"exporters of the session", func(m *controlapi.SolveRequest) { m.EnableSessionExporter = true }, "EnableSessionExporter"},
		{"another frontend", func(m *controlapi.SolveRequest) { m.Frontend = "other" }, "frontend"},
		{"the machine's network", attrs("force-network-mode", "host"), "force-network-mode"},
		{"a cgroup", attrs("cgroup-parent", "/"), "cgroup-parent"},
		{"another's session, of a folder", attrs("local-sessionid:context", "theirs"), "none of this stage's"},
		{"the runner's labels", attrs("label:io.drone-runner-sysbox.spec", "x"), "the runner's own"},
		{"another's frontend", attrs("source", "drone-xyz.build.invalid/docker.io/library/app:1"), "No such image"},
		{"another's context", attrs("context:x", "docker-image://drone-xyz.build.invalid/docker.io/library/app:1"), "No such image"},
		{"malformed hosts", attrs("add-hosts", "x"), "add-host"},
		{"a cache elsewhere, by a parameter", attrs("cache-imports", `[{"Type":"s3"}]`), `"s3"`},
		{"a malformed cache", attrs("cache-imports", `x`), "cache-imports"},
		{"a cache elsewhere", func(m *controlapi.SolveRequest) {
			m.Cache = &controlapi.CacheOptions{Exports: []*controlapi.CacheOptionsEntry{{Type: "gha"}}}
		}, `"gha"`},
		{"a cache from elsewhere", func(m *controlapi.SolveRequest) {
			m.Cache = &controlapi.CacheOptions{Imports: []*controlapi.CacheOptionsEntry{{Type: "azblob"}}}
		}, `"azblob"`},
		{"an unknown exporter", exporter("other"), `"other"`},
		{"any name", exporter("moby", "name", "*"), "name *"},
		{"a push", exporter("image", "name", "golang:1", "push", "true"), `"push"`},
		{"a push by a daemon that would", exporter("moby", "name", "golang:1", "push", "true"), `"push"`},
		{"a push by digest", exporter("image", "name", "golang:1", "push-by-digest", "true"), `"push-by-digest"`},
		{"another's name", exporter("moby", "name", "a:1,drone-xyz.build.invalid/docker.io/library/app:1"), "the runner's own"},
		{"its own private name", exporter("moby", "name", "drone-abc.build.invalid/docker.io/library/app:1"), "the runner's own"},
		{"another's cache", func(m *controlapi.SolveRequest) {
			m.Cache = &controlapi.CacheOptions{Imports: []*controlapi.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{"ref": "drone-xyz.build.invalid/docker.io/library/app:1"}}}}
		}, "No such image"},
		{"a second exporter", func(m *controlapi.SolveRequest) {
			exporter("moby", "name", "a")(m)
			exporter("other")(m)
		}, `"other"`},
		{"the old exporter", func(m *controlapi.SolveRequest) {
			m.ExporterDeprecated, m.ExporterAttrsDeprecated = "image", map[string]string{"push": "true"}
		}, `"push"`},
		{"the old exporter's attributes alone", func(m *controlapi.SolveRequest) { m.ExporterAttrsDeprecated = map[string]string{"name": "golang:1"} }, "no type"},
		{"a step on the machine's network", def(execOp(&pb.ExecOp{Network: pb.NetMode_HOST})), "network mode host"},
		{"an insecure step", def(execOp(&pb.ExecOp{Security: pb.SecurityMode_INSECURE})), "security mode"},
		{"a step with a device", def(execOp(&pb.ExecOp{CdiDevices: []*pb.CDIDevice{{Name: "x"}}})), "devices"},
		{"a step in a cgroup", def(execOp(&pb.ExecOp{Meta: &pb.Meta{CgroupParent: "/"}})), "cgroup parent"},
		{"another's image", def(sourceOp("docker-image://drone-xyz.build.invalid/docker.io/library/app:1")), "No such image"},
		{"another's folder", def(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "local://context", Attrs: map[string]string{pb.AttrLocalSessionID: "theirs"}}}}), "none of this stage's"},
		{"a malformed step", func(m *controlapi.SolveRequest) { m.Definition = &pb.Definition{Def: [][]byte{{0xff}}} }, "malformed"},
		{"a step without its input", def(&pb.Op{Inputs: []*pb.Input{{Digest: imageOther}}}), "isn't in the build's graph"},
		{"a graph without a result", def(sourceOp("docker-image://docker.io/library/golang:1")), "no result"},
		{"a step in an input", func(m *controlapi.SolveRequest) {
			m.FrontendInputs = map[string]*pb.Definition{"x": graph(t, execOp(&pb.ExecOp{Network: pb.NetMode_HOST}))}
		}, "network mode host"},
		{"a step in a nested build", func(m *controlapi.SolveRequest) {
			m.Definition = graph(t, &pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{Def: graph(t, execOp(&pb.ExecOp{Network: pb.NetMode_HOST}))}}})
		}, "network mode host"},
		{"an unknown field", func(m *controlapi.SolveRequest) { m.ProtoReflect().SetUnknown(field(9999)) }, "doesn't know it"},
		{"an unknown field of an exporter", func(m *controlapi.SolveRequest) {
			exporter("moby")(m)
			m.Exporters[0].ProtoReflect().SetUnknown(field(99))
		}, "doesn't know it"},
		{"an unknown field of a step", func(m *controlapi.SolveRequest) {
			e := &pb.ExecOp{}
			e.ProtoReflect().SetUnknown(field(99))
			m.Definition = graph(t, execOp(e))
		}, "doesn't know it"},
		{"a local frontend", attrs("gateway-devel", "true"), "gateway-devel"},
		{"a device", attrs("devices", "all"), `"devices"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &controlapi.SolveRequest{Ref: "r", Session: "mine", Frontend: "dockerfile.v0"}
			tt.change(m)
			_, err := solveRequest(t.Context(), &call{p: p}, marshal(t, m))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// field is a field of a message, by its number.
func field(n protowire.Number) protoreflect.RawFields {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), 1)
}

func TestSolveChanged(t *testing.T) {
	p := imageProxy(t)
	b, err := solveRequest(t.Context(), &call{p: p}, marshal(t, &controlapi.SolveRequest{
		Ref: "r", Session: "mine", Frontend: "dockerfile.v0", Internal: true,
		FrontendAttrs: map[string]string{
			"add-hosts": "a=1.2.3.4,b=host-gateway", "context:base": "docker-image://app:1", "context:go": "docker-image://golang:1", "source": "app:1", "build-arg:X": "y", "local-sessionid:context": "mine",
			"superpower": "1",
		},
		ExporterDeprecated: "moby", ExporterAttrsDeprecated: map[string]string{"name": "new:1,ghcr.io/me/x"},
		// What the guard doesn't know is dropped; load is compose's.
		Exporters: []*controlapi.Exporter{{Type: "moby", Attrs: map[string]string{"name": "new:1,ghcr.io/me/x"}}, {Type: "local", Attrs: map[string]string{"dest": "x"}}, {Type: "image", Attrs: map[string]string{"load": "true", "dangling-name-prefix": "golang"}}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var m controlapi.SolveRequest
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	const d = "drone-abc.build.invalid/"
	wantNames := d + "docker.io/library/new:1," + d + "ghcr.io/me/x:latest"
	for _, tt := range []struct{ what, got, want string }{
		{"the ref", m.Ref, "drone-abc-r"},
		{"the old exporter's names", m.ExporterAttrsDeprecated["name"], wantNames},
		{"the exporter's names", m.Exporters[0].Attrs["name"], wantNames},
		{"the client's own", m.Exporters[1].Attrs["dest"], "x"},
		{"hosts", m.FrontendAttrs["add-hosts"], "a=1.2.3.4,b=172.20.0.1"},
		{"a context of one's own", m.FrontendAttrs["context:base"], "docker-image://" + d + "docker.io/library/app:1"},
		{"a shared context", m.FrontendAttrs["context:go"], "docker-image://golang:1"},
		{"a frontend of one's own", m.FrontendAttrs["source"], d + "docker.io/library/app:1"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	if _, there := m.FrontendAttrs["superpower"]; there || len(m.Exporters[2].Attrs) != 1 {
		t.Errorf("what isn't known reaches the daemon: %v %v", m.FrontendAttrs, m.Exporters[2].Attrs)
	}
	if !strings.HasPrefix(m.Exporters[2].Attrs["name"], d+"untagged:") || m.Internal {
		t.Errorf("an image without a name is called %q; internal is %v", m.Exporters[2].Attrs["name"], m.Internal)
	}
	if rules := m.SourcePolicy.GetRules(); len(rules) != 3 || rules[0].Selector.Identifier != "docker-image://docker.io/library/app:1" || rules[0].Updates.Identifier != "docker-image://"+d+"docker.io/library/app:1" {
		t.Errorf("the policy is %v", rules)
	}
	if args := p.sessions.args("mine"); args["X"] != "y" {
		t.Errorf("the session's arguments are %v", args)
	}

	b, err = solveRequest(t.Context(), &call{p: p}, marshal(t, &controlapi.SolveRequest{Ref: "r", FrontendAttrs: map[string]string{"image-resolve-mode": "pull"}}))
	if err != nil {
		t.Fatal(err)
	}
	m.Reset()
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	// What BuildKit makes of the policy of a build that pulls, and of another.
	pulls := m.SourcePolicy
	b, err = solveRequest(t.Context(), &call{p: p}, marshal(t, &controlapi.SolveRequest{Ref: "r", SourcePolicy: &policyapi.Policy{Version: 1, Rules: []*policyapi.Rule{{
		Action: policyapi.PolicyAction_ALLOW, Selector: &policyapi.Selector{Identifier: "docker-image://*"},
	}}}}))
	if err != nil {
		t.Fatal(err)
	}
	m.Reset()
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		policy   *policyapi.Policy
		id, want string
	}{
		{m.SourcePolicy, "docker-image://docker.io/library/app:1", "docker-image://" + d + "docker.io/library/app:1"},
		{m.SourcePolicy, "docker-image://docker.io/library/app:2", "docker-image://docker.io/library/app:2"},
		{m.SourcePolicy, "docker-image://docker.io/library/golang:1", "docker-image://docker.io/library/golang:1"},
		{m.SourcePolicy, "docker-image://" + d + "docker.io/library/app:1@" + imageOwn, "docker-image://" + d + "docker.io/library/app:1@" + imageOwn},
		{m.SourcePolicy, "docker-image://drone-xyz.build.invalid/docker.io/library/app:1", ""},
		{m.SourcePolicy, "docker-image://" + names.KeepName + ":1", ""},
		{m.SourcePolicy, "git://example.org/x.build.invalid/y", "git://example.org/x.build.invalid/y"},
		{pulls, "docker-image://docker.io/library/app:1", "docker-image://docker.io/library/app:1"},
		{pulls, "docker-image://drone-xyz.build.invalid/docker.io/library/app:1", ""},
	} {
		op := &pb.SourceOp{Identifier: tt.id}
		_, err := sourcepolicy.NewEngine([]*policyapi.Policy{tt.policy}).Evaluate(t.Context(), op)
		if (err == nil) != (tt.want != "") || err == nil && op.Identifier != tt.want {
			t.Errorf("%s becomes %s, %v; want %q", tt.id, op.Identifier, err, tt.want)
		}
	}
}

func TestBridgeSolve(t *testing.T) {
	p := imageProxy(t)
	for _, tt := range []struct {
		name string
		m    *gatewayapi.SolveRequest
		want string
	}{
		{"a Dockerfile", &gatewayapi.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"filename": "x", "target": "y"}}, ""},
		{"the machine's network", &gatewayapi.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"force-network-mode": "host"}}, "force-network-mode"},
		{"a step on it", &gatewayapi.SolveRequest{Definition: graph(t, execOp(&pb.ExecOp{Network: pb.NetMode_HOST}))}, "network mode host"},
		{"a step in an input", &gatewayapi.SolveRequest{FrontendInputs: map[string]*pb.Definition{"x": graph(t, execOp(&pb.ExecOp{Security: pb.SecurityMode_INSECURE}))}}, "security mode"},
		{"a cache elsewhere", &gatewayapi.SolveRequest{CacheImports: []*gatewayapi.CacheOptionsEntry{{Type: "s3"}}}, `"s3"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := bridgeSolve(t.Context(), &call{p: p, ref: "r"}, marshal(t, tt.m))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSolveResponse(t *testing.T) {
	p := imageProxy(t)
	show := func(names string) string {
		b, err := solveResponse(&call{p: p}, marshal(t, &controlapi.SolveResponse{ExporterResponse: map[string]string{"image.name": names, "containerimage.digest": imageOther}}))
		if err != nil {
			t.Fatal(err)
		}
		var m controlapi.SolveResponse
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return m.ExporterResponse["image.name"]
	}
	if got := show("drone-abc.build.invalid/docker.io/library/a:1,drone-abc.build.invalid/ghcr.io/b:2"); got != "docker.io/library/a:1,ghcr.io/b:2" {
		t.Errorf("the names are %q", got)
	}
	if got := show("drone-abc.build.invalid/untagged:ab"); got != "" {
		t.Errorf("the name of none is %q", got)
	}
	if !slices.Contains(p.world.(*memory).made, imageOther) {
		t.Error("the result isn't known as the build's")
	}
}

func FuzzSolve(f *testing.F) {
	p := imageProxy(f)
	f.Add(marshal(f, &controlapi.SolveRequest{Ref: "r", Frontend: "dockerfile.v0", Exporters: []*controlapi.Exporter{{Type: "moby", Attrs: map[string]string{"name": "a,b:1"}}}}))
	f.Add(marshal(f, &controlapi.SolveRequest{Ref: "r", Definition: graph(f, execOp(&pb.ExecOp{Meta: &pb.Meta{Args: []string{"x"}}})), ExporterDeprecated: "image", ExporterAttrsDeprecated: map[string]string{"name": "a"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in controlapi.SolveRequest
		if proto.Unmarshal(b, &in) == nil && in.Session != "" {
			return // it would be waited for
		}
		for k := range in.FrontendAttrs {
			if strings.HasPrefix(k, "local-sessionid:") {
				return
			}
		}
		b, err := solveRequest(t.Context(), &call{p: p}, b)
		if err != nil {
			return
		}
		var m controlapi.SolveRequest
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(m.Ref, "drone-abc"+"-") || len(m.Entitlements) > 0 {
			t.Fatalf("it becomes %v", &m)
		}
		for _, e := range append(m.Exporters, &controlapi.Exporter{Type: m.ExporterDeprecated, Attrs: m.ExporterAttrsDeprecated}) {
			if e.Type != "moby" && e.Type != "image" {
				continue
			}
			for name := range strings.SplitSeq(e.Attrs["name"], ",") {
				if !p.options.Names.Tags.Owns(name) {
					t.Fatalf("it becomes %v", &m)
				}
			}
		}
	})
}
