package buildkit

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerfile"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// Dockerfile returns a Dockerfile with the names of the stage's own images in place, for a daemon
// that can't be told of them in another way. It refuses those of other stages.
func (p *Proxy) Dockerfile(ctx context.Context, src []byte, args map[string]string) ([]byte, error) {
	foreign := func(text string) error {
		if strings.Contains(text, names.TagSpace+"/") {
			return apierror.New(
				http.StatusNotFound,
				"No such image: names that end a host in "+names.TagSpace+" are the runner's own",
			)
		}
		return nil
	}
	failed := foreign(string(src))
	out := dockerfile.MapImages(src, args, func(ref string) (string, bool) {
		if err := foreign(ref); err != nil {
			failed = err
			return "", false
		}
		private, onBuild, err := p.find(ctx, ref)
		for _, trigger := range onBuild {
			if err := foreign(trigger); err != nil {
				failed = err
				return "", false
			}
		}
		var e apierror.Status
		if err != nil && (!errors.As(err, &e) || e.Code >= http.StatusInternalServerError) {
			failed = err
		}
		return private, err == nil && private != ref
	})
	return out, failed
}
