package buildkit

import (
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// result is a definition of two operations: one, and the last one, which makes it the result.
func result(t testing.TB, op *pb.Op) *pb.Definition {
	t.Helper()
	b := marshal(t, op)
	return &pb.Definition{Def: [][]byte{b, marshal(t, &pb.Op{Inputs: []*pb.Input{{Digest: digest.FromBytes(b).String()}}})}}
}

// TestMalformedGraphIsRefused has graphs that a daemon could end at.
func TestMalformedGraphIsRefused(t *testing.T) {
	p := imageProxy(t)
	root := &pb.Mount{Dest: "/", Input: -1}
	command := &pb.Meta{Args: []string{"true"}}
	files := func(a *pb.FileAction) *pb.Op {
		return &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{a}}}}
	}
	mkdir := &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: "/x"}}
	for _, tt := range []struct {
		name string
		op   *pb.Op
		good bool
	}{
		{"a source", sourceOp("docker-image://docker.io/library/golang:1"), true},
		{"a command", execOp(&pb.ExecOp{Meta: command, Mounts: []*pb.Mount{root}}), true},
		{"a command without words", execOp(&pb.ExecOp{Meta: &pb.Meta{}, Mounts: []*pb.Mount{root}}), false},
		{"a command of nothing", execOp(&pb.ExecOp{Mounts: []*pb.Mount{root}}), false},
		{"a command without a root", execOp(&pb.ExecOp{Meta: command, Mounts: []*pb.Mount{{Dest: "/x", Input: -1}}}), false},
		{"a mount upon an input that isn't there", execOp(&pb.ExecOp{Meta: command, Mounts: []*pb.Mount{{Dest: "/", Input: 1}}}), false},
		{"a mount upon a negative input", execOp(&pb.ExecOp{Meta: command, Mounts: []*pb.Mount{{Dest: "/", Input: -2}}}), false},
		{"a mount with a negative output", execOp(&pb.ExecOp{Meta: command, Mounts: []*pb.Mount{{Dest: "/", Input: -1, Output: -2}}}), false},
		{"a new folder", files(&pb.FileAction{Input: -1, SecondaryInput: -1, Action: mkdir}), true},
		{"a change of nothing", files(&pb.FileAction{Input: -1, SecondaryInput: -1}), false},
		{"a new folder upon nothing", files(&pb.FileAction{Input: 7, SecondaryInput: -1, Action: mkdir}), false},
		{"a copy from nothing", files(&pb.FileAction{Input: -1, SecondaryInput: -9, Action: mkdir}), false},
		{"no changes", &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{}}}, false},
		{"a merge of nothing", &pb.Op{Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 3}}}}}, false},
		{"a difference of nothing", &pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{}}}, false},
		{"a build by nothing", &pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{Builder: 2}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := p.definition(t.Context(), result(t, tt.op), 0); (err == nil) != tt.good {
				t.Errorf("the guard says %v", err)
			}
		})
	}
}
