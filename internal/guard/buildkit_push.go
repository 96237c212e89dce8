package guard

import (
	"net/http"
	"slices"
)

// containerdImages is what the daemon's /info calls the driver of images in containerd's store, for which Docker 29 is set by default.
const containerdImages = "io.containerd.snapshotter.v1"

// clientPushes tells whether a client that has BuildKit make an image for it to be pushed pushes it itself, by the API, when it's there: where the daemon keeps images in a
// driver of its own, its exporter "moby" ignores the wish, and buildx knows (build/build.go there, DirectPush). With containerd's store the daemon itself would push, under a
// name that isn't the client's.
func (o solveOpts) clientPushes(kind, attr string) (bool, error) {
	if kind != "moby" || attr != "push" {
		return false, nil
	}
	var info struct{ DriverStatus [][2]string }
	if err := o.g.up.Call(o.ctx, http.MethodGet, "/info", nil, nil, &info); err != nil {
		return false, err
	}
	return !slices.Contains(info.DriverStatus, [2]string{"driver-type", containerdImages}), nil
}
