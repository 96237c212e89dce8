package pipeline

import (
	"fmt"
	"path"
	"slices"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// File is a file of pipelines, read for one build.
type File struct {
	*resource.File
	// Findings are the parser's, for all pipelines of the file.
	Findings resource.Findings
	// data is what was parsed: the text with the variables of the build in it.
	data []byte
}

// Read substitutes the variables of the build in the file of d and parses it. Its error is one of d
// or of a substitution; what is wrong with the file otherwise is among the findings.
func (l *Loader) Read(d *client.Context) (*File, error) {
	if err := check(d); err != nil {
		return nil, err
	}
	data, err := l.substitute(d)
	if err != nil {
		return nil, err
	}
	return l.parse(d, data), nil
}

func (l *Loader) substitute(d *client.Context) ([]byte, error) {
	data, err := resource.Substitute(d.Config.Data, Substitutions(d, l.compiler().Time()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.fileName(d.Repo), err)
	}
	return data, nil
}

func (l *Loader) parse(d *client.Context, data []byte) *File {
	file, found := resource.Parse(l.fileName(d.Repo), data)
	return &File{File: file, Findings: found, data: data}
}

// fileName is what findings call the file.
func (l *Loader) fileName(repo *drone.Repo) string {
	switch {
	case l.FileName != "":
		return l.FileName
	case Converted(repo.Config):
		return repo.Config + " (converted to YAML)"
	case repo.Config != "":
		return repo.Config
	default:
		return ".drone.yml"
	}
}

// Converted reports whether Drone's server makes the YAML that a runner gets out of a file of that
// name, which is Starlark, Jsonnet (https://docs.drone.io/pipeline/scripting/) or what an extension
// of the server converts: lines and columns are those of the YAML then.
func Converted(name string) bool {
	ext := path.Ext(name)
	return ext != path.Base(name) && !slices.Contains([]string{"", ".yml", ".yaml", ".json"}, ext)
}
