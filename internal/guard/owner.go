package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// standing is what an object is to the stage.
type standing int

// The standings. What is neither is answered as if it didn't exist.
const (
	// ofRunner objects were made by the runner for the stage: its steps, their volumes, its
	// network. A client may look at them and join them, and not change them: a step's life is the
	// runner's, and its environment holds secrets.
	ofRunner standing = iota + 1
	// ofClient objects were made through the guard.
	ofClient
)

// owner is the stage that objects belong to, by their label.
type owner struct{ label, id string }

// has reports whether labels say that an object is the stage's.
func (o owner) has(labels map[string]string) bool { return labels[o.label] == o.id }

// filter returns the list filter for all that is the stage's.
func (o owner) filter() string {
	b, _ := json.Marshal(map[string][]string{"label": {o.label + "=" + o.id}}) // strings always encode
	return string(b)
}

// ownership answers whose an object is. What it remembers can't change: ids aren't used twice, and
// labels are for life.
type ownership struct {
	owner
	up      *dockerd.Daemon
	names   names.Names
	network string // the stage's, in the daemon

	mu         sync.Mutex
	containers map[string]standing // by full id
	execs      map[string]string   // exec id → container id
	volumes    map[string]bool     // names of anonymous volumes, for their events
}

func newOwnership(o owner, up *dockerd.Daemon, n names.Names, network string) *ownership {
	return &ownership{
		owner:      o,
		up:         up,
		names:      n,
		network:    network,
		containers: map[string]standing{},
		execs:      map[string]string{},
		volumes:    map[string]bool{},
	}
}

// containerFound is a container of the stage.
type containerFound struct {
	ID   string
	Name string // in the daemon, without the slash; empty if only the id was looked up
	standing
	raw []byte // the inspection, if it was made
}

// judgeContainer returns the standing of a container by its labels and name. Labels alone don't
// prove it: a container that no guard has labelled (one of the daemon's classic builder) takes
// those of its image, and a Dockerfile can set any.
func (o *ownership) judgeContainer(name string, labels map[string]string) standing {
	id, name := o.id, strings.TrimPrefix(name, "/")
	switch {
	case !o.has(labels):
		return 0
	case labels[LabelGuard] == id && o.names.Scoped(name):
		return ofClient
	case labels[LabelGuard] == "" && strings.HasPrefix(name, id+"-"):
		return ofRunner
	}
	return 0
}

// container resolves what a client calls a container to one of the stage's, by the daemon's own
// order: full id, name, beginning of an id. An error is NotFound for what isn't the stage's.
func (o *ownership) container(ctx context.Context, ref string) (containerFound, error) {
	if names.IsID(ref) {
		o.mu.Lock()
		s := o.containers[ref]
		o.mu.Unlock()
		if s != 0 {
			return containerFound{ID: ref, standing: s}, nil
		}
	}
	return o.inspectContainer(ctx, ref, "", nil)
}

// inspectContainer resolves as container does, and always asks the daemon, at the given API
// version.
func (o *ownership) inspectContainer(
	ctx context.Context,
	ref, version string,
	query url.Values,
) (containerFound, error) {
	absent := apierror.New(http.StatusNotFound, "No such container: "+ref)
	if !names.Valid(ref) {
		return containerFound{}, absent
	}
	if !names.IsID(ref) {
		c, err := o.inspectOne(ctx, o.names.Scope(ref), version, query)
		if !apierror.IsNotFound(err) {
			return c, err
		}
	}
	if names.IsHex(ref) && !names.IsID(ref) {
		full, err := o.byPrefix(ctx, ref)
		if err != nil {
			return containerFound{}, err
		}
		if full != "" {
			ref = full
		}
	}
	c, err := o.inspectOne(ctx, ref, version, query)
	if apierror.IsNotFound(err) {
		return c, absent
	}
	return c, err
}

// inspectOne looks at the container that the daemon knows by ref, and doesn't find it unless it's
// the stage's.
func (o *ownership) inspectOne(ctx context.Context, ref, version string, query url.Values) (containerFound, error) {
	raw, err := o.up.Raw(
		ctx,
		dockerd.Request{Method: http.MethodGet, Path: "/containers/" + ref + "/json", Version: version, Query: query},
	)
	if err != nil {
		return containerFound{}, err
	}
	var c struct {
		ID     string `json:"Id"`
		Name   string
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return containerFound{}, fmt.Errorf("read the docker daemon's inspection of a container: %w", err)
	}
	s := o.judgeContainer(c.Name, c.Config.Labels)
	// A beginning of an id that the daemon completed is a guess: only byPrefix, among the stage's
	// own, may make it.
	if s == 0 || c.ID != ref && strings.TrimPrefix(c.Name, "/") != ref {
		return containerFound{}, apierror.New(http.StatusNotFound, "No such container: "+ref)
	}
	o.mu.Lock()
	o.containers[c.ID] = s
	o.mu.Unlock()
	return containerFound{ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), standing: s, raw: raw}, nil
}

// byPrefix completes the beginning of an id among the stage's own containers; "" if there is none.
func (o *ownership) byPrefix(ctx context.Context, begin string) (string, error) {
	var list []struct {
		ID string `json:"Id"`
	}
	q := url.Values{"all": {"1"}, "filters": {o.filter()}}
	if err := o.up.Call(ctx, http.MethodGet, "/containers/json", q, nil, &list); err != nil {
		return "", err
	}
	var found []string
	for _, c := range list {
		if strings.HasPrefix(c.ID, begin) {
			found = append(found, c.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", apierror.BadRequest("multiple IDs found with provided prefix: %s", begin)
}

// exec resolves an exec's id to its container, which must be the client's.
func (o *ownership) exec(ctx context.Context, id string) error {
	if !names.IsHex(id) {
		return apierror.New(http.StatusNotFound, "No such exec instance: "+id)
	}
	o.mu.Lock()
	owner := o.execs[id]
	o.mu.Unlock()
	if owner != "" {
		return nil
	}
	var e struct{ ID, ContainerID string }
	if err := o.up.Call(ctx, http.MethodGet, "/exec/"+id+"/json", nil, nil, &e); err != nil {
		return err
	}
	c, err := o.container(ctx, e.ContainerID)
	if err != nil || c.standing != ofClient || e.ID != id {
		if err == nil || apierror.IsNotFound(err) {
			return apierror.New(http.StatusNotFound, "No such exec instance: "+id)
		}
		return err
	}
	o.rememberExec(id, c.ID)
	return nil
}

// rememberExec notes that an exec belongs to a container of the client's.
func (o *ownership) rememberExec(id, container string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.execs[id] = container
}

// stageNetwork is the stage's network.
type stageNetwork struct {
	id      string
	gateway netip.Addr // of its IPv4 subnet: the address of the daemon's machine on it
}

// stageNet returns the stage's network. It's looked up once, and again until that works.
func (g *Guard) stageNet(ctx context.Context) (*stageNetwork, error) {
	g.netMu.Lock()
	defer g.netMu.Unlock()
	if g.network != nil {
		return g.network, nil
	}
	var n networkFound
	if err := g.up.Call(ctx, http.MethodGet, "/networks/"+g.opts.Network, nil, nil, &n); err != nil {
		return nil, fmt.Errorf("look at the stage's network: %w", err)
	}
	if !g.own.has(n.Labels) || n.Name != g.opts.Network {
		return nil, fmt.Errorf(
			"look at the stage's network: the one that is called %s isn't this stage's",
			g.opts.Network,
		)
	}
	for _, c := range n.IPAM.Config {
		addr, err := netip.ParseAddr(c.Gateway)
		if err != nil {
			prefix, prefixErr := netip.ParsePrefix(
				c.Gateway,
			) // some versions write the gateway with the subnet's length
			addr, err = prefix.Addr(), prefixErr
		}
		if err == nil && addr.Is4() {
			g.network = &stageNetwork{id: n.ID, gateway: addr}
			return g.network, nil
		}
	}
	return nil, fmt.Errorf("look at the stage's network: the docker daemon tells no IPv4 gateway of it")
}

// networkFound is a network as the daemon reports it.
type networkFound struct {
	ID     string `json:"Id"`
	Name   string
	Labels map[string]string
	IPAM   struct {
		Config []struct{ Subnet, Gateway string }
	}
	standing `json:"-"`
}

// findNetwork resolves what a client calls a network to one of the stage's: the stage's own network
// goes by "bridge" and "default" as well.
func (o *ownership) findNetwork(ctx context.Context, ref string) (networkFound, error) {
	absent := apierror.New(http.StatusNotFound, "network "+ref+" not found")
	if !names.ValidNetwork(ref) {
		return networkFound{}, absent
	}
	var list []networkFound
	if err := o.up.Call(
		ctx, http.MethodGet, "/networks", url.Values{"filters": {o.filter()}}, nil, &list,
	); err != nil {
		return networkFound{}, err
	}
	if ref == names.Bridge || ref == "default" {
		ref = o.network
	}
	var begins []networkFound
	for _, want := range []string{o.names.Scope(ref), ref} {
		for _, n := range list {
			n.standing = o.judgeNetwork(n)
			switch {
			case n.standing == 0:
			case n.Name == want || n.ID == want:
				return n, nil
			case names.IsHex(ref) && want == ref && strings.HasPrefix(n.ID, ref):
				begins = append(begins, n)
			}
		}
	}
	switch len(begins) {
	case 0:
		return networkFound{}, absent
	case 1:
		return begins[0], nil
	}
	return networkFound{}, apierror.BadRequest(
		"network %s is ambiguous (%d matches found on ID prefix)",
		ref,
		len(begins),
	)
}

func (o *ownership) judgeNetwork(n networkFound) standing {
	switch {
	case !o.has(n.Labels):
		return 0
	case n.Labels[LabelGuard] == o.id && o.names.Scoped(n.Name):
		return ofClient
	case n.Name == o.network:
		return ofRunner
	}
	return 0
}

// volumeFound is a volume as the daemon reports it.
type volumeFound struct {
	Name       string
	Driver     string
	Mountpoint string
	Labels     map[string]string
	Options    map[string]string
	standing   `json:"-"`
	raw        []byte
}

// findVolume resolves what a client calls a volume to one of the stage's.
func (o *ownership) findVolume(ctx context.Context, ref, version string) (volumeFound, error) {
	absent := apierror.New(http.StatusNotFound, "get "+ref+": no such volume")
	if !names.Valid(ref) {
		return volumeFound{}, absent
	}
	for _, name := range []string{o.names.Scope(ref), ref} {
		raw, err := o.up.Raw(ctx, dockerd.Request{Method: http.MethodGet, Path: "/volumes/" + name, Version: version})
		if apierror.IsNotFound(err) {
			continue
		}
		if err != nil {
			return volumeFound{}, err
		}
		v := volumeFound{raw: raw}
		if err := json.Unmarshal(raw, &v); err != nil {
			return volumeFound{}, fmt.Errorf("read the docker daemon's inspection of a volume: %w", err)
		}
		if v.standing = o.judgeVolume(v); v.standing != 0 {
			return v, nil
		}
	}
	return volumeFound{}, absent
}

func (o *ownership) judgeVolume(v volumeFound) standing {
	switch {
	case !o.has(v.Labels):
		return 0
	case v.Labels[LabelGuard] == o.id:
		if !o.names.Scoped(v.Name) {
			o.mu.Lock()
			o.volumes[v.Name] = true
			o.mu.Unlock()
		}
		return ofClient
	}
	return ofRunner
}

// keyedLocks are locks by name: what a client calls twice at a time (create the same volume)
// happens once.
type keyedLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits for the lock of that name, not any more than ctx.
func (k *keyedLocks) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		if k.held == nil {
			k.held = map[string]chan struct{}{}
		}
		busy, held := k.held[name]
		if !held {
			mine := make(chan struct{})
			k.held[name] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, name)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
