package guard

import (
	"net/url"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
)

// What the guard doesn't know and doesn't need, it drops: a parameter or a field that isn't written
// into the request for the daemon does nothing. Clients that exist send such: dockerode all options
// of a call both in the query and in the body, others what a version of Docker once had. The
// answer's warnings name what is dropped, where it has a place for them.

// meaningless are fields of containers that clients send and no daemon has honoured for years: they
// are dropped without a word.
var meaningless = []string{
	"DiskQuota",
	"PortSpecs",
	"VolumesRW",
	"Capabilities",
	"Container",
	"hijack",
	"stdin",
	"abortSignal",
	"_query",
	"_body",
	"authconfig",
}

// checkQuery parses a query by what a route knows of it, and drops the rest. A parameter that comes
// twice has to say the same each time.
func checkQuery(raw, known string) (q url.Values, dropped []string, err error) {
	if raw == "" {
		return url.Values{}, nil, nil
	}
	q, err = url.ParseQuery(raw)
	if err != nil {
		return nil, nil, apierror.BadRequest("the query is malformed: %v", err)
	}
	names := strings.Fields(known)
	for key, values := range q {
		switch {
		case slices.Contains(names, "-"+key):
			delete(q, key)
		case slices.Contains(names, key+"+"):
		case slices.Contains(names, "^"+key):
			q[key] = values[:1]
		case !slices.Contains(names, key):
			dropped = append(dropped, key)
			delete(q, key)
		case len(values) > 1 && slices.ContainsFunc(values, func(v string) bool { return v != values[0] }):
			return nil, nil, apierror.BadRequest(
				"the query parameter %s is given %d times",
				apierror.Quote(key),
				len(values),
			)
		default:
			q[key] = values[:1]
		}
	}
	slices.Sort(dropped)
	return q, dropped, nil
}

// takes reports whether a route has a parameter of that name.
func (r *route) takes(key string) bool {
	return slices.ContainsFunc(
		strings.Fields(r.query),
		func(name string) bool { return strings.Trim(name, "-+^") == key },
	)
}

// drop notes what a body, decoded into v, has had beyond it. What is a parameter of the route, or
// in the query a field of the body, has been heard in its own place.
func (c *call) drop(v any, fields []string) {
	c.dropped = slices.DeleteFunc(c.dropped, func(key string) bool { return strictjson.Has(v, key) })
	for _, f := range fields {
		if !c.route.takes(f) {
			c.dropped = append(c.dropped, f)
		}
	}
	if len(c.dropped) > 0 {
		c.g.log.debug("fields are dropped", nil, "path", c.route.pattern, "dropped", strings.Join(c.dropped, " "))
	}
}

// warnings name what was dropped.
func (c *call) warnings() []string {
	var out []string
	for _, key := range c.dropped {
		if !slices.Contains(meaningless, key) {
			out = append(out, "the guard doesn't know "+apierror.Quote(key)+" and has left it out")
		}
	}
	return out
}
