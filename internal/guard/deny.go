package guard

import (
	"context"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// denied returns a handler that refuses the endpoint.
func denied(rule, way string) handler {
	return func(_ context.Context, c *call) error {
		return apierror.Refuse("the endpoint "+c.route.method+" "+c.route.pattern, rule, way)
	}
}
