package guard

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/filters"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// filterRule says what becomes of a filter of a list.
type filterRule int

const (
	// passed on as it is: it is about properties that have no names in them.
	passed filterRule = iota + 1
	// local filters are applied by the guard to what the client sees: names.
	local
	// asContainer, asNetwork, asVolume and asImage values are references, which are resolved; what
	// isn't the stage's matches nothing.
	asContainer
	asNetwork
	asVolume
	asImage
	// thereContainer and thereImage values are references, too, but the daemon wants them to be
	// there: what isn't the stage's is absent.
	thereContainer
	thereImage
)

// nothing is a value that no object has: a filter by what doesn't exist.
const nothing = "0000000000000000000000000000000000000000000000000000000000000000"

// rewriteFilters judges the filters of a request by rules. It returns those for the daemon, and
// those that the guard has to apply.
func (c *call) rewriteFilters(ctx context.Context, rules map[string]filterRule) (up, mine filters.Args, err error) {
	up, mine = filters.NewArgs(), filters.NewArgs()
	text := c.query.Get("filters")
	if len(text) > 64<<10 {
		return up, mine, apierror.BadRequest("invalid filter: it is too long")
	}
	given, err := filters.FromJSON(text)
	if err != nil {
		return up, mine, apierror.BadRequest("invalid filter: %v", err)
	}
	keys := given.Keys()
	slices.Sort(keys)
	for _, key := range keys {
		rule, known := rules[key]
		if !known {
			return up, mine, apierror.BadRequest("invalid filter '%.100s'", key)
		}
		for _, value := range given.Get(key) {
			switch rule {
			case local:
				mine.Add(key, value)
			case passed:
				up.Add(key, value)
			default:
				resolved, err := c.resolveFilter(ctx, rule, value)
				if err != nil {
					return up, mine, err
				}
				for _, v := range resolved {
					up.Add(key, v)
				}
			}
		}
	}
	return up, mine, nil
}

// resolveFilter returns what the daemon knows a reference by; nothing, or an error where the rule
// wants it to be there, if it's not the stage's.
func (c *call) resolveFilter(ctx context.Context, rule filterRule, value string) ([]string, error) {
	none := []string{nothing}
	var found []string
	var err error
	switch rule {
	case asContainer, thereContainer:
		var o containerFound
		o, err = c.g.own.container(ctx, strings.TrimPrefix(value, "/"))
		found = []string{o.ID}
	case asNetwork:
		var o networkFound
		o, err = c.g.own.findNetwork(ctx, value)
		found = []string{o.ID}
	case asVolume:
		if strings.HasPrefix(value, "/") { // a place in the container
			return []string{value}, nil
		}
		var o volumeFound
		o, err = c.g.own.findVolume(ctx, value, "")
		found = []string{o.Name}
	case asImage, thereImage:
		var o imageFound
		o, err = c.g.findImage(ctx, value)
		found = []string{o.ref}
	}
	if apierror.IsNotFound(err) && rule != thereContainer && rule != thereImage {
		return none, nil
	}
	return found, err
}

// restrict adds a label that what is listed must have.
func restrict(args filters.Args, key, value string) filters.Args {
	args.Add("label", key+"="+value)
	return args
}

// encodeFilters returns a query with filters.
func encodeFilters(q url.Values, args filters.Args) (url.Values, error) {
	out := url.Values{}
	for k, v := range q {
		out[k] = v
	}
	out.Del("filters")
	text, err := filters.ToJSON(args)
	if err != nil {
		return nil, err
	}
	if text != "" {
		out.Set("filters", text)
	}
	return out, nil
}
