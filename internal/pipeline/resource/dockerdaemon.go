package resource

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// DockerDaemon is what a step that runs beside the others says of a docker daemon that it would
// start.
type DockerDaemon struct {
	// Sockets are the paths, in the step's container, of the unix sockets that it would make.
	Sockets []string
	// Ports are those of TCP that it would listen on, besides the customary 2375 and 2376.
	Ports []int
	// Options are other arguments of dockerd's that the step gives it.
	Options []string
}

// dockerdNames are the programs of Docker's own images that start a daemon
// (https://hub.docker.com/_/docker).
var dockerdNames = []string{"dockerd", "dockerd-entrypoint.sh", "dockerd-rootless.sh"}

// DockerDaemon reports whether the step would start a docker daemon for others to use, and is nil
// if it wouldn't. background says that the step is a service or detached: otherwise an image such
// as docker:dind merely has the docker command line that the step's commands want.
//
// It knows Docker's own images alone, from any mirror. What another image does can't be told by its
// name.
func (s *Step) DockerDaemon(background bool) *DockerDaemon {
	tag, ours := dockerTag(s.Image)
	if !ours || !background && !s.Detach {
		return nil
	}
	words, starts := s.daemonWords(strings.Contains(tag, "dind"))
	if !starts {
		return nil
	}
	d := &DockerDaemon{}
	d.read(words)
	if len(d.Sockets) == 0 {
		d.Sockets = []string{"/var/run/docker.sock"}
		if strings.Contains(tag, "rootless") {
			d.Sockets = append(d.Sockets, "/var/run/user/1000/docker.sock")
		}
	}
	return d
}

// dockerTag reports whether an image is Docker's own, and its tag: dind is in the tags of those
// that start a daemon by themselves.
func dockerTag(image string) (tag string, ours bool) {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", false
	}
	// A mirror keeps the path: mirror.example.com/library/docker.
	if name := reference.FamiliarName(ref); name != "docker" && !strings.HasSuffix(name, "/library/docker") {
		return "", false
	}
	if tagged, ok := ref.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return tag, true
}

// daemonWords are the arguments of the daemon that the step starts, if it does. dind is for images
// that start one by themselves.
func (s *Step) daemonWords(dind bool) (words []string, starts bool) {
	entrypoint := slices.DeleteFunc(slices.Clone(s.Entrypoint), func(word string) bool { return word == "" })
	switch {
	case len(entrypoint) > 0:
		if isDockerd(entrypoint[0]) {
			return slices.Concat(entrypoint[1:], s.Command, s.Commands), true
		}
	case len(s.Commands) > 0:
		// A script; what it does before it starts the daemon is for that daemon.
		for _, line := range s.Commands {
			fields := strings.Fields(line)
			for len(fields) > 0 && (fields[0] == "exec" || fields[0] == "nohup") {
				fields = fields[1:]
			}
			if len(fields) > 0 && isDockerd(fields[0]) {
				return slices.DeleteFunc(fields[1:], func(word string) bool { return word == "&" }), true
			}
		}
	case len(s.Command) > 0 && isDockerd(s.Command[0]):
		return s.Command[1:], true
	case len(s.Command) == 0 || strings.HasPrefix(s.Command[0], "-"):
		return s.Command, dind
	}
	return nil, false
}

func isDockerd(word string) bool { return slices.Contains(dockerdNames, path.Base(word)) }

// read finds in the arguments where the daemon would listen.
func (d *DockerDaemon) read(words []string) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		if isDockerd(word) { // dockerd-entrypoint.sh dockerd
			continue
		}
		host, found := strings.CutPrefix(word, "--host=")
		switch {
		case found:
		case (word == "--host" || word == "-H") && i+1 < len(words):
			i++
			host = words[i]
		case strings.HasPrefix(word, "-H") && len(word) > 2:
			host = strings.TrimPrefix(word[2:], "=")
		default:
			d.Options = append(d.Options, word)
			continue
		}
		d.addHost(strings.Trim(host, `"'`))
	}
}

// addHost reads one of dockerd's --host.
func (d *DockerDaemon) addHost(host string) {
	if socket, ok := strings.CutPrefix(host, "unix://"); ok {
		if path.IsAbs(socket) {
			d.Sockets = append(d.Sockets, path.Clean(socket))
		}
		return
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(host, "tcp://"), ":")
	if n, err := strconv.Atoi(port); err == nil && n > 0 && n < 1<<16 && n != 2375 && n != 2376 {
		d.Ports = append(d.Ports, n)
	}
}
