package guard

import "github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"

// NewestVersion of the API that the guard speaks: the one whose fields, parameters and answers the policy is written for and tested against (coverage_test.go). A
// newer daemon speaks it as well, so clients are offered no later one: in later versions some answers that are filtered here have another form (1.53: /system/df),
// and requests have parts that no rule knows.
const newestVersion = "1.51"

// OldestVersion of the API that the guard speaks. Below it, starting a container takes a HostConfig, which would be a second door to everything.
const oldestVersion = "1.24"

// speaks is the range of API versions that the guard speaks.
var speaks = dockerd.Versions{Oldest: oldestVersion, Newest: newestVersion}
