package janitor

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

// daemon is an engine in memory.
type daemon struct {
	remains []engine.Remains
	err     error
	stuck   string // a run that can't be removed
	looked  []time.Time
	swept   []string
}

// AllRemains is what two runners and a call of exec have left.
func (d *daemon) AllRemains(context.Context) ([]engine.Remains, error) {
	return []engine.Remains{{Spec: "a", Owner: "mine"}, {Spec: "b", Owner: "4f3a"}, {Spec: "c", Owner: "exec on x"}, {Spec: "d", Owner: "4f3a"}}, nil
}

func (d *daemon) Remains(_ context.Context, runner string) ([]engine.Remains, error) {
	if runner != "me" {
		return nil, errors.New("a stranger asks")
	}
	d.looked = append(d.looked, time.Now())
	return slices.Clone(d.remains), d.err
}

func (d *daemon) Sweep(ctx context.Context, spec string) error {
	if _, ok := ctx.Deadline(); !ok {
		return errors.New("no deadline")
	}
	if spec == d.stuck {
		return errors.New("it is in use")
	}
	d.swept = append(d.swept, spec)
	d.remains = slices.DeleteFunc(d.remains, func(r engine.Remains) bool { return r.Spec == spec })
	return nil
}

func newJanitor(d *daemon, alive ...string) (*Janitor, *bytes.Buffer) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	return &Janitor{Engine: d, Runner: "me", Log: log, Runs: func(spec string) (bool, error) {
		return slices.Contains(alive, spec), nil
	}}, &out
}

func specs(found []engine.Remains) []string {
	var out []string
	for _, r := range found {
		out = append(out, r.Spec)
	}
	return out
}

func TestReap(t *testing.T) {
	old := time.Now().Add(-3 * time.Hour)
	all := []engine.Remains{
		{Spec: "alive", Created: old, Containers: []string{"a"}},
		{Spec: "dead", Created: old, Containers: []string{"b", "c"}, Networks: []string{"n"}, Volumes: []string{"v"}},
		{Spec: "stuck", Networks: []string{"m"}},
		{Spec: "gone", Volumes: []string{"w"}},
	}
	d := &daemon{remains: slices.Clone(all), stuck: "stuck"}
	j, out := newJanitor(d, "alive")
	found, err := j.Find(t.Context())
	if got := specs(found); err != nil || !slices.Equal(got, []string{"dead", "stuck", "gone"}) || len(d.swept) > 0 {
		t.Errorf("Find: %q, %v; swept %q", got, err, d.swept)
	}
	removed, err := j.Reap(t.Context())
	if got := specs(removed); !slices.Equal(got, []string{"dead", "gone"}) || !slices.Equal(d.swept, got) {
		t.Errorf("Reap: %q, swept %q", got, d.swept)
	}
	if err == nil || !strings.Contains(err.Error(), "stuck left (1 network): it is in use") {
		t.Errorf("Reap: %v", err)
	}
	for _, want := range []string{"2 containers, 1 network, 1 volume", `age="3 hours"`, "owner=me", "spec=dead", "age=unknown"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, out)
		}
	}
}

// What isn't known isn't touched.
func TestReapInTheDark(t *testing.T) {
	d := &daemon{remains: []engine.Remains{{Spec: "a"}}, err: errors.New("the daemon is away")}
	j, _ := newJanitor(d)
	if _, err := j.Reap(t.Context()); !errors.Is(err, d.err) {
		t.Errorf("without a list: %v", err)
	}
	d.err = nil
	unread := errors.New("it can't be read")
	j.Runs = func(string) (bool, error) { return false, unread }
	if _, err := j.Reap(t.Context()); !errors.Is(err, unread) {
		t.Errorf("without a journal: %v", err)
	}
	if len(d.swept) > 0 {
		t.Errorf("swept %q", d.swept)
	}
}

func TestRun(t *testing.T) {
	for _, row := range []struct {
		name     string
		interval time.Duration
		err      error
		looks    int
	}{
		{"at start alone", 0, nil, 1},
		{"at each interval", 7 * time.Second, nil, 523},
		{"more often at first", 10 * time.Minute, nil, 11},
		{"after errors too", 10 * time.Minute, errors.New("the daemon is away"), 11},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{remains: []engine.Remains{{Spec: "a"}}, err: row.err}
				j, out := newJanitor(d)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Minute)
				defer cancel()
				j.Run(ctx, row.interval)
				if len(d.looked) != row.looks || (row.err == nil) != (len(d.swept) == 1) {
					t.Errorf("looked at %v, swept %q", d.looked, d.swept)
				}
				if told := strings.Contains(out.String(), "the daemon is away"); told != (row.err != nil) {
					t.Errorf("the log: %s", out)
				}
			})
		})
	}
}

// TestFindAlone holds that on a daemon of its own a runner finds what runners of other names have
// left, but nothing that is alive or spared.
func TestFindAlone(t *testing.T) {
	j := &Janitor{Engine: &daemon{}, Runner: "mine", Alone: true,
		Spare: func(owner string) bool { return owner == "exec on x" },
		Runs:  func(spec string) (bool, error) { return spec == "d", nil }}
	found, err := j.Find(t.Context())
	if err != nil || len(found) != 2 || found[0].Spec != "a" || found[1].Spec != "b" {
		t.Errorf("found %v, %v", found, err)
	}
}
