package dockerd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
)

// Versions returns the newest and the oldest version of the API that both the daemon and the guard
// speak. The daemon is asked once.
func (u *Daemon) Versions(ctx context.Context) (newest, oldest string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.max != "" {
		return u.max, u.min, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/version", nil)
	if err != nil {
		return "", "", err
	}
	resp, err := u.calls.RoundTrip(r)
	if err != nil {
		return "", "", fmt.Errorf("ask the docker daemon for its version: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", "", AnswerError(resp)
	}
	var v struct {
		APIVersion    string `json:"ApiVersion"`
		MinAPIVersion string
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, errorLimit)).Decode(&v); err != nil {
		return "", "", fmt.Errorf("read the docker daemon's version: %w", err)
	}
	if _, ok := apiversion.Minor(v.APIVersion); !ok {
		return "", "", fmt.Errorf(
			"the docker daemon says that its API version is %q, which this guard doesn't know",
			v.APIVersion,
		)
	}
	newest, oldest = v.APIVersion, v.MinAPIVersion
	if apiversion.AtLeast(newest, u.speaks.Newest) {
		newest = u.speaks.Newest
	}
	if apiversion.AtLeast(u.speaks.Oldest, oldest) {
		oldest = u.speaks.Oldest
	}
	if !apiversion.AtLeast(newest, oldest) {
		return "", "", fmt.Errorf(
			"the docker daemon speaks the versions %s to %s of its API, and this guard knows %s to %s: use a docker daemon and a runner of about the same age",
			v.MinAPIVersion,
			v.APIVersion,
			u.speaks.Oldest,
			u.speaks.Newest,
		)
	}
	u.max, u.min = newest, oldest
	return u.max, u.min, nil
}

// LimitVersion makes the version with which every answer of the daemon is marked, and from which
// clients choose theirs, one that the guard speaks.
func (u *Daemon) LimitVersion(ctx context.Context, h http.Header) error {
	const mark = "Api-Version"
	newest, _, err := u.Versions(ctx)
	if err == nil && h.Get(mark) != "" {
		h.Set(mark, newest)
	}
	return err
}
