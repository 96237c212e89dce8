package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
)

// buildQuery are the parameters of POST /build.
const buildQuery = "dockerfile t+ extrahosts+ remote q nocache cachefrom pull -rm -forcerm memory memswap cpushares cpusetcpus cpusetmems cpuperiod cpuquota buildargs " +
	"shmsize squash labels networkmode platform target outputs version session buildid cgroupparent securityopt+ ulimits isolation"

// build answers POST /build, by the builder that the client asks for.
func build(ctx context.Context, c *call) error {
	b, err := c.readBuild(ctx)
	if err != nil {
		return err
	}
	switch v := c.query.Get("version"); v {
	case "", "1":
		return b.classic(ctx)
	case "2":
		return b.buildKit(ctx)
	default:
		return badRequest("invalid version %q", v)
	}
}

// buildRequest is the parameters of a build, judged.
type buildRequest struct {
	*call
	// query for the daemon, without what depends on the builder.
	query url.Values
	args  map[string]*string
	hosts []string
	// tags are the daemon's names for the image.
	tags []string
}

// buildRules are for the parameters of a build that are forwarded as they are. The others are below, or in classic and buildKit.
var buildPassed = []string{"nocache", "target"}

// readBuild judges the parameters that both builders have.
func (c *call) readBuild(ctx context.Context) (*buildRequest, error) {
	b := &buildRequest{call: c, query: url.Values{"rm": {"1"}, "forcerm": {"1"}}}
	for _, k := range buildPassed {
		if v := c.query.Get(k); v != "" {
			b.query.Set(k, v)
		}
	}
	if c.flag("squash") {
		return nil, refuse("squash", "it is an experiment of the daemon's")
	}
	if v := c.query.Get("outputs"); v != "" && v != "[]" && v != "null" {
		return nil, refusal{"outputs", "the daemon would write them on its own machine, or send them", "use docker buildx build --output"}
	}
	if len(c.query["securityopt"]) > 0 {
		return nil, refuse("securityopt", "profiles and labels are the daemon's")
	}
	if v := c.query.Get("isolation"); v != "" && v != "default" {
		return nil, refuse("isolation "+quoted(v), "isolation is for Windows")
	}
	if err := b.limits(ctx); err != nil {
		return nil, err
	}
	labels := map[string]string{}
	if err := b.object("labels", &labels); err != nil {
		return nil, err
	}
	if err := checkLabels("labels", labels); err != nil {
		return nil, err
	}
	if err := b.object("buildargs", &b.args); err != nil {
		return nil, err
	}
	for _, h := range c.query["extrahosts"] {
		for line := range strings.SplitSeq(h, ",") {
			host, err := b.host(ctx, line)
			if err != nil {
				return nil, err
			}
			b.hosts = append(b.hosts, host)
		}
	}
	b.query["extrahosts"] = b.hosts
	for _, t := range c.query["t"] {
		if t == "" {
			continue
		}
		name, err := c.g.tags.target(t)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(b.tags, name) {
			b.tags = append(b.tags, name)
		}
	}
	if len(b.tags) == 0 {
		repo, tag := c.g.tags.untagged()
		b.tags = []string{repo + ":" + tag}
	}
	b.query["t"] = b.tags
	return b, nil
}

// object reads a parameter that is a JSON object, and sets it anew for the daemon.
func (b *buildRequest) object(key string, v any) error {
	text := b.call.query.Get(key)
	if text == "" || text == "null" {
		return nil
	}
	if err := decodeStrict([]byte(text), v); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b.query.Set(key, string(out))
	return nil
}

// host is a line for /etc/hosts. The machine, as a client knows it, is the gateway of the build's network.
func (b *buildRequest) host(ctx context.Context, line string) (string, error) {
	name, addr, ok := cutHost(line)
	if !ok {
		return "", badRequest("bad format for add-host: %s", quoted(line))
	}
	if addr == "host-gateway" {
		n, err := b.g.buildNet(ctx)
		if err != nil {
			return "", err
		}
		addr = n.gateway.String()
	}
	return name + ":" + addr, nil
}

// limits applies the rules for a container's resources to those of the build's.
func (b *buildRequest) limits(ctx context.Context) error {
	host := &container.HostConfig{}
	r := &host.Resources
	for key, v := range map[string]*int64{
		"memory": &r.Memory, "memswap": &r.MemorySwap, "cpushares": &r.CPUShares, "cpuperiod": &r.CPUPeriod, "cpuquota": &r.CPUQuota, "shmsize": &host.ShmSize,
	} {
		text := b.call.query.Get(key)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return badRequest("%s %s is no number", key, quoted(text))
		}
		*v = n
	}
	r.CpusetCpus, r.CpusetMems = b.call.query.Get("cpusetcpus"), b.call.query.Get("cpusetmems")
	r.CgroupParent = b.call.query.Get("cgroupparent")
	if text := b.call.query.Get("ulimits"); text != "" && text != "null" {
		if err := decodeStrict([]byte(text), &r.Ulimits); err != nil {
			return fmt.Errorf("ulimits: %w", err)
		}
	}
	cr := &creation{req: &container.CreateRequest{HostConfig: host}}
	p := &checking{Context: ctx, c: b.call, create: cr}
	cr.checking = *p
	if err := p.enforce("", reflect.ValueOf(r).Elem(), resourceRules); err != nil {
		return err
	}
	if err := shmSize(p, "shmsize", reflect.ValueOf(&host.ShmSize).Elem()); err != nil {
		return err
	}
	if r.NanoCPUs > 0 { // the builder knows only the older notation
		r.CPUPeriod, r.CPUQuota = 100_000, r.NanoCPUs/10_000
	}
	for key, v := range map[string]int64{
		"memory": r.Memory, "memswap": r.MemorySwap, "cpushares": r.CPUShares, "cpuperiod": r.CPUPeriod, "cpuquota": r.CPUQuota, "shmsize": host.ShmSize,
	} {
		if v != 0 {
			b.query.Set(key, strconv.FormatInt(v, 10))
		}
	}
	for key, v := range map[string]string{"cpusetcpus": r.CpusetCpus, "cpusetmems": r.CpusetMems, "cgroupparent": r.CgroupParent} {
		if v != "" {
			b.query.Set(key, v)
		}
	}
	if len(r.Ulimits) > 0 {
		text, err := json.Marshal(r.Ulimits)
		if err != nil {
			return err
		}
		b.query.Set("ulimits", string(text))
	}
	return nil
}

// proxyArgs are arguments that every Dockerfile has and that the builder leaves out of the cache's key.
var proxyArgs = []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy"}

// classic has the daemon's classic builder build. The client's archive is streamed, with a Dockerfile that names no images but by id (build_dockerfile.go).
func (b *buildRequest) classic(ctx context.Context) error {
	if v := b.call.query.Get("remote"); v != "" {
		return refusal{"remote " + quoted(v), "the daemon would fetch it, from wherever it can reach", "clone or fetch it in the step, or use docker buildx build"}
	}
	if b.call.query.Get("session") != "" || b.call.query.Get("buildid") != "" {
		return badRequest("sessions are for BuildKit")
	}
	dockerfile := b.call.query.Get("dockerfile")
	if dockerfile == "" {
		dockerfile = "Dockerfile"
	}
	scoped, err := b.network(ctx)
	if err != nil {
		return err
	}
	for k := range b.args {
		scoped = scoped || slices.Contains(proxyArgs, strings.ToLower(k))
	}
	if scoped = scoped || len(b.hosts) > 0; scoped {
		args := map[string]*string{}
		maps.Copy(args, b.args)
		args[cacheScope] = &b.g.opts.ID
		text, err := json.Marshal(args)
		if err != nil {
			return err
		}
		b.query.Set("buildargs", string(text))
	}
	if err := b.cacheFrom(ctx); err != nil {
		return err
	}

	out := &messages{call: b.call, quiet: b.flag("q")}
	if out.quiet {
		b.query.Set("q", "1")
	}
	bases := &bases{buildRequest: b, out: out, pull: b.flag("pull"), found: map[string]base{}}
	bases.auth, err = registryConfig(b.r.Header.Get("X-Registry-Config"))
	if err != nil {
		return err
	}
	file := &classicFile{args: b.args, target: b.call.query.Get("target"), scoped: scoped, resolve: bases.resolve, shown: map[string]string{}}
	edit, ours := buildContext(ctx, dockerfile, file)
	b.query.Set("dockerfile", ours)

	body, done := b.edited(edit)
	resp, err := b.ask(ctx, outgoing{method: http.MethodPost, path: "/build", query: b.query, header: streamHeader(), body: body, length: -1})
	if err != nil {
		if e := done(); e != nil {
			err = e
		}
		b.settle()
		return out.fail(err)
	}
	defer resp.Body.Close()
	err = out.copy(resp.Body, func(m []byte) []byte { return b.message(m, file.shown) })
	if e := done(); e != nil && err == nil {
		err = out.fail(e)
	}
	b.settle()
	return err
}

// settle waits, if the guard has been closed meanwhile, until the builder's containers are gone.
func (b *buildRequest) settle() {
	if b.g.base.Err() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := b.g.removeBuilders(ctx); err != nil {
		b.g.log.WithError(err).Warn("cannot remove what a docker build has left")
	}
}

// network puts the builder's containers onto a network: by default one that only they are on. scoped tells that it's another, on which the build's own containers may answer by
// any name, "github.com" for one.
func (b *buildRequest) network(ctx context.Context) (scoped bool, err error) {
	mode := b.call.query.Get("networkmode")
	switch {
	case mode == "" || mode == "default" || mode == bridge:
		mode, err = b.g.builderNetwork(ctx)
		b.query.Set("networkmode", mode)
		return false, err
	case mode == network.NetworkNone:
		b.query.Set("networkmode", mode)
		return false, nil
	}
	v := reflect.ValueOf(&mode).Elem()
	if err := networkMode(&checking{Context: ctx, c: b.call}, "networkmode", v); err != nil {
		return false, err
	}
	b.query.Set("networkmode", mode)
	return true, nil
}

// builderNetwork is the network of the builder's containers; it's created with the first build. It has the owner's labels, so it goes with the build, and not the guard's, so
// no client sees it or joins it: what is built there goes into the cache of all builds, and mustn't meet names that one build has made up.
func (g *Guard) builderNetwork(ctx context.Context) (string, error) {
	unlock, err := g.lock.lock(ctx, "the builder's network")
	if err != nil {
		return "", err
	}
	defer unlock()
	name := g.opts.ID + "-builder"
	var n networkFound
	err = g.up.call(ctx, http.MethodGet, "/networks/"+name, nil, nil, &n)
	if err == nil && n.Name == name && n.Labels[g.opts.OwnerLabel] == g.opts.ID {
		return n.ID, nil
	}
	if err == nil || !isNotFound(err) {
		return "", errors.Join(errors.New("look at the network for docker builds"), err)
	}
	ctx, done, err := g.begin(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	var made struct {
		ID string `json:"Id"`
	}
	o := network.CreateRequest{Name: name, CreateOptions: network.CreateOptions{Driver: bridge, Labels: g.opts.Labels}}
	if err := g.up.call(ctx, http.MethodPost, "/networks/create", nil, o, &made); err != nil {
		return "", fmt.Errorf("create the network for docker builds: %w", err)
	}
	return made.ID, nil
}

// cacheFrom has the images that a build may take steps from, by id; those that don't exist are left out, as the daemon does.
func (b *buildRequest) cacheFrom(ctx context.Context) error {
	var names []string
	if text := b.call.query.Get("cachefrom"); text != "" && text != "null" {
		if err := decodeStrict([]byte(text), &names); err != nil {
			return fmt.Errorf("cachefrom: %w", err)
		}
	}
	ids := []string{}
	for _, name := range names {
		found, err := b.g.findImage(ctx, name)
		if err != nil {
			if isNotFound(err) {
				continue
			}
			return err
		}
		ids = append(ids, found.id)
	}
	if len(ids) == 0 {
		return nil
	}
	text, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	b.query.Set("cachefrom", string(text))
	return nil
}

// message is the daemon's message as the client sees it; nil leaves it out.
func (b *buildRequest) message(m []byte, shown map[string]string) []byte {
	var v struct {
		Stream string
		Aux    struct{ ID string }
	}
	if json.Unmarshal(m, &v) == nil {
		if id, ok := fullImageID(v.Aux.ID); ok {
			b.g.images.remember(id)
		}
		if id, ok := fullImageID(strings.TrimSpace(v.Stream)); ok {
			b.g.images.remember(id)
		}
		if name, ok := strings.CutPrefix(v.Stream, "Successfully tagged "); ok && b.g.tags.anonymous(name) {
			return nil
		}
		if strings.HasPrefix(v.Stream, "Step ") {
			for from, to := range shown {
				m = []byte(strings.Replace(string(m), from, to, 1))
			}
		}
	}
	return b.g.names.answer(m)
}

// messages is an answer of JSON messages, some of which may be the guard's.
type messages struct {
	*call
	quiet bool // the client wants no progress

	mu      sync.Mutex
	started bool
}

// send writes a message, and the header before the first.
func (o *messages) send(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.started {
		o.started = true
		o.w.Header().Set("Content-Type", "application/json")
		o.w.WriteHeader(http.StatusOK)
	}
	if _, err := o.w.Write(append(b, '\n')); err != nil {
		return errAnswered // the client has gone
	}
	if http.NewResponseController(o.w).Flush() != nil {
		return errAnswered
	}
	return nil
}

// fail answers with an error, as a message if there have been some.
func (o *messages) fail(err error) error {
	o.mu.Lock()
	started := o.started
	o.mu.Unlock()
	if !started || errors.Is(err, errAnswered) {
		return err
	}
	return o.endStream(err)
}

// copy passes on the daemon's messages; what change makes nil is left out.
func (o *messages) copy(r io.Reader, change func([]byte) []byte) error {
	d := json.NewDecoder(r)
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			panic(http.ErrAbortHandler) // see stream
		}
		if raw = change(raw); raw == nil {
			continue
		}
		if err := o.send(raw); err != nil {
			return err
		}
	}
}

// cleanFile is a path below a build context, or "" if it leads out.
func cleanFile(name string) string {
	clean := path.Clean("/" + strings.ReplaceAll(name, `\`, "/"))[1:]
	if strings.ContainsAny(name, "\x00\n") {
		return ""
	}
	return clean
}
