package guard

import (
	"context"
	"net/http"
	"net/url"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// inspection returns the daemon's description of a container of the stage. One whose id and
// standing are known needn't be judged again: neither changes, and to judge takes longer than the
// daemon to answer, for clients that ask by the hundred.
func (o *ownership) inspection(ctx context.Context, ref, version string, query url.Values) ([]byte, standing, error) {
	o.mu.Lock()
	s := o.containers[ref] // by full id
	o.mu.Unlock()
	if s == 0 {
		found, err := o.inspectContainer(ctx, ref, version, query)
		return found.raw, found.standing, err
	}
	raw, err := o.up.Raw(
		ctx,
		dockerd.Request{Method: http.MethodGet, Path: "/containers/" + ref + "/json", Version: version, Query: query},
	)
	if apierror.IsNotFound(err) {
		err = apierror.New(http.StatusNotFound, "No such container: "+ref)
	}
	return raw, s, err
}
