package livelog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drone/drone-go/drone"
)

// crash copies a spool as a crash would leave it, with the last bytes of its last file missing.
func crash(t *testing.T, l *testLog, missing int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(l.Path())); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the spool has the files %v: %v", files, err)
	}
	last := files[len(files)-1]
	info, err := os.Stat(last)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(last, max(info.Size()-int64(missing), 0)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// recovered is a log that Recover made, read whole.
func recovered(t *testing.T, dir string, limit int64, notice string) []*drone.Line {
	t.Helper()
	l, err := Recover(dir, limit, notice)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return whole(t, l)
}

// After a crash at any byte every whole line is there, once, and then the notice.
func TestRecoverAtEveryByte(t *testing.T) {
	l := newLog(t, Options{})
	writeAll(t, l, "one\ntwo <&> \"ü\"\n\nfour\nnot whole")
	lines := []string{"one\n", "two <&> \"ü\"\n", "\n", "four\n"}
	data, err := os.ReadFile(filepath.Join(l.Path(), "000000.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for missing := range len(data) + 1 {
		dir := crash(t, l, missing)
		want := append(lines[:bytes.Count(data[:len(data)-missing], []byte("\n")):4], "the end\n")
		for range 2 { // A crash in the recovery is recovered from.
			got := recovered(t, dir, 0, "the end")
			if strings.Join(texts(got), "") != strings.Join(want, "") || got[len(got)-1].Number != len(want)-1 {
				t.Fatalf("without %d bytes: got %q, want %q", missing, texts(got), want)
			}
		}
	}
}

// A log that is longer than its limit has its head and its tail after a crash too.
func TestRecoverBeyondTheLimit(t *testing.T) {
	const limit = 4000
	for _, n := range []int{10, 100, 400, 1000, 5000} {
		l := newLog(t, Options{Limit: limit})
		for i := range n {
			writeAll(t, l, fmt.Sprintf("line %d\n", i))
		}
		dir := crash(t, l, rand.IntN(10))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		got, size := recovered(t, dir, limit, "the end"), 0
		last := -1
		for _, line := range got {
			size += len(line.Message)
			if line.Number <= last {
				t.Fatalf("%d lines: pos %d comes after %d", n, line.Number, last)
			}
			last = line.Number
		}
		text := strings.Join(texts(got), "")
		if size > limit+200 || !strings.HasPrefix(text, "line 0\n") || !strings.HasSuffix(text, "\nthe end\n") || !strings.Contains(text, fmt.Sprintf("\nline %d\n", n-2)) {
			t.Errorf("%d lines: got %d bytes, from %.20q to %q", n, size, text, text[max(0, len(text)-40):])
		}
		if cut := strings.Contains(text, "left out here"); cut != (n >= 400) {
			t.Errorf("%d lines: it tells of what is missing: %t", n, cut)
		}
	}
}

// What isn't a line of the log is passed over, whatever it is.
func TestRecoverForeignFiles(t *testing.T) {
	line := func(pos int, text string) string {
		data, err := json.Marshal(drone.Line{Number: pos, Message: text})
		if err != nil {
			t.Fatal(err)
		}
		return string(data) + "\n"
	}
	for _, row := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"an empty folder", nil, "end\n"},
		{"an empty segment", map[string]string{"000000.jsonl": ""}, "end\n"},
		{"zeros of a power cut", map[string]string{"000000.jsonl": line(0, "a\n") + "\x00\x00\x00\x00"}, "a\nend\n"},
		{"a torn line in the middle", map[string]string{"000000.jsonl": line(0, "a\n") + `{"pos":1,"ou` + "\n" + line(2, "c\n")}, "a\nc\nend\n"},
		{"a torn segment before another", map[string]string{"000000.jsonl": line(0, "a\n") + `{"pos":1,"ou`, "000001.jsonl": line(2, "c\n")}, "a\nc\nend\n"},
		{"no head", map[string]string{"000003.jsonl": line(7, "h\n")}, "h\nend\n"},
		{"lines again", map[string]string{"000000.jsonl": line(0, "a\n") + line(0, "a\n") + line(1, "b\n")}, "a\nb\nend\n"},
		{"other JSON", map[string]string{"000000.jsonl": "null\n[]\n7\n{}\n" + line(0, "a\n")}, "a\nend\n"},
		{"other files", map[string]string{"000000.jsonl": line(0, "a\n"), "x.jsonl": line(1, "x\n"), "mend-1": "x", "000001.jsonl.gz": "x"}, "a\nend\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range row.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(texts(recovered(t, dir, 0, "end")), ""); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
	if _, err := Recover(filepath.Join(t.TempDir(), "nothing"), 0, ""); !os.IsNotExist(err) && !strings.Contains(fmt.Sprint(err), "no such file") {
		t.Errorf("a spool that isn't there: %v", err)
	}
}
