package guard

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/buildkit"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// grpc answers POST /grpc: HTTP/2 ends here, and calls are judged and carried one by one (package
// buildkit).
func grpc(ctx context.Context, c *call) error {
	if !c.wantsUpgrade("h2c") {
		return apierror.BadRequest("this endpoint needs an upgrade to h2c")
	}
	client, err := c.hijack(http.Header{"Upgrade": {"h2c"}})
	if err != nil {
		return err
	}
	defer c.g.release(client)
	err = c.g.kit.Serve(ctx, client, func(ctx context.Context) (net.Conn, error) {
		conn, resp, err := c.g.up.Upgrade(ctx, dockerd.Request{Method: http.MethodPost, Path: "/grpc"}, "h2c")
		if err != nil {
			return nil, err
		}
		if conn == nil {
			return nil, errors.Join(dockerd.AnswerError(resp), resp.Body.Close())
		}
		return conn, nil
	})
	if err != nil {
		return err
	}
	return dockerd.ErrAnswered
}

// buildSession answers POST /session: the connection on which the daemon calls the client, for
// files of the context, credentials and secrets. On it the daemon is HTTP/2's client, and takes no
// requests, so it's carried as it is, unless Dockerfiles have to be rewritten.
func buildSession(ctx context.Context, c *call) error {
	if !c.wantsUpgrade("h2c") {
		return apierror.BadRequest("this endpoint needs an upgrade to h2c")
	}
	h := http.Header{}
	for _, k := range buildkit.SessionHeaders {
		if v := c.r.Header.Values(k); len(v) > 0 {
			h[http.CanonicalHeaderKey(k)] = v
		}
	}
	if h.Get(buildkit.SessionID) == "" {
		return apierror.BadRequest("the session has no id")
	}
	newest, _, err := c.g.up.Versions(ctx)
	if err != nil {
		return err
	}
	// The client may build by POST /build, which has no policies.
	rewritten := !apiversion.AtLeast(newest, buildkit.PolicyVersion) ||
		!apiversion.AtLeast(c.version, buildkit.PolicyVersion)
	if err := c.g.kit.OpenSession(h, rewritten); err != nil {
		return err
	}
	out := dockerd.Request{Method: http.MethodPost, Path: "/session", Header: h}
	if rewritten {
		return rewrittenSession(ctx, c, out)
	}
	return c.tunnelAs(ctx, out, "h2c")
}

// rewrittenSession carries a session whose Dockerfiles are rewritten on their way.
func rewrittenSession(ctx context.Context, c *call, out dockerd.Request) error {
	conn, resp, err := c.g.up.Upgrade(ctx, out, "h2c")
	if err != nil {
		return err
	}
	if conn == nil {
		defer resp.Body.Close()
		return dockerd.AnswerError(resp)
	}
	if !c.g.hold(conn) {
		return errClosed
	}
	defer c.g.release(conn)
	client, err := c.hijack(resp.Header)
	if err != nil {
		return err
	}
	defer c.g.release(client)
	if err := c.g.kit.ServeSession(ctx, conn, client, out.Header.Get(buildkit.SessionID)); err != nil {
		return err
	}
	return dockerd.ErrAnswered
}

var _ buildkit.World = world{}

// OwnImages returns the daemon's names of the stage's own images.
func (w world) OwnImages(ctx context.Context) ([]string, error) {
	list, err := w.g.images.listOwn(ctx)
	if err != nil {
		return nil, err
	}
	var own []string
	for _, i := range list {
		own = append(own, i.names.Own...)
	}
	return own, nil
}

// FindImage finds an image for BuildKit, which is about to use it.
func (w world) FindImage(ctx context.Context, name string, ref reference.Named) (buildkit.Image, error) {
	found, err := w.g.findNamed(ctx, name, ref)
	if err != nil {
		return buildkit.Image{}, err
	}
	w.g.runner.AboutToUse(ctx, found.id)
	return buildkit.Image{Private: found.tag, OnBuild: found.onBuild}, nil
}

// Withheld returns the names of images that the stage may not have.
func (w world) Withheld(ctx context.Context) ([]string, error) { return w.g.withheld(ctx) }

// CheckHeld refuses an image that the stage may not have.
func (w world) CheckHeld(ctx context.Context, ref reference.Named) error {
	return w.g.checkHeld(ctx, ref)
}

// Made notes that the stage has made an image.
func (w world) Made(id string) { w.g.images.remember(id) }

// Dropped notes that a parameter of a frontend is left out.
func (w world) Dropped(parameter string) {
	w.g.log.debug("a parameter of a frontend is dropped", nil, "parameter", parameter)
}

// containerdImages is what the daemon's /info calls the driver of images in containerd's store, for
// which Docker 29 is set by default.
const containerdImages = "io.containerd.snapshotter.v1"

// ContainerdImages reports whether the daemon keeps its images in containerd's store.
func (w world) ContainerdImages(ctx context.Context) (bool, error) {
	var info struct{ DriverStatus [][2]string }
	if err := w.g.up.Call(ctx, http.MethodGet, "/info", nil, nil, &info); err != nil {
		return false, err
	}
	return slices.Contains(info.DriverStatus, [2]string{"driver-type", containerdImages}), nil
}
