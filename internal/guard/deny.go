package guard

import "context"

// denied is a handler that refuses the endpoint.
func denied(rule, way string) handler {
	return func(_ context.Context, c *call) error {
		return refusal{"the endpoint " + c.route.method + " " + c.route.pattern, rule, way}
	}
}
