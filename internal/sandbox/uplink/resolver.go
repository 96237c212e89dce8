package uplink

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Resolver is a resolv.conf(5).
type Resolver struct {
	Nameservers []netip.Addr
	// Search are the domains that are appended to a name with fewer dots than ndots.
	Search []string
	// Options as they are written, "ndots:5" for one.
	Options []string
}

// ReadResolver reads the resolv.conf at path.
func ReadResolver(path string) (Resolver, error) {
	f, err := os.Open(path)
	if err != nil {
		return Resolver{}, fmt.Errorf("read the resolvers: %w", err)
	}
	defer f.Close()
	return parseResolver(f)
}

func parseResolver(conf io.Reader) (Resolver, error) {
	var r Resolver
	lines := bufio.NewScanner(conf)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil {
				r.Nameservers = append(r.Nameservers, a)
			}
		case "search", "domain": // the last one counts
			r.Search = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	if err := lines.Err(); err != nil {
		return Resolver{}, fmt.Errorf("read the resolvers: %w", err)
	}
	if len(r.Search) == 1 && r.Search[0] == "." { // Docker's way to write "none"
		r.Search = nil
	}
	return r, nil
}

// Dots is the value of the option ndots, and whether it is written at all.
func (r Resolver) Dots() (n int, written bool) {
	for _, o := range r.Options {
		if text, ok := strings.CutPrefix(o, "ndots:"); ok {
			if v, err := strconv.Atoi(text); err == nil && v >= 0 {
				n, written = v, true
			}
		}
	}
	return n, written
}

// DaemonOptions are the "dns-opts" of a Docker daemon that runs behind this resolver; nil leaves it
// its own reading of resolv.conf.
//
// An ndots in the daemon's resolv.conf changes what its embedded resolver does with a name without
// a dot: it answers NXDOMAIN by itself, and trusts the client to come back with a search domain
// appended (libnetwork/resolver.go). Docker writes "ndots:0" into every container on a network with
// names of its own, this one included, so that "gitea", a neighbour of the runner, would have no
// address in a step. With options of the daemon's own, in which there is no ndots, the embedded
// resolver forwards such names.
//
// Where there are search domains and an ndots above 0, as in Kubernetes, clients do come back, and
// need that ndots.
func (r Resolver) DaemonOptions() []string {
	n, written := r.Dots()
	if !written || n > 0 && len(r.Search) > 0 {
		return nil
	}
	var out []string
	for _, o := range r.Options {
		if !strings.HasPrefix(o, "ndots:") {
			out = append(out, o)
		}
	}
	if out == nil {
		// Some option must stay: an empty list makes the daemon read resolv.conf. 3 seconds for a
		// try are less than the default of 5, and more than any resolver that works needs.
		out = []string{"timeout:3"}
	}
	return out
}
