package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/drone/drone-go/drone"
)

// format is the version of the files: one of another version is left to a version that can read it.
const format = 1

// largest is how long a file may be; a record of a thousand steps, each with a card, is far below
// it.
const largest = 64 << 20

type (
	// Record is what an entry says.
	Record struct {
		Format int `json:"format"`
		// Runner is the machine that the stage is accepted for.
		Runner string `json:"runner"`
		// Repo and Build are for people.
		Repo  string `json:"repo,omitempty"`
		Build int64  `json:"build,omitempty"`
		// Spec is the id that the labels of the stage's containers, networks and volumes carry;
		// empty as long as there are none.
		Spec string `json:"spec,omitempty"`
		// Stage is the stage without its steps, final if it has ended here.
		Stage drone.Stage `json:"stage"`
		// Steps are those that the server has given ids.
		Steps []Step `json:"steps,omitempty"`
	}

	// Step is one step of the stage.
	Step struct {
		// State is how the step stands here. Its version is the one that the last telling of the
		// server was, or is, tried with.
		State drone.Step `json:"state"`
		// Told is the status which that telling was of; empty before the first one. Nobody knows
		// whether it arrived.
		Told string `json:"told,omitempty"`
		// Spool is the name of its log's folder in Logs, if it has one.
		Spool string `json:"spool,omitempty"`
		// Card is what the step wants shown.
		Card *drone.CardInput `json:"card,omitempty"`
	}
)

// Step finds a step by its number; nil if there is none.
func (r *Record) Step(number int) *Step {
	for i := range r.Steps {
		if r.Steps[i].State.Number == number {
			return &r.Steps[i]
		}
	}
	return nil
}

// clone is a copy that shares nothing that anybody changes.
func (r Record) clone() Record {
	r.Steps = slices.Clone(r.Steps)
	return r
}

const (
	// suffix of the names of entries.
	suffix = ".json"
	// unfinished begins the name of what atomicwriter makes an entry of.
	unfinished = ".tmp-"
)

// load reads a file. It doesn't wait for one that isn't a file.
func load(path string) (Record, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return Record{}, fmt.Errorf("read the journal: %w", err)
	case !info.Mode().IsRegular() || !strings.HasSuffix(path, suffix):
		return Record{}, fmt.Errorf("read the journal: %s: it is no entry", path)
	case info.Size() > largest:
		return Record{}, fmt.Errorf("read the journal: %s: it has %d bytes", path, info.Size())
	}
	f, err := os.Open(path)
	if err != nil {
		return Record{}, fmt.Errorf("read the journal: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, largest))
	if err != nil {
		return Record{}, fmt.Errorf("read the journal: %w", err)
	}
	record, err := parse(data)
	if err != nil {
		return Record{}, fmt.Errorf("read the journal: %s: %w", path, err)
	}
	return record, nil
}

// identifier is what an id of a spec, which becomes a label and the name of a folder, may be made
// of.
var identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// parse reads a record and checks what others rely on: ids are there, numbers are unique, and names
// of folders are names.
func parse(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, err
	}
	switch {
	case r.Format != format:
		return Record{}, fmt.Errorf("its format is %d, and this version reads %d", r.Format, format)
	case r.Runner == "":
		return Record{}, errors.New("it names no runner")
	case r.Stage.ID <= 0:
		return Record{}, fmt.Errorf("its stage has the id %d", r.Stage.ID)
	case r.Spec != "" && !identifier.MatchString(r.Spec):
		return Record{}, fmt.Errorf("%.100q can't be the id of a spec", r.Spec)
	}
	r.Stage.Steps = nil
	numbers := map[int]bool{}
	for _, step := range r.Steps {
		switch {
		case step.State.ID <= 0 || step.State.StageID != r.Stage.ID:
			return Record{}, fmt.Errorf("step %.100q has the id %d, and is of stage %d", step.State.Name, step.State.ID, step.State.StageID)
		case numbers[step.State.Number]:
			return Record{}, fmt.Errorf("two steps have the number %d", step.State.Number)
		case step.Spool != "" && !isSpool(step.Spool):
			return Record{}, fmt.Errorf("%.100q can't be the folder of a log", step.Spool)
		}
		numbers[step.State.Number] = true
	}
	return r, nil
}

// isSpool reports whether a spool could have that name.
func isSpool(name string) bool {
	return strings.HasPrefix(name, "log-") && identifier.MatchString(name) && filepath.Base(name) == name
}
