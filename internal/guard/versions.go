package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/docker/docker/api"
)

// newestVersion of the API that the guard speaks: the one whose fields, parameters and answers the policy has been written for, and is tested against (coverage_test.go). A
// newer daemon speaks it as well, so clients are told of no later one. In those, answers that are filtered here have another form (1.53: what /system/df tells), and
// requests have parts that no rule knows.
const newestVersion = api.DefaultVersion

// oldestVersion of the API that the guard speaks. Below it, starting a container takes a HostConfig, which would be a second door to everything.
const oldestVersion = "1.24"

// versions are the newest and the oldest version of the API that both the daemon and the guard speak. The daemon is asked once.
func (u *upstream) versions(ctx context.Context) (newest, oldest string, err error) {
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
		return "", "", answerError(resp)
	}
	var v struct{ ApiVersion, MinAPIVersion string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, errorLimit)).Decode(&v); err != nil {
		return "", "", fmt.Errorf("read the docker daemon's version: %w", err)
	}
	if _, ok := minorOf(v.ApiVersion); !ok {
		return "", "", fmt.Errorf("the docker daemon says that its API version is %q, which this guard doesn't know", v.ApiVersion)
	}
	newest, oldest = v.ApiVersion, v.MinAPIVersion
	if atLeast(newest, newestVersion) {
		newest = newestVersion
	}
	if atLeast(oldestVersion, oldest) {
		oldest = oldestVersion
	}
	if !atLeast(newest, oldest) {
		return "", "", fmt.Errorf("the docker daemon speaks the versions %s to %s of its API, and this guard knows %s to %s: use a docker daemon and a runner of about the same age",
			v.MinAPIVersion, v.ApiVersion, oldestVersion, newestVersion)
	}
	u.max, u.min = newest, oldest
	return u.max, u.min, nil
}

// limitVersion makes the version with which every answer of the daemon is marked, and from which clients choose theirs, one that the guard speaks.
func (u *upstream) limitVersion(ctx context.Context, h http.Header) error {
	const mark = "Api-Version"
	newest, _, err := u.versions(ctx)
	if err == nil && h.Get(mark) != "" {
		h.Set(mark, newest)
	}
	return err
}

// minorOf is y of the API version "1.y".
func minorOf(version string) (int, bool) {
	s, ok := strings.CutPrefix(version, "1.")
	if !ok || len(s) == 0 || len(s) > 3 || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil
}

// atLeast compares API versions; a malformed one is older than all.
func atLeast(version, than string) bool {
	a, ok := minorOf(version)
	b, okThan := minorOf(than)
	return ok && (!okThan || a >= b)
}
