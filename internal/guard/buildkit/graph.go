package buildkit

import (
	"context"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// maxDepth bounds builds within builds.
const maxDepth = 32

// definition judges a build graph. BuildKit names its vertices by their bytes, so they can't be
// changed, only refused.
func (p *Proxy) definition(ctx context.Context, d *pb.Definition, depth int) error {
	if d == nil {
		return nil
	}
	if depth > maxDepth {
		return apierror.BadRequest("the build is nested too deeply")
	}
	there := map[string]bool{}
	for _, b := range d.Def {
		there[digest.FromBytes(b).String()] = true
	}
	for i, b := range d.Def {
		var op pb.Op
		if err := decodeMessage(b, &op); err != nil {
			return err
		}
		if s := op.GetSource(); s != nil {
			if name, is := strings.CutPrefix(s.Identifier, image); is {
				if err := p.held(ctx, name); err != nil {
					return err
				}
			}
			for _, k := range []string{pb.AttrLocalSessionID, pb.AttrOCILayoutSessionID} {
				if id := s.Attrs[k]; id != "" {
					if err := p.ownSession(ctx, id); err != nil {
						return err
					}
				}
			}
		}
		if e := op.GetExec(); e != nil {
			if err := execution(e); err != nil {
				return err
			}
		}
		if err := p.definition(ctx, op.GetBuild().GetDef(), depth+1); err != nil {
			return err
		}
		if err := wellFormed(&op, there); err != nil {
			return err
		}
		if i == len(d.Def)-1 && len(op.Inputs) == 0 {
			return apierror.BadRequest("the build's graph has no result")
		}
	}
	return nil
}

// execution judges a step that runs a command.
func execution(e *pb.ExecOp) error {
	switch {
	case e.Network == pb.NetMode_HOST:
		return apierror.Refuse("the network mode host of a step", "the machine's network isn't shared", "")
	case e.Security != pb.SecurityMode_SANDBOX:
		return apierror.Refuse(
			"the security mode "+e.Security.String()+" of a step",
			"a build's steps get no more rights than a container",
			"",
		)
	case len(e.CdiDevices) > 0:
		return apierror.Refuse("the devices of a step", "a build's steps get no devices", "")
	case e.Meta.GetProxyEnv() != nil:
		return apierror.Refuse(
			"the proxy of a step",
			"it isn't a part of the step in the cache, which other stages use",
			"set it with RUN export, or as an argument of the build",
		)
	case e.Meta.GetCgroupParent() != "":
		return apierror.Refuse("the cgroup parent of a step", "it is the runner's choice", "")
	}
	return nil
}

// wellFormed refuses what no client of BuildKit's would write: there are daemons that it ends
// (CVE-2024-23650; Debian's 26.1), and all stages with it. there are the digests of the graph's
// vertices.
func wellFormed(op *pb.Op, there map[string]bool) error {
	for _, in := range op.Inputs {
		if !there[in.Digest] || in.Index < 0 {
			return apierror.BadRequest("a step's input isn't in the build's graph")
		}
	}
	input := func(n int64) bool { return n >= 0 && n < int64(len(op.Inputs)) }
	optional := func(n int64) bool { return n == int64(pb.Empty) || input(n) }
	switch v := op.Op.(type) {
	case *pb.Op_Exec:
		root := false
		for _, m := range v.Exec.GetMounts() {
			if !optional(m.Input) || m.Output < int64(pb.SkipOutput) {
				return apierror.BadRequest("a step's mount isn't in the build's graph")
			}
			root = root || m.Dest == pb.RootMount
		}
		if !root || len(v.Exec.Meta.GetArgs()) == 0 {
			return apierror.BadRequest("a step has no command, or no root file system")
		}
	case *pb.Op_File:
		return wellFormedFiles(v.File, len(op.Inputs))
	case *pb.Op_Merge:
		for _, m := range v.Merge.GetInputs() {
			if !input(m.Input) {
				return apierror.BadRequest("a merge's input isn't in the build's graph")
			}
		}
	case *pb.Op_Diff:
		if !optional(v.Diff.GetLower().GetInput()) || !optional(v.Diff.GetUpper().GetInput()) || v.Diff.GetLower() == nil || v.Diff.GetUpper() == nil {
			return apierror.BadRequest("a difference's input isn't in the build's graph")
		}
	case *pb.Op_Build:
		if v.Build.Builder >= 0 && !input(v.Build.Builder) {
			return apierror.BadRequest("a build in the build's graph has no builder")
		}
	}
	return nil
}

// wellFormedFiles is wellFormed of changes to files: each may go upon an input of the step, or upon
// what a change before it has made.
func wellFormedFiles(f *pb.FileOp, inputs int) error {
	if len(f.GetActions()) == 0 {
		return apierror.BadRequest("a step that changes files has no changes")
	}
	known := func(n int64) bool { return n >= int64(pb.Empty) && n < int64(inputs+len(f.Actions)) }
	for _, a := range f.Actions {
		if a.Action == nil || !known(a.Input) || !known(a.SecondaryInput) || a.Output < int64(pb.SkipOutput) {
			return apierror.BadRequest("a change to files isn't in the build's graph")
		}
	}
	return nil
}
