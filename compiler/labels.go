package compiler

import (
	"fmt"
	"maps"
	"time"

	"github.com/drone/runner-go/labels"
)

// labelRunner is ours, besides Drone's: the name of the runner that an object belongs to.
const labelRunner = "io.drone.runner"

// labels go onto every object of the run: Drone's io.drone.*, and the runner's name. ttl is the
// repository's timeout, expires an hour past it.
func (b *builder) labels() map[string]string {
	a := b.args
	ttl := time.Duration(a.Repo.Timeout) * time.Minute
	all := labels.Combine(
		labels.FromSystem(a.System),
		labels.FromRepo(a.Repo),
		labels.FromBuild(a.Build),
		labels.FromStage(a.Stage),
		map[string]string{
			"io.drone.ttl":     ttl.String(),
			"io.drone.created": fmt.Sprint(b.now.Unix()),
			"io.drone.expires": fmt.Sprint(b.now.Add(ttl + time.Hour).Unix()),
		},
	)
	if b.RunnerName != "" {
		maps.Copy(all, map[string]string{labelRunner: b.RunnerName})
	}
	return all
}
