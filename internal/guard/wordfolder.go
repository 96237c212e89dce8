package guard

import (
	"errors"
	"io/fs"
	"net/http"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/mounts"
)

// wordFolder is an error of add as the client reads it.
func wordFolder(what string, err error) error {
	switch {
	case errors.Is(err, mounts.ErrLeadsOut):
		return apierror.Refuse(what, "a symbolic link on the way leads out of the volume", "links inside of it are followed if they are relative")
	case errors.Is(err, fs.ErrNotExist):
		return apierror.BadRequest("%s: bind source path does not exist", what)
	case errors.Is(err, mounts.ErrUnavailable):
		return apierror.Refuse(what, err.Error()+" with this docker daemon", "mount the whole volume")
	}
	return apierror.New(http.StatusInternalServerError, what+" failed: "+err.Error())
}
