package livelog

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drone/drone-go/drone"
)

func TestLimit(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit int64
		lines []string
		want  string
	}{
		{"within", 2000, repeat(20, 100), "0-19"},
		{"by one line", 2000, repeat(21, 100), "0-9 [1 line (100B) left out here: the log is longer than 1.953KiB, the limit that DRONE_RUNNER_LOG_LIMIT sets] 11-20"},
		{"by one byte", 2000, append(repeat(20, 100), "\n"), "0-9 [1 line (100B) left out here: the log is longer than 1.953KiB, the limit that DRONE_RUNNER_LOG_LIMIT sets] 11-20"},
		{"by many lines", 2000, repeat(12000, 100), "0-9 [11980 lines (1.143MiB) left out here: the log is longer than 1.953KiB, the limit that DRONE_RUNNER_LOG_LIMIT sets] 11990-11999"},
		{"short lines", 1024, repeat(1000, 2), "0-255 [488 lines (976B) left out here: the log is longer than 1KiB, the limit that DRONE_RUNNER_LOG_LIMIT sets] 744-999"},
		{"of nothing", 1, repeat(3, 100), "[3 lines (300B) left out here: the log is longer than 1B, the limit that DRONE_RUNNER_LOG_LIMIT sets]"},
		{"none", -1, repeat(600, 10000), "0-599"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLog(t, Options{Limit: tc.limit})
			for _, line := range tc.lines {
				writeAll(t, l, line)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got := ranges(whole(t, l)); got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
			}
		})
	}
}

// Whatever the lines, in whatever writes: what is kept is as much as the limit allows, to a line at each side, and what is missing is counted.
func TestLimitWithAnyLines(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		limit := int64(1024 + rnd.IntN(5000))
		var text strings.Builder
		for range rnd.IntN(60) {
			text.WriteString(strings.Repeat("é", rnd.IntN(1+rnd.IntN(1000))) + "\n")
		}
		l := newLog(t, Options{Limit: limit})
		writeChunks(t, l, text.String(), func() int { return 1 + rnd.IntN(3000) })
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if text.Len() <= int(limit) {
			if got := strings.Join(texts(whole(t, l)), ""); got != text.String() {
				t.Fatalf("seed %d: a log within the limit isn't whole", seed)
			}
			continue
		}
		checkGap(t, l, limit)
		got := texts(whole(t, l))
		for i, line := range got {
			if strings.HasPrefix(line, "[") {
				head, tail := strings.Join(got[:i], ""), strings.Join(got[i+1:], "")
				if !strings.HasPrefix(text.String(), head) || !strings.HasSuffix(text.String(), tail) {
					t.Fatalf("seed %d: it isn't the head and the tail", seed)
				}
				if missing := fmt.Sprintf("(%s)", strings.TrimSuffix(strings.TrimPrefix(amount(2, int64(text.Len()-len(head)-len(tail))), "2 lines ("), ")")); !strings.Contains(line, missing) {
					t.Fatalf("seed %d: %q should say %s", seed, line, missing)
				}
			}
		}
	}
}

// checkGap wants a log that passed its limit: no longer than it, no shorter than needed, one gap as wide as the notice in it says.
func checkGap(t *testing.T, l *Log, max int64) {
	t.Helper()
	lines, notices, size := whole(t, l), 0, int64(0)
	for i, line := range lines {
		var missing int
		n, _ := fmt.Sscanf(line.Message, "[%d line", &missing)
		switch {
		case n == 1:
			notices++
			if i == 0 || i == len(lines)-1 || lines[i-1].Number+1 != line.Number || line.Number+missing != lines[i+1].Number {
				t.Fatalf("the notice %q, pos %d, is in the wrong place", line.Message, line.Number)
			}
		case i > 0 && lines[i-1].Number+1 != line.Number && !strings.HasPrefix(lines[i-1].Message, "["):
			t.Fatalf("pos %d comes after %d", line.Number, lines[i-1].Number)
		default:
			size += int64(len(line.Message))
		}
	}
	if last := lines[len(lines)-1].Number; last != l.Lines()-1 {
		t.Fatalf("the last pos is %d of %d lines", last, l.Lines())
	}
	if longest := int64(limit(max).line()); notices != 1 || size > max || size < max-2*longest {
		t.Fatalf("got %d notices, %d bytes of %d", notices, size, max)
	}
}

// /dev/full is a disk that is full: each write fails with "no space left on device".
func TestFullDisk(t *testing.T) {
	l := newLog(t, Options{Limit: 4000})
	lines := repeat(100, 100)
	write := func(from, to int) {
		t.Helper()
		for _, line := range lines[from:to] {
			writeAll(t, l, line)
		}
	}
	write(0, 15)
	file := filepath.Join(l.Path(), "000001.jsonl")
	if err := os.Symlink("/dev/full", file); err != nil {
		t.Fatal(err)
	}
	write(15, 26) // The head has room for 20.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.spool.closeFile() // Or it would go on with the file that it has.
	l.mu.Unlock()
	write(26, 30)
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("Close: got %v", err)
	}
	if got, want := ranges(whole(t, l)), "0-19 [6 lines (600B) of this log lost here: the runner couldn't keep them: no space left on device] 26-29"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFullDiskToTheEnd(t *testing.T) {
	v := &viewer{}
	l := newLog(t, Options{Limit: 4000, Send: v.send})
	if err := os.Symlink("/dev/full", filepath.Join(l.Path(), "000001.jsonl")); err != nil {
		t.Fatal(err)
	}
	for _, line := range append(repeat(5000, 100), "the end") {
		writeAll(t, l, line)
	}
	if err := l.Close(); err == nil {
		t.Error("Close: no error")
	}
	if got, want := ranges(whole(t, l)), "0-19 [4981 lines (486.3KiB) of this log lost here: the runner couldn't keep them: no space left on device]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	v.check(t)
	if got := ranges(v.all()); got != "0-19" {
		t.Errorf("live: got %s", got)
	}
}

// repeat is n lines of that many bytes.
func repeat(n, bytes int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = strings.Repeat("x", bytes-1) + "\n"
	}
	return lines
}

// ranges is the pos of the lines, short, and the notices.
func ranges(lines []*drone.Line) string {
	var out []string
	for i := 0; i < len(lines); {
		if strings.HasPrefix(lines[i].Message, "[") {
			out = append(out, strings.TrimSuffix(lines[i].Message, "\n"))
			i++
			continue
		}
		from := i
		for i++; i < len(lines) && lines[i].Number == lines[i-1].Number+1 && !strings.HasPrefix(lines[i].Message, "["); i++ {
		}
		out = append(out, fmt.Sprintf("%d-%d", lines[from].Number, lines[i-1].Number))
	}
	return strings.Join(out, " ")
}
