package livelog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLog(t *testing.T) {
	for _, tc := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"nothing", nil, []string{}},
		{"empty writes", []string{"", ""}, []string{}},
		{"lines", []string{"a\nb\n", "c\n"}, []string{"a\n", "b\n", "c\n"}},
		{"lines in pieces", []string{"a", "b\nc", "", "d", "\n"}, []string{"ab\n", "cd\n"}},
		{"no end", []string{"a\nb"}, []string{"a\n", "b"}},
		{"only line ends", []string{"\n", "\n\n"}, []string{"\n", "\n", "\n"}},
		{"progress and CRLF", []string{"1%\r", "2%\r\n"}, []string{"1%\r2%\r\n"}},
		{"JSON's own characters", []string{"\"\\/\x00\x1b[0m\u2028<&>\t\n"}, []string{"\"\\/\x00\x1b[0m\u2028<&>\t\n"}},
		{"not UTF-8", []string{"a\xff\xfeb\n"}, []string{"a\ufffd\ufffdb\n"}},
		{"half a character", []string{"a\xf0\x9fb\n"}, []string{"a\ufffd\ufffdb\n"}},
		{"a character in pieces", []string{"\xf0\x9f", "\x98\x80\n"}, []string{"😀\n"}},
		{"a line of a megabyte", []string{strings.Repeat("x", 1<<20), "\n"}, []string{
			strings.Repeat("x", MaxLine), strings.Repeat("x", MaxLine), strings.Repeat("x", MaxLine), strings.Repeat("x", MaxLine), "\n",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLog(t, Options{})
			for _, w := range tc.writes {
				writeAll(t, l, w)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l.Lines() != len(tc.want) {
				t.Errorf("Lines: got %d, want %d", l.Lines(), len(tc.want))
			}
			for range 2 { // It can be opened again.
				got := whole(t, l)
				if text := texts(got); !slices.Equal(text, tc.want) {
					t.Errorf("got %.300q, want %.300q", text, tc.want)
				}
				for i, line := range got {
					if line.Number != i {
						t.Errorf("line %d has pos %d", i, line.Number)
					}
				}
			}
		})
	}
}

func TestLogTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, Options{Started: time.Now().Add(-1500 * time.Millisecond)})
		writeAll(t, l, "a\nb")
		time.Sleep(4 * time.Second)
		writeAll(t, l, "\n")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := whole(t, l); got[0].Timestamp != 1 || got[1].Timestamp != 5 {
			t.Errorf("got %d s and %d s, want 1 and 5", got[0].Timestamp, got[1].Timestamp)
		}
		l = newLog(t, Options{Started: time.Now().Add(time.Hour)})
		writeAll(t, l, "a\n")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := whole(t, l); got[0].Timestamp != 0 {
			t.Errorf("before the start: got %d s, want 0", got[0].Timestamp)
		}
	})
}

func TestLogLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "if", "need", "be")
	log, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{log, NewOutput(log, NewMask(nil))}
	if _, err := l.Open(); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Open before Close: got %v", err)
	}
	writeAll(t, l, "a\n")
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	writeAll(t, l, "b\n")
	l.Line([]byte("b\n"))
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Remove(); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	if data, err := io.ReadAll(r); err != nil || string(data) != `[{"pos":0,"out":"a\n","time":0}]` {
		t.Errorf("read when removed: got %s, %v", data, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Open(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Open after Remove: got %v", err)
	}
	writeAll(t, l, "b\n")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestLogRemoveUnclosed(t *testing.T) {
	l := newLog(t, Options{Send: (&viewer{}).send})
	writeAll(t, l, "a\nb")
	if err := l.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the spool is still there: %v", err)
	}
}

func TestNewWithoutPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

func TestLogConcurrently(t *testing.T) {
	v := &viewer{}
	l := newLog(t, Options{Limit: 5000, Interval: time.Millisecond, Send: v.send})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				if _, err := fmt.Fprintf(l, "writer %d line %d\n", i, j); err != nil {
					t.Error(err)
				}
				_ = l.out.Tail()
				_ = l.Lines()
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l.Lines() != 800 {
		t.Errorf("got %d lines", l.Lines())
	}
	checkGap(t, l)
	v.check(t)
}

// A spool that the runner left behind can be read: every line that was written is there at once.
func TestSpoolIsReadableAtAnyTime(t *testing.T) {
	l := newLog(t, Options{Limit: 1000})
	for i := range 500 {
		writeAll(t, l, fmt.Sprintf("line %d\nthe next", i))
		files, err := filepath.Glob(filepath.Join(l.Path(), "*.jsonl"))
		if err != nil || len(files) == 0 || len(files) > keptSegments {
			t.Fatalf("got the files %q, %v", files, err)
		}
		data, err := os.ReadFile(files[len(files)-1])
		if err != nil {
			t.Fatal(err)
		}
		lines, err := decode(data)
		if err != nil || len(lines) == 0 || lines[len(lines)-1].Number != i || !strings.HasSuffix(lines[len(lines)-1].Message, fmt.Sprintf("line %d\n", i)) {
			t.Fatalf("after line %d: got %s, %v", i, data, err)
		}
	}
}

// What a step prints changes nothing about the memory that it takes, with a server that hangs
// besides.
func TestLogMemoryIsFlat(t *testing.T) {
	const lines, size = 200_000, 50 << 20
	line := strings.Repeat("x", size/lines-1) + "\n"
	var sent atomic.Int64
	hanging := make(chan struct{})
	l := newLog(t, Options{Send: func(context.Context, []*drone.Line) error {
		if sent.Add(1) == 1 {
			<-hanging
		}
		return nil
	}}, "s3cret", "xxxxxy")
	before := heap()
	var peak uint64
	buf := []byte(strings.Repeat(line, 100))
	for i := range lines / 100 {
		if _, err := l.Write(buf); err != nil {
			t.Fatal(err)
		}
		if i%200 == 0 {
			peak = max(peak, heap())
		}
	}
	close(hanging)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if err != nil || n < DefaultLimit*9/10 || n > DefaultLimit {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	peak = max(peak, heap())
	if l.Lines() != lines {
		t.Errorf("got %d lines, want %d", l.Lines(), lines)
	}
	if peak > before+8<<20 {
		t.Errorf("the heap grew by %d KiB", (peak-before)>>10)
	}
	var disk int64
	files, _ := filepath.Glob(filepath.Join(l.Path(), "*"))
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		disk += info.Size()
	}
	if disk > 2*DefaultLimit {
		t.Errorf("the spool has %d bytes", disk)
	}
}

// heap is what is in use, garbage not counted.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkLog(b *testing.B) {
	line := []byte(strings.Repeat("x", 249) + "\n")
	chunk := []byte(strings.Repeat(string(line), 128))
	for _, bc := range []struct {
		name string
		p    []byte
	}{{"line", line}, {"32KB", chunk}} {
		b.Run(bc.name, func(b *testing.B) {
			l := newLog(b, Options{Send: func(context.Context, []*drone.Line) error { return nil }})
			b.SetBytes(int64(len(bc.p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Write(bc.p); err != nil {
					b.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// testLog is a log behind an output.
type testLog struct {
	*Log
	out *Output
}

func (l *testLog) Write(p []byte) (int, error) { return l.out.Write(p) }

// Close closes the output and waits for the live lines.
func (l *testLog) Close() error {
	_, err := l.out.Close()
	return errors.Join(err, l.Wait())
}

// newLog is a log in a folder of the test's, removed with it. The secrets are masked.
func newLog(t testing.TB, o Options, secrets ...string) *testLog {
	t.Helper()
	o.Dir = t.TempDir()
	log, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{log, NewOutput(log, NewMask(secrets))}
	t.Cleanup(func() {
		if err := l.Remove(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// whole is the log as it is uploaded.
func whole(t testing.TB, l interface{ Open() (io.ReadCloser, error) }) []*drone.Line {
	t.Helper()
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	length := r.(interface{ Len() int }).Len()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != length {
		t.Fatalf("the log has %d bytes, and said %d", len(data), length)
	}
	var lines []*drone.Line
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&lines); err != nil {
		t.Fatalf("the log isn't an array of lines: %v", err)
	}
	if rest, err := io.ReadAll(dec.Buffered()); err != nil || len(rest) > 0 {
		t.Fatalf("after the array: %q, %v", rest, err)
	}
	return lines
}

// texts is what the lines say.
func texts(lines []*drone.Line) []string {
	out := []string{}
	for _, line := range lines {
		out = append(out, line.Message)
	}
	return out
}
