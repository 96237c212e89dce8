package guard

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// route is an endpoint of the Docker API: what may be asked there and who answers.
type route struct {
	method string
	// pattern of the path, without the version. {id} is one segment that passes nameable; {name...}
	// is one or more, an image reference.
	pattern string
	// query lists the parameters that the endpoint knows, with spaces between. "t+" may come more
	// than once; of "^d" the first counts, as it does to the daemon; "-x" is taken and dropped.
	query string
	serve handler
}

// handler answers a request whose path and query have been checked. An error becomes the answer,
// unless it is errAnswered.
type handler func(context.Context, *call) error

// call is one request, parsed.
type call struct {
	g *Guard
	// w and r are the client's. Handlers take r's body, its Upgrade header and its context, and
	// nothing else: path and query are here, checked.
	w     http.ResponseWriter
	r     *http.Request
	route *route
	// version of the API that the client speaks, one that the daemon knows too.
	version string
	// vars are the decoded values of the pattern's variables.
	vars  map[string]string
	query url.Values
	// dropped are parameters and fields that the request had and that go nowhere.
	dropped []string
}

// route finds the endpoint of a request.
func (g *Guard) route(w http.ResponseWriter, r *http.Request) (*call, error) {
	if r.ProtoMajor != 1 || r.Method == "PRI" {
		return nil, apierror.Refuse(
			"HTTP/2",
			"the guard speaks HTTP/1.1 here",
			"HTTP/2 is for /session and /grpc, after an upgrade",
		)
	}
	if !strings.HasPrefix(r.RequestURI, "/") || r.URL.Scheme != "" || r.URL.Host != "" || r.URL.Opaque != "" ||
		r.URL.User != nil {
		return nil, apierror.BadRequest("the request target %.100q is no plain path", r.RequestURI)
	}
	version, segments, err := splitPath(r.URL)
	if err != nil {
		return nil, err
	}
	rt, vars := match(r.Method, segments)
	if rt == nil {
		return nil, apierror.New(http.StatusNotFound, "page not found")
	}
	if r.URL.RawPath != "" && strings.Contains(strings.ToLower(r.URL.RawPath), "%2f") &&
		!strings.Contains(rt.pattern, "...}") {
		return nil, apierror.BadRequest("the path has an encoded slash, which no name of this endpoint has")
	}
	query, dropped, err := checkQuery(r.URL.RawQuery, rt.query)
	if err != nil {
		return nil, err
	}
	newest, oldest, err := g.up.Versions(r.Context())
	if err != nil {
		return nil, err
	}
	switch {
	case version == "":
		version = newest
	case !apiversion.AtLeast(newest, version):
		return nil, apierror.BadRequest(
			"client version %s is too new. Maximum supported API version is %s",
			version,
			newest,
		)
	case !apiversion.AtLeast(version, oldest):
		return nil, apierror.BadRequest(
			"client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version",
			version,
			oldest,
		)
	}
	return &call{g: g, w: w, r: r, route: rt, version: version, vars: vars, query: query, dropped: dropped}, nil
}

// maxPath bounds a path; no name is that long.
const maxPath = 4096

// splitPath takes the decoded path of u apart, once: its version ("" if it has none) and its
// segments. Whatever a server could read in two ways is refused: empty and dot segments, a second
// layer of escapes, control characters, other versions than 1.x.
func splitPath(u *url.URL) (version string, segments []string, err error) {
	p := u.Path
	if len(p) > maxPath {
		return "", nil, apierror.New(http.StatusRequestURITooLong, "the path is too long")
	}
	if !utf8.ValidString(p) ||
		strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == '%' }) {
		return "", nil, apierror.BadRequest("the path %.100q has characters that no path of the Docker API has", p)
	}
	if p == "/networks/" { // Docker's own alias of the list
		p = "/networks"
	}
	segments = strings.Split(strings.TrimPrefix(p, "/"), "/")
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return "", nil, apierror.BadRequest("the path %.100q has an empty or a dot segment", p)
		}
	}
	if first := segments[0]; len(first) > 1 && first[0] == 'v' && strings.Trim(first[1:], "0123456789.") == "" {
		version = first[1:]
		if _, ok := apiversion.Minor(version); !ok {
			return "", nil, apierror.BadRequest("the API version %.20q is unknown", version)
		}
		segments = segments[1:]
	}
	return version, segments, nil
}

// match finds the route of a path. Fixed segments go before variables, as the table is ordered by.
func match(method string, segments []string) (*route, map[string]string) {
	if len(segments) == 0 {
		return nil, nil
	}
	for i := range routes {
		rt := &routes[i]
		if rt.method != method {
			continue
		}
		if vars, ok := matchPattern(rt.pattern, segments); ok {
			return rt, vars
		}
	}
	return nil, nil
}

// matchPattern reports whether segments fit pattern, and the variables' values.
func matchPattern(pattern string, segments []string) (map[string]string, bool) {
	var vars map[string]string
	rest := pattern[1:]
	for rest != "" {
		var want string
		want, rest, _ = strings.Cut(rest, "/")
		if len(segments) == 0 {
			return nil, false
		}
		if want[0] != '{' {
			if segments[0] != want {
				return nil, false
			}
			segments = segments[1:]
			continue
		}
		key := want[1 : len(want)-1]
		n := 1
		if name, many := strings.CutSuffix(key, "..."); many {
			key = name
			tail := 0
			if rest != "" {
				tail = 1 + strings.Count(rest, "/")
			}
			if n = len(segments) - tail; n < 1 {
				return nil, false
			}
		}
		value := strings.Join(segments[:n], "/")
		if n == 1 && !strings.HasSuffix(want, "...}") && !names.Valid(value) && (key != "network" || !names.ValidNetwork(value)) {
			return nil, false
		}
		if vars == nil {
			vars = map[string]string{}
		}
		vars[key] = value
		segments = segments[n:]
	}
	return vars, len(segments) == 0
}

// flag reads a boolean of the query as the daemon does: everything but "", 0, no, false, none is
// true.
func (c *call) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(c.query.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}
