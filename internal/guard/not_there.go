package guard

import (
	"context"
	"net/http"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// Answers of a daemon that is in no swarm and has no plugins: tools ask, and go on. What would
// change that is refused.

// noSwarm is the answer of all that only a manager of a swarm can tell or do.
func noSwarm(context.Context, *call) error {
	return apierror.New(http.StatusServiceUnavailable,
		`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

// leaveSwarm is noSwarm for who wants to leave one.
func leaveSwarm(context.Context, *call) error {
	return apierror.New(http.StatusServiceUnavailable, "This node is not part of a swarm")
}

// listPlugins lists none.
func listPlugins(_ context.Context, c *call) error {
	c.answerBytes(http.StatusOK, []byte("[]\n"))
	return nil
}

// absentPlugin finds none.
func absentPlugin(_ context.Context, c *call) error {
	return apierror.New(http.StatusNotFound, `plugin "`+c.vars["name"]+`" not found`)
}
