package syscont

import (
	"errors"
	"os"
	"slices"
	"strings"
)

// heal mends what keeps a daemon that died from coming back, as far as that is known.
//
// A daemon that is killed, or whose machine loses power, while it makes a network may leave a half-written record of it, on which it then dies at every start: it panics
// in libnetwork (https://github.com/moby/moby/issues/45057, in Docker 20.10.23 to 23.0). Its maintainers' advice is to remove the file with the networks. No network
// outlives its build here, so nothing is lost but what somebody has made by hand, of which the log tells.
func (d *Daemon) heal(death *StoppedError) {
	if d.Networks == "" || !death.early || !death.crashedIn("libnetwork") {
		return
	}
	aside := d.Networks + ".broken"
	err := os.Rename(d.Networks, aside)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		d.Log.WithError(err).Errorf("the Docker daemon can't read its networks, and they can't be set aside: remove %s", d.Networks)
	default:
		d.Log.Warnf("the Docker daemon can't read its networks: they are set aside as %s. Builds make their own; a network that was made by hand (DRONE_RUNNER_NETWORKS) has to be made again", aside)
	}
}

// crashedIn tells whether the daemon panicked with a part of it among the innermost calls.
func (e *StoppedError) crashedIn(part string) bool {
	return len(e.Lines) > 0 && strings.HasPrefix(e.Lines[0], "panic: ") &&
		slices.ContainsFunc(e.Lines, func(line string) bool { return strings.Contains(line, "/"+part+".") })
}
