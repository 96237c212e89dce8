package syscont

import (
	"errors"
	"os"
	"slices"
	"strings"
)

// heal mends what keeps a daemon that died from coming back, as far as that is known.
//
// A daemon that is killed, or whose machine loses power, while it makes a network may leave a
// broken file of networks, on which it then dies at every start. It panics on a half-written record
// (https://github.com/moby/moby/issues/45057, in Docker 20.10.23 to 23.0) and in its database, or
// says that the database is none. Its maintainers' advice is to remove the file. No network
// outlives its stage here, so nothing is lost but what somebody has made by hand, and the log says
// so.
func (d *Daemon) heal(death *StoppedError) {
	if d.Networks == "" || !death.early || !death.ofNetworks() {
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

// unreadable are the words of bbolt and of the decoder of its records for a file that is broken, as
// Docker 20.10 to 28 quotes them.
var unreadable = []string{
	"invalid database", "file size too small", "checksum error", "version mismatch", "unexpected end of JSON input", "invalid character",
}

// ofNetworks reports whether the daemon died of its file of networks.
func (e *StoppedError) ofNetworks() bool {
	if e.crashedIn("libnetwork") || e.crashedIn("bbolt") {
		return true
	}
	return slices.ContainsFunc(e.Lines, func(line string) bool {
		return strings.Contains(line, "network controller") &&
			slices.ContainsFunc(unreadable, func(words string) bool { return strings.Contains(line, words) })
	})
}

// crashedIn reports whether the daemon crashed with a part of it among the innermost calls.
func (e *StoppedError) crashedIn(part string) bool {
	if len(e.Lines) == 0 || !crash(e.Lines[0]) {
		return false
	}
	return slices.ContainsFunc(e.Lines, func(line string) bool { return strings.Contains(line, "/"+part+".") })
}
