package guard

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
)

// bodyLimit bounds a JSON body. It is refused whole beyond: a body of which a checker and the
// daemon read different parts is a way around the checker (CVE-2024-41110, CVE-2026-34040).
const bodyLimit = 4 << 20

// decode reads the client's body into v, a pointer to one of moby's structs. It's strict where
// encoding/json is lenient: a field of v's that comes twice in an object, be it in another case,
// and anything after the value are refused. Fields that v doesn't have are dropped.
//
// The daemon never sees this body, only v encoded anew.
func (c *call) decode(v any) error {
	b, err := c.readBody()
	if err != nil {
		return err
	}
	dropped, err := strictjson.Decode(b, v)
	if err != nil {
		return err
	}
	c.drop(v, dropped)
	return nil
}

// readBody returns the whole body, within bodyLimit.
func (c *call) readBody() ([]byte, error) {
	if ct := c.r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			return nil, apierror.BadRequest("unsupported Content-Type header (%.100s): must be 'application/json'", ct)
		}
	}
	if c.r.ContentLength > bodyLimit {
		return nil, tooLarge()
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, bodyLimit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case err != nil:
		return nil, apierror.BadRequest("the request's body broke off: %v", err)
	}
	return b, nil
}

func tooLarge() error {
	return apierror.New(
		http.StatusRequestEntityTooLarge,
		fmt.Sprintf("the request's body is larger than %d bytes", bodyLimit),
	)
}
