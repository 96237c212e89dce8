package livelog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drone/drone-go/drone"
)

func TestLimit(t *testing.T) {
	const why = "left out here: the log takes more than 2KiB to send, the limit that DRONE_RUNNER_LOG_LIMIT sets]"
	for _, tc := range []struct {
		name  string
		limit int64
		lines []string
		want  string
	}{
		{"within", 2048, repeat(15, 100), "0-14"},
		{"by many lines", 2048, repeat(12000, 100), "0-6 [11988 lines (1.143MiB) " + why + " 11995-11999"},
		{"short lines", 2048, repeat(1000, 2), "0-31 [945 lines (1.846KiB) " + why + " 977-999"},
		{"empty lines", 2048, repeat(100_000, 1), "0-32 [99945 lines (97.6KiB) " + why + " 99978-99999"},
		{"none", -1, repeat(600, 10000), "0-599"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLog(t, Options{Limit: tc.limit})
			writeAll(t, l, strings.Join(tc.lines, ""))
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

// Whatever the lines, in whatever writes, the log is the longest head and the longest tail of whole
// lines that the limit allows, what is missing is counted, and no more is sent than the limit says.
// The same holds for a log that has to be shorter than its limit.
func TestLimitWithAnyLines(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		max := int64(4096 + rnd.IntN(9000))
		var text strings.Builder
		for range rnd.IntN(150) {
			text.WriteString(strings.Repeat([]string{"é", "x", "\x01"}[rnd.IntN(3)], rnd.IntN(1+rnd.IntN(170/3))) + "\n")
		}
		l := newLog(t, Options{Limit: max})
		writeChunks(t, l, text.String(), func() int { return 1 + rnd.IntN(3000) })
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(strings.TrimSuffix(text.String(), "\n"), "\n")
		if text.Len() > 0 {
			lines[len(lines)-1] += "\n"
		} else {
			lines = nil
		}
		for _, within := range []int64{max, max * 2, max / 2, max / 3} {
			r, err := l.Shortened(within, "it is too much")()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			within = min(within, max)
			if int64(len(data)) > within {
				t.Fatalf("seed %d: %d bytes are sent, and %d is the limit", seed, len(data), within)
			}
			var got []*drone.Line
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if got, want := ranges(got), shortened(lines, within); !strings.HasPrefix(got, want) && got != want {
				t.Fatalf("seed %d: within %d: got %s, want %s", seed, within, got, want)
			}
		}
	}
}

// shortened is what a log of those lines should become, as ranges has it, up to why.
func shortened(lines []string, max int64) string {
	size := func(i int) int64 {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(drone.Line{Number: i, Message: lines[i]})
		return int64(b.Len())
	}
	total := int64(1)
	for i := range lines {
		total += size(i)
	}
	if total <= max {
		if len(lines) == 0 {
			return ""
		}
		return fmt.Sprintf("0-%d", len(lines)-1)
	}
	head, room := 0, max/2
	for ; head < len(lines) && size(head) <= room; head++ {
		room -= size(head)
	}
	tail, room := len(lines), max-max/2-min(noticeRoom, max/8)
	for ; tail > head && size(tail-1) <= room; tail-- {
		room -= size(tail - 1)
	}
	missing := int64(len(strings.Join(lines[head:tail], "")))
	return strings.TrimSpace(fmt.Sprintf("0-%d [%s left out here: ", head-1, amount(tail-head, missing)))
}

// An upload is no longer than the limit, however short the lines are.
func TestLimitOfEmptyLines(t *testing.T) {
	l := newLog(t, Options{})
	chunk := []byte(strings.Repeat("\n", 50_000))
	for range 20 {
		if _, err := l.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if err != nil || n > DefaultLimit || n < DefaultLimit*9/10 {
		t.Errorf("%d bytes are sent (%v), and the limit is %d", n, err, DefaultLimit)
	}
}

// checkGap wants a log that passed its limit: one gap as wide as the notice in it says.
func checkGap(t *testing.T, l *testLog) {
	t.Helper()
	lines, notices := whole(t, l), 0
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
		}
	}
	if last := lines[len(lines)-1].Number; last != l.Lines()-1 {
		t.Fatalf("the last pos is %d of %d lines", last, l.Lines())
	}
	if notices != 1 {
		t.Fatalf("got %d notices", notices)
	}
}

// /dev/full is a disk that is full: each write fails with "no space left on device".
func TestFullDisk(t *testing.T) {
	l := newLog(t, Options{Limit: 5400}) // The head has room for 20 lines.
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
	write(15, 26)
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
	l := newLog(t, Options{Limit: 5400, Send: v.send})
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
