package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/pkg/stdcopy"
)

func TestDemuxKeepsLinesWhole(t *testing.T) {
	const out, err = stdcopy.Stdout, stdcopy.Stderr
	type frame struct {
		stream stdcopy.StdType
		text   string
	}
	long := strings.Repeat("x", maxHeldLine)
	for _, row := range []struct {
		name   string
		frames []frame
		want   string
	}{
		{"nothing", nil, ""},
		{"one line", []frame{{out, "a\n"}}, "a\n"},
		{"no newline at the end", []frame{{out, "a\nb"}}, "a\nb"},
		{"a line in pieces", []frame{{out, "a"}, {out, "b"}, {out, "c\n"}}, "abc\n"},
		{"in order", []frame{{out, "1\n"}, {err, "2\n"}, {out, "3\n"}}, "1\n2\n3\n"},
		{"the other stream doesn't tear a line", []frame{{out, "se"}, {err, "warning\n"}, {out, "cret\n"}}, "warning\nsecret\n"},
		{"both unfinished", []frame{{out, "a\nse"}, {err, "war"}, {out, "cret\nnext"}, {err, "ning\n"}}, "a\nsecret\nwarning\nnext"},
		{"several lines at once", []frame{{out, "a\nb\nc"}, {err, "x\n"}}, "a\nb\nx\nc"},
		{"an endless line", []frame{{out, long}, {out, "y"}, {err, "warning\n"}, {out, "z\n"}}, long + "ywarning\nz\n"},
		{"empty lines", []frame{{out, "\n\n"}, {out, "\n"}}, "\n\n\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var framed, got bytes.Buffer
			for _, f := range row.frames {
				if _, err := stdcopy.NewStdWriter(&framed, f.stream).Write([]byte(f.text)); err != nil {
					t.Fatal(err)
				}
			}
			if err := demux(&got, &framed); err != nil {
				t.Fatal(err)
			}
			if got.String() != row.want {
				t.Errorf("%q, want %q", got.String(), row.want)
			}
		})
	}
}

func TestDemuxReportsABrokenStream(t *testing.T) {
	var framed, got bytes.Buffer
	_, _ = stdcopy.NewStdWriter(&framed, stdcopy.Stdout).Write([]byte("whole\nhalf"))
	framed.WriteString("no frame at all")
	if err := demux(&got, &framed); err == nil {
		t.Error("no error")
	}
	if got.String() != "whole\nhalf" {
		t.Errorf("what came before is lost: %q", got.String())
	}
}

func TestSpoolGivesBackWhatItTook(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const seed = 7
	for _, row := range []struct {
		name  string
		pause int // the reader lets this many writes pass now and then
		size  int
	}{
		{"a quick reader", 0, 4 << 20},
		{"a reader that falls behind", 200, 16 << 20},
	} {
		t.Run(row.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, seed))
			want := make([]byte, row.size)
			for i := range want {
				want[i] = byte(random.Uint32())
			}
			s := newSpool()
			var got bytes.Buffer
			var reader sync.WaitGroup
			gate := make(chan struct{}, 1<<20)
			reader.Go(func() {
				if err := s.copyTo(writerFunc(func(p []byte) (int, error) {
					for range row.pause {
						<-gate
					}
					return got.Write(p)
				})); err != nil {
					t.Error(err)
				}
			})
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(64<<10))
				if m, err := s.Write(rest[:n]); m != n || err != nil {
					t.Fatal(m, err)
				}
				rest = rest[n:]
				gate <- struct{}{}
			}
			s.end()
			close(gate)
			reader.Wait()
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%d bytes came back of %d, or other ones", got.Len(), len(want))
			}
			if files, err := os.ReadDir(os.TempDir()); err != nil || len(files) > 0 {
				t.Errorf("files left: %v, %v", files, err)
			}
		})
	}
}

func TestSpoolWithoutAReaderOrADisk(t *testing.T) {
	t.Setenv("TMPDIR", "/no/such/folder")
	s := newSpool()
	if _, err := s.Write(make([]byte, spoolMemory)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}

	s = newSpool()
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.copyTo(writerFunc(func([]byte) (int, error) { return 0, io.ErrShortWrite })); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error %v", err)
	}
	for range 3 { // nobody reads any more, and nothing jams or fails
		if _, err := s.Write(make([]byte, spoolMemory)); err != nil {
			t.Fatal(err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func BenchmarkSpool(b *testing.B) {
	chunk := bytes.Repeat([]byte(fmt.Sprintf("%079d\n", 1)), 400)
	b.SetBytes(int64(len(chunk)))
	s := newSpool()
	var reader sync.WaitGroup
	reader.Go(func() { _ = s.copyTo(io.Discard) })
	for b.Loop() {
		if _, err := s.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	s.end()
	reader.Wait()
}
