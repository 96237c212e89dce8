package guard

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// reach says which endpoints the clients of a listener may use. It only ever takes away: what a
// route's own handler refuses is refused under each.
type reach int

const (
	// reachWhole is what routes say.
	reachWhole reach = iota
	// reachImages is for plugins that build images.
	reachImages
)

// ServeImages is Serve for clients that may build, tag, pull and push images and nothing else: no
// containers of their own, and so no exec and no copying, no volumes, no networks. It's for plugins
// such as plugins/docker, which stages of untrusted repositories may use as well.
//
// They are clients of the same stage: the images that they make and name are the other clients'
// too.
func (g *Guard) ServeImages(ctx context.Context, l net.Listener) error {
	return g.serve(ctx, l, reachImages)
}

// imageRoutes are the endpoints of reachImages, by method and pattern. A nil handler is the route's
// own.
//
// A plugin ends with `docker system prune`: that finds nothing, since what is left of a stage goes
// with it and its layers are the cache.
var imageRoutes = map[string]handler{
	// `docker inspect NAME` asks for a container of the name first, and for an image when there is
	// none.
	"GET /containers/{id}/json": noneOf("container"),
	"GET /networks/{network}":   noneOf("network"),
	"GET /volumes/{id}":         noneOf("volume"),

	"HEAD /_ping":   nil,
	"GET /_ping":    nil,
	"GET /version":  nil,
	"GET /info":     nil,
	"POST /auth":    nil,
	"POST /session": nil,
	"POST /grpc":    nil,

	"POST /build":        nil,
	"POST /build/cancel": nil,

	"GET /images/json":                 nil,
	"POST /images/create":              pullOnly,
	"GET /images/{name...}/json":       nil,
	"GET /images/{name...}/history":    nil,
	"POST /images/{name...}/push":      nil,
	"POST /images/{name...}/tag":       nil,
	"DELETE /images/{name...}":         nil,
	"GET /distribution/{name...}/json": nil,
	"POST /images/prune":               pruneNothing("ImagesDeleted"),
	"POST /build/prune":                nil, // prunes nothing
	"POST /containers/prune":           pruneNothing("ContainersDeleted"),
	"POST /networks/prune":             pruneNothing("NetworksDeleted"),
	"POST /volumes/prune":              pruneNothing("VolumesDeleted"),
}

// handler answers requests of a route under the policy.
func (p reach) handler(rt *route) handler {
	if p == reachWhole {
		return rt.serve
	}
	own, allowed := imageRoutes[rt.method+" "+rt.pattern]
	switch {
	case !allowed:
		return denied(
			"a plugin that builds images may build, tag, pull and push them, and nothing else",
			"write the step with commands and a volume with the host path /var/run/docker.sock, in a repository that may have one",
		)
	case own == nil:
		return rt.serve
	}
	return own
}

// noneOf is for a kind of objects of which a plugin has, and sees, none.
func noneOf(kind string) handler {
	return func(_ context.Context, c *call) error {
		return apierror.New(http.StatusNotFound, fmt.Sprintf("No such %s: %s", kind, cmp.Or(c.vars["id"], c.vars["network"])))
	}
}

// pullOnly is createImage without the import of a stream.
func pullOnly(ctx context.Context, c *call) error {
	if c.query.Get("fromImage") == "" {
		return apierror.Refuse("an import", "a plugin that builds images gets them by building and pulling them", "")
	}
	return createImage(ctx, c)
}
