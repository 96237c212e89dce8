//go:build !unit

package guard_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// attackBuildKit has what buildx may be asked for, and calls of BuildKit's own API, which buildx
// would never make.
func attackBuildKit(t *testing.T, a *arena) {
	config := clientFolder(t)
	state := t.TempDir()
	buildx := func(socket, dockerfile string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "docker", append([]string{"buildx", "build", "--progress", "plain", "--no-cache"}, args...)...)
		cmd.Args = append(cmd.Args, "-")
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+config, "BUILDX_CONFIG="+state, "BUILDX_NO_DEFAULT_ATTESTATIONS=1")
		cmd.Stdin = strings.NewReader(dockerfile)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const show = "\nRUN cat /secret\n"
	rows := []struct {
		name, dockerfile string
		args             []string
		// proof is what the daemon's own output shows; the secret of the spare if it's empty.
		proof string
	}{
		{"another's base", "FROM {theirs}" + show, nil, ""},
		{"another's base, by an argument", "ARG B={theirs}\nFROM $B" + show, nil, ""},
		{"another's base, by an argument of the build", "ARG B\nFROM $B" + show, []string{"--build-arg", "B={theirs}"}, ""},
		{"another's base, by two arguments", "ARG A={id}\nARG B=.build.invalid\nFROM ${A}${B}/docker.io/library/theirs:1" + show, nil, ""},
		{"another's base, by a default", "ARG A\nFROM ${A:-{theirs}}" + show, nil, ""},
		{"another's base, as a second stage", "FROM {image} AS x\nFROM {theirs}" + show, nil, ""},
		{"another's base, over two lines", "FROM \\\n{theirs}" + show, nil, ""},
		{"another's base, with another escape", "# escape=`\nFROM `\n{theirs}" + show, nil, ""},
		{"another's base, in lower case", "from {theirs}" + show, nil, ""},
		{"another's base, with a platform", "FROM --platform=linux/amd64 {theirs}" + show, nil, ""},
		{"another's image, copied from", "FROM {image}\nCOPY --from={theirs} /secret /x\nRUN cat /x\n", nil, ""},
		{"another's image, copied from by a flag over two lines", "FROM {image}\nCOPY \\\n--from={theirs} /secret /x\nRUN cat /x\n", nil, ""},
		{"another's image, mounted", "FROM {image}\nRUN --mount=from={theirs},target=/m cat /m/secret\n", nil, ""},
		{"another's image, mounted with a type", "FROM {image}\nRUN --mount=type=bind,from={theirs},source=/secret,target=/m cat /m\n", nil, ""},
		{"another's image, as a frontend", "# syntax={theirs}\nFROM {image}\nRUN true\n", nil, "resolve image config for"},
		{"the machine's network", "FROM {image}\nRUN ls /sys/class/net\n", []string{"--network", "host", "--allow", "network.host"}, "docker0"},
		{"the machine's network, of a step", "# syntax=docker/dockerfile:1\nFROM {image}\nRUN --network=host ls /sys/class/net\n", []string{"--allow", "network.host"}, "docker/dockerfile:1"},
		{"no sandbox", "FROM {image}\nRUN true\n", []string{"--allow", "security.insecure"}, "security.insecure"},
		{"devices", "FROM {image}\nRUN true\n", []string{"--allow", "device"}, "device"},
		{"a cgroup parent", "FROM {image}\nRUN true\n", []string{"--cgroup-parent", "/escape"}, "RUN true"},
		{"another's label", "FROM {image}\nRUN true\n", []string{"--label", guardtest.OwnerLabel + "={id}"}, "RUN true"},
		{"a push from the daemon", "FROM {image}\nRUN true\n", []string{"--output", "type=image,name={base},push=true"}, ""},
	}
	t.Run("buildx", func(t *testing.T) {
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				t.Parallel()
				for socket, w := range map[string]words{a.daemon: a.spare, a.attacker.Socket: a.target} {
					args := append([]string{}, row.args...)
					for i := range args {
						args[i] = w.in(args[i])
					}
					out, err := buildx(socket, w.in(row.dockerfile), args...)
					proof := w.in(row.proof)
					if proof == "" && strings.Contains(row.dockerfile, "secret") {
						proof = w["secret"]
					}
					switch {
					case socket == a.daemon && !strings.Contains(out, proof):
						t.Errorf("the row proves nothing: with the daemon itself, buildx prints %v %s", err, out)
					case socket != a.daemon && (err == nil || strings.Contains(out, w["secret"])):
						t.Errorf("through the guard, buildx prints %v %s", err, out)
					}
				}
			})
		}
	})
	t.Run("the base, built", func(t *testing.T) {
		genuine := a.victim.Host("image", "inspect", "-f", "{{.Id}}", guardtest.Image)
		for _, socket := range []string{a.daemon, a.attacker.Socket} {
			for _, args := range [][]string{{"-t", base}, {"-t", "other:1", "-t", base}, {"--output", "type=docker,name=" + base}} {
				out, err := buildx(socket, "FROM "+guardtest.Image+"\nRUN echo poison >/poison\n", args...)
				now := a.victim.Host("image", "inspect", "-f", "{{.Id}}", base)
				a.victim.Host("tag", guardtest.Image, base)
				if (now == genuine) == (socket == a.daemon) {
					t.Errorf("after buildx build %v at %s the base is %s: %v %s", args, socket, now, err, out)
				}
			}
		}
	})
	t.Run("calls", func(t *testing.T) { a.calls(t) })
	a.unharmed(t)
}

// control is a connection to BuildKit behind a socket: HTTP/2 on a connection that was upgraded.
func control(t *testing.T, socket, path string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:docker", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		raw, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(raw, "POST "+path+" HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		in := bufio.NewReader(raw)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, errors.Join(fmt.Errorf("no upgrade: %+v %w", resp, err), raw.Close())
		}
		return &readAhead{raw, in}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// readAhead is a connection of which some has been read.
type readAhead struct {
	net.Conn
	in *bufio.Reader
}

func (r *readAhead) Read(p []byte) (int, error) { return r.in.Read(p) }

// rawMessage is a message of bytes, for what no generated type can say.
type rawMessage []byte

// rawCodec passes bytes.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*rawMessage), nil }
func (rawCodec) Unmarshal(b []byte, v any) error {
	*v.(*rawMessage) = append(rawMessage{}, b...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

// steps is a build of one command in an image: its graph, as BuildKit's clients write it. change
// may alter the command's vertex.
func steps(t *testing.T, image, command string, change func(*pb.ExecOp)) *pb.Definition {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		t.Fatal(err)
	}
	d := &pb.Definition{Metadata: map[string]*pb.OpMetadata{}}
	add := func(op *pb.Op) string {
		b, err := op.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		d.Def = append(d.Def, b)
		return digest.FromBytes(b).String()
	}
	platform := &pb.Platform{OS: "linux", Architecture: "amd64"}
	from := add(&pb.Op{Platform: platform, Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://" + named.String(), Attrs: map[string]string{pb.AttrImageResolveMode: pb.AttrImageResolveModePreferLocal}}}})
	run := &pb.ExecOp{Meta: &pb.Meta{Args: strings.Fields(command), Cwd: "/", Env: []string{"PATH=/bin"}}, Mounts: []*pb.Mount{{Input: 0, Dest: "/", Output: 0}}}
	if change != nil {
		change(run)
	}
	ran := add(&pb.Op{Platform: platform, Inputs: []*pb.Input{{Digest: from}}, Op: &pb.Op_Exec{Exec: run}})
	d.Metadata[ran] = &pb.OpMetadata{IgnoreCache: true}
	add(&pb.Op{Inputs: []*pb.Input{{Digest: ran}}})
	return d
}

// calls are made of BuildKit's own API.
func (a *arena) calls(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	type side struct {
		w       words
		conn    *grpc.ClientConn
		control controlapi.ControlClient
	}
	sides := map[bool]*side{}
	for bare, socket := range map[bool]string{true: a.daemon, false: a.attacker.Socket} {
		s := &side{w: a.target, conn: control(t, socket, "/grpc")}
		if bare {
			s.w = a.spare
		}
		s.control = controlapi.NewControlClient(s.conn)
		sides[bare] = s
	}
	solve := func(s *side, r *controlapi.SolveRequest) error {
		if r.Ref == "" {
			r.Ref = fmt.Sprint("attack", time.Now().UnixNano())
		}
		_, err := s.control.Solve(ctx, r)
		return err
	}
	run := func(change func(*pb.ExecOp), also func(*controlapi.SolveRequest)) func(*side) error {
		return func(s *side) error {
			r := &controlapi.SolveRequest{Definition: steps(t, guardtest.Image, "true", change)}
			if also != nil {
				also(r)
			}
			return solve(s, r)
		}
	}
	invoke := func(method string, b []byte) func(*side) error {
		return func(s *side) error {
			in, out := rawMessage(b), rawMessage{}
			return s.conn.Invoke(ctx, method, &in, &out, grpc.ForceCodec(rawCodec{}))
		}
	}
	for _, row := range []struct {
		name string
		try  func(*side) error
		// known are words of the daemon's own refusal where it declines, as with methods that it is
		// too old for; empty: it has to do it.
		known string
	}{
		{"a step on the machine's network", run(func(e *pb.ExecOp) { e.Network = pb.NetMode_HOST }, func(r *controlapi.SolveRequest) { r.Entitlements = []string{"network.host"} }), ""},
		{"a step on the machine's network, without saying so", run(func(e *pb.ExecOp) { e.Network = pb.NetMode_HOST }, nil), "network.host"},
		{"a step without a sandbox", run(func(e *pb.ExecOp) { e.Security = pb.SecurityMode_INSECURE }, func(r *controlapi.SolveRequest) { r.Entitlements = []string{"security.insecure"} }), "security.insecure"},
		{"a step without a sandbox, without saying so", run(func(e *pb.ExecOp) { e.Security = pb.SecurityMode_INSECURE }, nil), "security.insecure"},
		{"a step in another cgroup", run(func(e *pb.ExecOp) { e.Meta.CgroupParent = "/escape" }, nil), ""},
		{"entitlements alone", run(nil, func(r *controlapi.SolveRequest) { r.Entitlements = []string{"network.host"} }), ""},
		{"another's image", func(s *side) error {
			return solve(s, &controlapi.SolveRequest{Definition: steps(t, s.w["theirs"], "cat /secret", nil)})
		}, ""},
		{"another's image, in a graph within the graph", func(s *side) error {
			return solve(s, &controlapi.SolveRequest{Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"x": "y"},
				FrontendInputs: map[string]*pb.Definition{"dockerfile": steps(t, s.w["theirs"], "cat /secret", nil)}})
		}, "Dockerfile"},
		{"another's image, as a frontend", func(s *side) error {
			return solve(s, &controlapi.SolveRequest{Frontend: "gateway.v0", FrontendAttrs: map[string]string{"source": s.w["theirs"]}})
		}, "no entrypoint"},
		{"the machine's network, as a parameter", func(s *side) error {
			return solve(s, &controlapi.SolveRequest{Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"force-network-mode": "host"}})
		}, "session"},
		{"a cgroup parent, as a parameter", func(s *side) error {
			return solve(s, &controlapi.SolveRequest{Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"cgroup-parent": "/escape"}})
		}, "session"},
		{"an unknown frontend", func(s *side) error { return solve(s, &controlapi.SolveRequest{Frontend: "other.v0"}) }, "other.v0"},
		// By hand: buildx would look for credentials of this machine first.
		{"a cache of a bucket", run(nil, func(r *controlapi.SolveRequest) {
			r.Cache = &controlapi.CacheOptions{Exports: []*controlapi.CacheOptionsEntry{{Type: "s3"}}}
		}), "s3"},
		{"an unknown exporter", run(nil, func(r *controlapi.SolveRequest) { r.ExporterDeprecated = "other" }), "other"},
		{"the base, as an exporter's name, with a push by digest", run(nil, func(r *controlapi.SolveRequest) {
			r.ExporterDeprecated, r.ExporterAttrsDeprecated = "moby", map[string]string{"name": "attack.test/pushed:1", "push-by-digest": "true"}
		}), ""},
		{"an unknown field", func(s *side) error {
			b, err := (&controlapi.SolveRequest{Ref: "attack-unknown", Definition: steps(t, guardtest.Image, "true", nil)}).MarshalVT()
			if err != nil {
				return err
			}
			return invoke("/moby.buildkit.v1.Control/Solve", protowire.AppendString(protowire.AppendTag(b, 9999, protowire.BytesType), "superpower"))(s)
		}, ""},
		{"an unknown field of a step", run(func(e *pb.ExecOp) {
			e.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 9999, protowire.BytesType), "superpower"))
		}, nil), ""},
		{"a malformed message", invoke("/moby.buildkit.v1.Control/Solve", []byte{0xff, 0xff, 0xff}), "malformed"},
		{"an unknown method", invoke("/moby.buildkit.v1.Control/Superpower", nil), "unknown method"},
		{"an unknown service", invoke("/moby.superpower/Do", nil), "unknown service"},
		{"a process in a step", invoke("/moby.buildkit.v1.frontend.LLBBridge/NewContainer", nil), "build"},
		{"history, changed", invoke("/moby.buildkit.v1.Control/UpdateBuildHistory", nil), "unknown"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := row.try(sides[true]); row.known == "" && err != nil || row.known != "" && err == nil {
				t.Errorf("the row proves nothing: the daemon itself says %v", err)
			}
			err := row.try(sides[false])
			if err == nil || strings.Contains(err.Error(), a.target["secret"]) {
				t.Errorf("the guard says %v", err)
			}
		})
	}

	t.Run("disk usage of others", func(t *testing.T) {
		for bare, s := range sides {
			du, err := s.control.DiskUsage(ctx, &controlapi.DiskUsageRequest{})
			if err != nil || (len(du.Record) > 0) != bare {
				t.Errorf("bare %v: %d records: %v", bare, len(du.GetRecord()), err)
			}
		}
	})
	t.Run("cache, pruned", func(t *testing.T) {
		for _, bare := range []bool{false, true} {
			n := 0
			stream, err := sides[bare].control.Prune(ctx, &controlapi.PruneRequest{All: true})
			for err == nil {
				if _, err = stream.Recv(); err == nil {
					n++
				}
			}
			if (n > 0) != bare {
				t.Errorf("bare %v: %d records pruned: %v", bare, n, err)
			}
		}
	})
	t.Run("progress of another's build", func(t *testing.T) {
		// The same ref at both: through the guard it is the attacker's own, of which there is none.
		const ref = "guessed"
		building, stop := context.WithCancel(ctx)
		defer stop()
		ended := make(chan error, 1)
		definition := steps(t, guardtest.Image, "sleep 1000", nil)
		go func() {
			_, err := sides[true].control.Solve(building, &controlapi.SolveRequest{Ref: ref, Definition: definition})
			ended <- err
		}()
		// shown counts the steps that come until there is one, or for a while.
		shown := func(s *side, while time.Duration) (n int) {
			short, cancel := context.WithTimeout(ctx, while)
			defer cancel()
			stream, err := s.control.Status(short, &controlapi.StatusRequest{Ref: ref})
			for err == nil && n == 0 {
				var m *controlapi.StatusResponse
				if m, err = stream.Recv(); err == nil {
					n += len(m.Vertexes)
				}
			}
			return n
		}
		daemons := 0
		eventually(func() bool { daemons = shown(sides[true], 3*time.Second); return daemons > 0 })
		guards := shown(sides[false], 3*time.Second)
		select {
		case err := <-ended:
			t.Errorf("the build has ended: %v", err)
		default:
		}
		stop()
		<-ended
		if daemons == 0 || guards > 0 {
			t.Errorf("the daemon shows %d, the guard %d steps", daemons, guards)
		}
	})
	t.Run("on other paths", func(t *testing.T) {
		for _, path := range []string{"/_ping", "/session", "/containers/json", "/v1.41/images/json", "/"} {
			conn := control(t, a.attacker.Socket, path)
			if _, err := controlapi.NewControlClient(conn).DiskUsage(ctx, &controlapi.DiskUsageRequest{}); err == nil {
				t.Errorf("BuildKit answers on %s", path)
			}
		}
	})
}
