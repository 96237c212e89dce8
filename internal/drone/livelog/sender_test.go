package livelog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"
)

// viewer sees what is sent live.
type viewer struct {
	mu      sync.Mutex
	batches []batch
	// answer is the error for each try, by its number; nil accepts all.
	answer func(try int) error
	tries  []time.Time
}

type batch struct {
	at    time.Time
	lines []*drone.Line
}

func (v *viewer) send(_ context.Context, lines []*drone.Line) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tries = append(v.tries, time.Now())
	if v.answer != nil {
		if err := v.answer(len(v.tries) - 1); err != nil {
			return err
		}
	}
	v.batches = append(v.batches, batch{time.Now(), lines})
	return nil
}

func (v *viewer) all() []*drone.Line {
	v.mu.Lock()
	defer v.mu.Unlock()
	var lines []*drone.Line
	for _, b := range v.batches {
		lines = append(lines, b.lines...)
	}
	return lines
}

// check wants lines in order, each once, in batches of a bounded size.
func (v *viewer) check(t *testing.T) {
	t.Helper()
	last := -1
	for _, line := range v.all() {
		if line.Number <= last {
			t.Fatalf("live: pos %d comes after %d", line.Number, last)
		}
		last = line.Number
	}
	for _, b := range v.batches {
		if len(b.lines) == 0 || len(b.lines) > batchLines+1 {
			t.Fatalf("live: a batch of %d lines", len(b.lines))
		}
	}
}

// The first lines go at once, the others together, an interval later.
func TestSenderInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, start := &viewer{}, time.Now()
		l := newLog(t, Options{Send: v.send})
		writeAll(t, l, "a\n")
		synctest.Wait()
		writeAll(t, l, "b\n")
		writeAll(t, l, "c\nd")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		writeAll(t, l, "\n")
		synctest.Wait()
		writeAll(t, l, "e\nf")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range v.batches {
			got = append(got, fmt.Sprintf("%s %s", b.at.Sub(start), strings.Join(texts(b.lines), "")))
		}
		want := []string{"0s a\n", "250ms b\nc\n", "10s d\n", "10s e\nf"}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A log within its limit is seen live to the last line, in order, at the server's pace.
func TestSenderSendsEveryLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, start := &viewer{}, time.Now()
		l := newLog(t, Options{Send: v.send})
		var text strings.Builder
		for i := range 200_000 {
			fmt.Fprintf(&text, "%d\n", i)
		}
		writeChunks(t, l, text.String(), func() int { return 10_000 })
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		v.check(t)
		if got := strings.Join(texts(v.all()), ""); got != text.String() {
			t.Errorf("got %d lines", len(v.all()))
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %s: full batches aren't sent at once", took)
		}
	})
}

// A line longer than a batch goes alone.
func TestSenderLongLines(t *testing.T) {
	v := &viewer{}
	l := newLog(t, Options{Interval: time.Millisecond, Send: v.send})
	long := strings.Repeat("\x01", MaxLine-1) + "\n" // Six times as long in JSON.
	text := "a\n" + long + "b\n" + long
	writeAll(t, l, text)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(texts(v.all()), ""); got != text {
		t.Errorf("got %d bytes, want %d", len(got), len(text))
	}
	v.check(t)
}

// Beyond the limit each batch has the newest lines, and says what it passes over.
func TestSenderBeyondTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &viewer{}
		l := newLog(t, Options{Limit: 100_000, Send: v.send})
		for i := range 50_000 {
			writeAll(t, l, fmt.Sprintf("line %d\n", i))
			if i%1000 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(v.batches); n < 5 || n > 60 {
			t.Errorf("got %d batches", n)
		}
		v.check(t)
		next := 0
		for _, line := range v.all() {
			if line.Number != next {
				t.Fatalf("pos %d comes after %d, and no line says so", line.Number, next-1)
			}
			next++
			var passed int
			if n, _ := fmt.Sscanf(line.Message, "[%d lines not shown", &passed); n == 1 {
				next = line.Number + passed
			} else if want := fmt.Sprintf("line %d\n", line.Number); line.Message != want {
				t.Fatalf("pos %d is %q", line.Number, line.Message)
			}
		}
		if next != 50_000 {
			t.Errorf("the last pos is %d", next-1)
		}
	})
}

// A step that passes the limit slowly is seen live to the last line.
func TestSenderSlowlyBeyondTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &viewer{}
		l := newLog(t, Options{Limit: 2000, Send: v.send})
		for i := range 5000 {
			writeAll(t, l, fmt.Sprintf("line %d\n", i))
			time.Sleep(30 * time.Millisecond)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		v.check(t)
		if got := ranges(v.all()); got != "0-4999" {
			t.Errorf("live: got %s", got)
		}
	})
}

// Beyond the limit, with lines so long that looking for the newest goes back to what was sent.
func TestSenderLongLinesBeyondTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &viewer{}
		l := newLog(t, Options{Limit: 2 << 20, Send: v.send})
		for range 12 {
			writeAll(t, l, strings.Repeat("short\n", 1000))
			time.Sleep(2 * time.Second)
			writeAll(t, l, strings.Repeat("\x01", MaxLine-1)+"\n")
			time.Sleep(2 * time.Second)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		v.check(t)
		if all := v.all(); all[len(all)-1].Number != l.Lines()-1 {
			t.Errorf("the last pos is %d of %d lines", all[len(all)-1].Number, l.Lines())
		}
	})
}

// While the server takes nothing, tries are further and further apart; then every line comes.
func TestSenderRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		v := &viewer{answer: func(try int) error {
			if try < 8 {
				return away
			}
			return nil
		}}
		start := time.Now()
		l := newLog(t, Options{Send: v.send})
		for i := range 100 {
			writeAll(t, l, fmt.Sprintf("%d\n", i))
			time.Sleep(time.Second)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, try := range v.tries[:9] {
			got = append(got, try.Sub(start).String())
		}
		if want := "0s 500ms 1.5s 3.5s 7.5s 15.5s 31.5s 47.5s 1m3.5s"; strings.Join(got, " ") != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := ranges(v.all()); got != "0-99" {
			t.Errorf("live: got %s", got)
		}
	})
}

// Close gives the last lines one try, and ends one that hangs.
func TestSenderClose(t *testing.T) {
	for _, tc := range []struct {
		name string
		send func(ctx context.Context) error
		took time.Duration
	}{
		{"the server is away", func(context.Context) error { return errors.New("away") }, 0},
		{"the server hangs", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, DefaultLastTry},
		{"the server is slow", func(context.Context) error { time.Sleep(3 * time.Second); return nil }, 3 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLog(t, Options{Send: func(ctx context.Context, _ []*drone.Line) error { return tc.send(ctx) }})
				writeAll(t, l, "a\n")
				synctest.Wait()
				start := time.Now()
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took != tc.took {
					t.Errorf("it took %s, want %s", took, tc.took)
				}
				if got := ranges(whole(t, l)); got != "0-0" {
					t.Errorf("got %s", got)
				}
			})
		})
	}
}

// Remove doesn't wait for a server that hangs.
func TestSenderRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, Options{Send: func(ctx context.Context, _ []*drone.Line) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}})
		writeAll(t, l, "a\n")
		synctest.Wait()
		start := time.Now()
		if err := l.Remove(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %s", took)
		}
	})
}

// A line is on its way within 300 ms of being printed, whenever that is; a server that takes its
// time for a batch gets them further apart.
func TestSenderIsPrompt(t *testing.T) {
	for _, tc := range []struct {
		name    string
		takes   time.Duration // the server, for a batch
		late    time.Duration
		batches int // at most, in ten seconds
	}{
		{name: "a quick server", late: 300 * time.Millisecond, batches: 41},
		{name: "a slow server", takes: time.Second, late: 6 * time.Second, batches: 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				printed := map[int]time.Time{}
				var mu sync.Mutex
				var late time.Duration
				batches := 0
				l := newLog(t, Options{Send: func(_ context.Context, lines []*drone.Line) error {
					mu.Lock()
					batches++
					for _, line := range lines {
						late = max(late, time.Since(printed[line.Number]))
					}
					mu.Unlock()
					time.Sleep(tc.takes)
					return nil
				}})
				for i := range 1000 {
					mu.Lock()
					printed[i] = time.Now()
					mu.Unlock()
					writeAll(t, l, fmt.Sprintf("%d\n", i))
					time.Sleep(10 * time.Millisecond)
				}
				mu.Lock()
				if late > tc.late || batches > tc.batches {
					t.Errorf("the latest line came after %s, want %s at most; %d batches, want %d at most", late, tc.late, batches, tc.batches)
				}
				mu.Unlock()
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
