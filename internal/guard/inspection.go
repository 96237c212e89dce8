package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// inspection returns the daemon's description of a container of the stage. One whose id and
// standing are known needn't be judged again: neither changes, and to judge takes longer than the
// daemon to answer, for clients that ask by the hundred.
func (o *ownership) inspection(ctx context.Context, ref, version string, query url.Values) ([]byte, standing, error) {
	o.mu.Lock()
	s := o.containers[ref] // by full id
	o.mu.Unlock()
	if s == 0 {
		found, err := o.inspectContainer(ctx, ref, version, query)
		return found.raw, found.standing, err
	}
	raw, err := o.up.Raw(
		ctx,
		dockerd.Request{Method: http.MethodGet, Path: "/containers/" + ref + "/json", Version: version, Query: query},
	)
	if apierror.IsNotFound(err) {
		err = apierror.New(http.StatusNotFound, "No such container: "+ref)
	}
	return raw, s, err
}

// defaultNetworkFields are those of NetworkSettings that tell of a container's place on Docker's
// default network. Versions of the API from 1.52 on don't have them.
var defaultNetworkFields = []string{"EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway", "MacAddress"}

// withDefaultNetwork fills them in from the network that stands in for the default:
// {{.NetworkSettings.IPAddress}} is a most common idiom.
func withDefaultNetwork(b []byte, network string) ([]byte, error) {
	if !bytes.Contains(b, []byte(strconv.Quote(network)+":{")) {
		return b, nil
	}
	var top, settings map[string]json.RawMessage
	var networks map[string]map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		return nil, fmt.Errorf("read the docker daemon's inspection of a container: %w", err)
	}
	if err := json.Unmarshal(top["NetworkSettings"], &settings); err != nil {
		return nil, fmt.Errorf("read a container's network settings: %w", err)
	}
	if err := json.Unmarshal(settings["Networks"], &networks); err != nil {
		return nil, fmt.Errorf("read a container's networks: %w", err)
	}
	place := networks[network]
	if place == nil {
		return b, nil
	}
	for _, key := range defaultNetworkFields {
		if _, has := settings[key]; has && place[key] != nil {
			settings[key] = place[key]
		}
	}
	var err error
	if top["NetworkSettings"], err = json.Marshal(settings); err != nil {
		return nil, err
	}
	return json.Marshal(top)
}
