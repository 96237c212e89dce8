package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drone/drone-go/drone"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// open opens a journal whose log is the buffer's.
func open(t *testing.T, state string) (*Journal, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	j, err := Open(t.Context(), state, "me", log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, &out
}

// begin is the entry of a stage with a step whose spool is there.
func begin(t *testing.T, j *Journal, id int64) *Entry {
	t.Helper()
	e, err := j.Begin(drone.Stage{ID: id, Name: "default", Machine: "me", Version: 1, Steps: []*drone.Step{{ID: 9}}})
	if err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(j.Logs(), "log-"+random())
	if err := os.Mkdir(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := e.Update(func(r *Record) {
		r.Spec = "drone-" + random()
		r.Steps = []Step{{State: drone.Step{ID: 5, StageID: id, Number: 1, Name: "a", Version: 1}, Told: drone.StatusRunning, Spool: filepath.Base(spool)}}
	}); err != nil {
		t.Fatal(err)
	}
	return e
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := list(dir)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// What one life has written the next one finds, as orphans; what it removed is gone, with its
// spools.
func TestJournalSurvives(t *testing.T) {
	state := t.TempDir()
	j, _ := open(t, state)
	kept, removed, left := begin(t, j, 1), begin(t, j, 2), begin(t, j, 3)
	if got := j.Running(); got != 3 {
		t.Errorf("%d stages run, want 3", got)
	}
	if !j.Runs(kept.Record().Spec) || j.Runs("") || j.Runs("drone-other") || !j.Lives(2) || j.Lives(4) {
		t.Error("what runs isn't what was begun")
	}
	removed.Remove()
	removed.Note(func(r *Record) { r.Spec = "again" }) // it is over
	left.Abandon()
	select {
	case <-j.Abandoned():
	default:
		t.Error("nobody is told of an abandoned entry")
	}
	if got := j.Orphans(); len(got) != 1 || got[0] != left || j.Running() != 1 || j.Runs(left.Record().Spec) {
		t.Errorf("orphans: %v, want the abandoned one", got)
	}
	orphaned := filepath.Join(j.Logs(), "log-orphan")
	foreign := filepath.Join(j.Logs(), "notes")
	for _, dir := range []string{orphaned, foreign} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j, out := open(t, state)
	var got []Record
	for _, e := range j.Orphans() {
		got = append(got, e.Record())
	}
	if diff := cmp.Diff([]Record{kept.Record(), left.Record()}, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if j.Running() != 0 || j.Runs(kept.Record().Spec) {
		t.Error("stages of an earlier process run")
	}
	want := []string{kept.Record().Steps[0].Spool, left.Record().Steps[0].Spool, "notes"}
	slices.Sort(want)
	if diff := cmp.Diff(want, files(t, j.Logs())); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
	for _, e := range j.Orphans() {
		e.Remove()
	}
	if got := append(files(t, j.dir), files(t, j.Logs())...); len(got) != 1 || out.Len() > 0 {
		t.Errorf("left: %q, told: %s", got, out)
	}
}

// The folder may hold anything: it is passed over, told of, and left alone.
func TestJournalPassesOverWhatIsNone(t *testing.T) {
	state := t.TempDir()
	j, _ := open(t, state)
	begin(t, j, 1)
	data, err := os.ReadFile(only(t, j).path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"2-torn.json":      string(data[:len(data)/2]),
		"3-empty.json":     "",
		"4-zeros.json":     strings.Repeat("\x00", 100),
		"5-null.json":      "null",
		"6-next.json":      `{"format":2,"runner":"me","stage":{"id":6}}`,
		"notes.txt":        "hello",
		".tmp-7-x.json123": "half",
	} {
		if err := os.WriteFile(filepath.Join(j.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(j.dir, "8-folder.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(j.dir, "9-fifo.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(j.dir, "10-zero.json")); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, out := open(t, state)
	if got := j.Orphans(); len(got) != 1 || got[0].Record().Stage.ID != 1 {
		t.Errorf("got %d entries", len(got))
	}
	if got := strings.Count(out.String(), "passing over"); got != 9 {
		t.Errorf("%d files are told of, want 9:\n%s", got, out)
	}
	if got := files(t, j.dir); len(got) != 10 || slices.Contains(got, ".tmp-7-x.json123") {
		t.Errorf("the folder holds %q", got)
	}
	if records, err := Records(state); err != nil || len(records) != 1 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

// only is the one live entry.
func only(t *testing.T, j *Journal) *Entry {
	t.Helper()
	for e := range j.live {
		return e
	}
	t.Fatal("there is none")
	return nil
}

// One runner has the folder at a time, and another process sees that.
func TestJournalLock(t *testing.T) {
	state := t.TempDir()
	if used, err := InUse(state); used || err == nil || !strings.Contains(err.Error(), "DRONE_RUNNER_STATE") {
		t.Errorf("a folder that nobody used: %t, %v", used, err)
	}
	if records, err := Records(state); len(records) > 0 || err != nil {
		t.Errorf("a folder that nobody used: %v, %v", records, err)
	}
	j, _ := open(t, state)
	if used, err := InUse(state); !used || err != nil {
		t.Errorf("a folder in use: %t, %v", used, err)
	}
	if _, err := Open(t.Context(), state, "other", nil); err == nil || !strings.Contains(err.Error(), "DRONE_RUNNER_STATE") {
		t.Errorf("a second runner: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, state, "other", nil); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a second runner that is told to end: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if used, err := InUse(state); used || err != nil {
		t.Errorf("a folder that was given back: %t, %v", used, err)
	}
	open(t, state)
}

// Where nothing can be written a stage isn't begun, and one that was goes on in memory until there
// is room again.
func TestJournalWithoutRoom(t *testing.T) {
	state := t.TempDir()
	j, out := open(t, state)
	e := begin(t, j, 1)
	away := j.dir + "-away"
	if err := os.Rename(j.dir, away); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Begin(drone.Stage{ID: 2}); err == nil || j.Running() != 1 {
		t.Errorf("a stage that can't be written down: %v", err)
	}
	e.Note(func(r *Record) { r.Stage.Status = drone.StatusRunning })
	if e.Record().Stage.Status != drone.StatusRunning || !strings.Contains(out.String(), "would know less") {
		t.Errorf("got %q; told: %s", e.Record().Stage.Status, out)
	}
	if err := os.Rename(away, j.dir); err != nil {
		t.Fatal(err)
	}
	if err := e.Update(func(*Record) {}); err != nil {
		t.Fatal(err)
	}
	if records, err := Records(state); err != nil || len(records) != 1 || records[0].Stage.Status != drone.StatusRunning {
		t.Errorf("on disk: %+v, %v", records, err)
	}
	if _, err := Open(t.Context(), "/dev/null/state", "me", nil); err == nil {
		t.Error("a folder that can't be made is no error")
	}
}

// Steps write at the same time, and each writing is whole.
func TestJournalConcurrently(t *testing.T) {
	state := t.TempDir()
	j, _ := open(t, state)
	e := begin(t, j, 1)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for range 5 {
				e.Note(func(r *Record) { r.Steps[0].State.ExitCode += i })
				if records, err := Records(state); err != nil || len(records) != 1 {
					t.Errorf("on disk: %d records, %v", len(records), err)
				}
			}
		})
	}
	writers.Wait()
	if got := e.Record().Steps[0].State.ExitCode; got != 5*(0+1+2+3+4+5+6+7) {
		t.Errorf("got %d", got)
	}
}

// A nil entry is that of a runner without a journal.
func TestNilEntry(t *testing.T) {
	var e *Entry
	e.Note(func(*Record) { t.Error("it was changed") })
	e.Remove()
	e.Abandon()
	if e.Record().Spec != "" || e.Spool(Step{Spool: "log-1"}) != "" {
		t.Error("it says something")
	}
}

// FuzzParse feeds the reader anything: it never panics, and what it takes is what others rely on,
// and stays the same when it is written again.
func FuzzParse(f *testing.F) {
	whole, err := json.Marshal(Record{Format: format, Runner: "me", Spec: "drone-x", Stage: drone.Stage{ID: 1},
		Steps: []Step{{State: drone.Step{ID: 2, StageID: 1, Number: 1}, Told: "running", Spool: "log-1", Card: &drone.CardInput{Schema: "s", Data: json.RawMessage(`{"a":1}`)}}}})
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i <= len(whole); i += 7 {
		f.Add(whole[:i])
	}
	f.Add(whole)
	f.Add([]byte(`{"format":1,"runner":"me","stage":{"id":1},"spec":"../x"}`))
	f.Add([]byte(`{"format":1,"runner":"me","stage":{"id":1,"steps":[null]},"steps":[{"state":{"id":1,"step_id":1},"spool":"log-/../../x"}]}`))
	dir := f.TempDir()
	log := logrus.New()
	log.SetOutput(io.Discard)
	j := &Journal{logs: filepath.Join(dir, "logs"), log: log}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse(data)
		if err != nil {
			return
		}
		if r.Runner == "" || r.Stage.ID <= 0 || r.Stage.Steps != nil || strings.ContainsAny(r.Spec, "/\\ \x00") || r.Spec == ".." {
			t.Fatalf("it took %+v", r)
		}
		e := &Entry{journal: j}
		for _, step := range r.Steps {
			if path := e.Spool(step); path != "" && filepath.Dir(path) != j.logs {
				t.Fatalf("the spool %q is at %s", step.Spool, path)
			}
			if step.State.ID <= 0 || r.Step(step.State.Number) == nil {
				t.Fatalf("it took %+v", step)
			}
		}
		again, err := json.Marshal(r)
		if err != nil {
			return // a card that isn't JSON can't be: it was parsed
		}
		if _, err := parse(again); err != nil {
			t.Fatalf("%s can't be read again: %v", again, err)
		}
	})
}
