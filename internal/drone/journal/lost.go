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

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
)

// keptLogs is how many logs that the server refused are kept; the oldest go first. A store that is
// full would fill the runner's disk as well otherwise.
const keptLogs = 100

// Lost is the folder of the logs that the server refused for good, as plain text, for the operator.
type Lost struct{ dir string }

// Lost returns the folder of the logs that the server refused.
func (j *Journal) Lost() Lost { return Lost{dir: filepath.Join(filepath.Dir(j.logs), "lost")} }

// unsafeInName is what a name of a step may hold and the name of a file shouldn't.
var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// Keep writes the log as text and returns its path below the state folder.
func (l Lost) Keep(step drone.Step, log *livelog.Log) (string, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for logs that the server refuses: %w", err)
	}
	name := fmt.Sprintf("stage-%d-step-%d-%.60s.log", step.StageID, step.Number, unsafeInName.ReplaceAllString(step.Name, "_"))
	path := filepath.Join(l.dir, name)
	if err := writeText(path, log); err != nil {
		return "", errors.Join(fmt.Errorf("keep a log that the server refuses: %w", err), os.Remove(path))
	}
	if err := l.prune(); err != nil {
		return "", fmt.Errorf("remove the oldest of the logs that the server refused: %w", err)
	}
	return filepath.Join(filepath.Base(l.dir), name), nil
}

// writeText writes the text of a log, which is a JSON array of lines, to a file.
func writeText(path string, log *livelog.Log) (err error) {
	in, err := log.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	dec := json.NewDecoder(in)
	if _, err := dec.Token(); err != nil { // the [
		return err
	}
	for dec.More() {
		var line drone.Line
		if err := dec.Decode(&line); err != nil {
			return err
		}
		if _, err := io.WriteString(f, line.Message); err != nil {
			return err
		}
	}
	return nil
}

// prune removes the oldest files beyond keptLogs.
func (l Lost) prune() error {
	found, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	var files []os.FileInfo
	for _, entry := range found {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(info.Name(), ".log") {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, old := range files[:max(len(files)-keptLogs, 0)] {
		if err := os.Remove(filepath.Join(l.dir, old.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
