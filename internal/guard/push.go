package guard

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	dockerregistry "github.com/docker/docker/api/types/registry"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// pushImage answers POST /images/{name}/push.
//
// The daemon pushes an image to where its name says, and a private name says nowhere. To give the image its real name, be it for a moment, would show it to all builds. So for
// the time of the push it gets a name at a registry on loopback, which is the guard: it passes the daemon's requests on to the real registry, with the client's
// credentials.
func pushImage(ctx context.Context, c *call) error {
	repo, names, err := c.pushed(ctx)
	if err != nil {
		return err
	}
	p, err := c.g.newPushProxy(ctx, repo, c.r.Header.Get("X-Registry-Auth"))
	if err != nil {
		return err
	}
	defer p.close()

	tags := make([]string, 0, len(names))
	ids := map[string]string{}
	for _, private := range names {
		tag := mustNamed(private).(reference.Tagged).Tag()
		found, err := c.g.inspectImage(ctx, private)
		if err != nil {
			return err
		}
		tags, ids[tag] = append(tags, tag), found.id
		if err := c.g.tagForPush(ctx, found.id, p.repository, tag); err != nil {
			return err
		}
	}
	defer func() {
		done := context.WithoutCancel(ctx)
		for _, tag := range tags {
			if err := c.g.up.call(done, http.MethodDelete, "/images/"+p.repository+":"+tag, url.Values{"noprune": {"1"}}, nil, nil); err != nil && !isNotFound(err) {
				c.g.log.WithError(err).WithField("image", repo.Name()).Debug("cannot take away the name of a push")
			}
		}
	}()
	q := url.Values{}
	if len(names) == 1 {
		q.Set("tag", tags[0])
	}
	if v := c.query.Get("platform"); v != "" {
		q.Set("platform", v)
	}
	resp, err := c.ask(ctx, outgoing{method: http.MethodPost, path: "/images/" + p.repository + "/push", query: q, header: http.Header{"X-Registry-Auth": {p.auth}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.streamJSON(resp, func(b []byte) []byte {
		var m struct{ Aux struct{ Tag, Digest string } }
		if json.Unmarshal(b, &m) == nil && ids[m.Aux.Tag] != "" && m.Aux.Digest != "" {
			c.g.images.rememberPush(ids[m.Aux.Tag], repo.Name()+"@"+m.Aux.Digest)
		}
		return c.g.names.answer(b)
	})
}

// pushed is what a request wants pushed: a repository, and the private names of the build's images in it.
func (c *call) pushed(ctx context.Context) (reference.Named, []string, error) {
	ref, err := c.g.tags.parse(c.vars["name"])
	if err != nil {
		return nil, nil, err
	}
	if _, ok := ref.(reference.Digested); ok {
		return nil, nil, badRequest("cannot push a digest reference")
	}
	repo := reference.TrimNamed(ref)
	tag := c.query.Get("tag")
	if tag == "" {
		if t, ok := ref.(reference.Tagged); ok {
			tag = t.Tag()
		}
	}
	if tag != "" {
		wanted, err := reference.WithTag(repo, tag)
		if err != nil {
			return nil, nil, badRequest("invalid tag format: %.200s", tag)
		}
		found, err := c.g.findImage(ctx, wanted.String())
		if isNotFound(err) {
			return nil, nil, statusError{http.StatusNotFound, "An image does not exist locally with the tag: " + reference.FamiliarName(repo)}
		}
		if err != nil {
			return nil, nil, err
		}
		if found.tag == "" {
			return nil, nil, refusal{"push of " + quoted(reference.FamiliarString(wanted)), "it is shared by all builds, and this one didn't make it", "give it that name with docker tag first"}
		}
		return repo, []string{found.tag}, nil
	}
	list, err := c.g.listOwn(ctx)
	if err != nil {
		return nil, nil, err
	}
	own := c.g.tags.repository(repo) + ":"
	var names []string
	for _, i := range list {
		names = append(names, slices.DeleteFunc(slices.Clone(i.names.own), func(n string) bool { return !strings.HasPrefix(n, own) })...)
	}
	if len(names) == 0 {
		return nil, nil, statusError{http.StatusNotFound, "An image does not exist locally with the tag: " + reference.FamiliarName(repo)}
	}
	return repo, names, nil
}

func (g *Guard) tagForPush(ctx context.Context, id, repository, tag string) error {
	ctx, done, err := g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return g.up.call(ctx, http.MethodPost, "/images/"+id+"/tag", url.Values{"repo": {repository}, "tag": {tag}}, nil, nil)
}

// pushProxy is a registry on loopback that stands for one repository of a real one. It lives as long as a push.
type pushProxy struct {
	// repository is the daemon's name for the repository.
	repository string
	// auth is the header with which the daemon gets in: nobody else on the machine does.
	auth string

	password string
	real     name.Registry
	path     string // of the repository in the real registry
	server   *http.Server
	base     *http.Transport
	serving  sync.WaitGroup
}

// newPushProxy signs in at the real registry, and opens the proxy.
func (g *Guard) newPushProxy(ctx context.Context, repo reference.Named, auth string) (*pushProxy, error) {
	config, err := dockerregistry.DecodeAuthConfig(auth)
	if err != nil {
		return nil, badRequest("invalid X-Registry-Auth header: %v", err)
	}
	domain := reference.Domain(repo)
	insecure, err := g.insecureRegistry(ctx, domain)
	if err != nil {
		return nil, err
	}
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	real, err := name.NewRegistry(strings.Replace(domain, "docker.io", name.DefaultRegistry, 1), opts...)
	if err != nil {
		return nil, badRequest("invalid registry %s: %v", domain, err)
	}
	p := &pushProxy{real: real, path: reference.Path(repo), password: rand.Text()}
	if p.base, err = registryTransport(domain, insecure); err != nil {
		return nil, err
	}
	rt, err := transport.NewWithContext(ctx, real, authn.FromConfig(authn.AuthConfig{
		Username: config.Username, Password: config.Password, Auth: config.Auth, IdentityToken: config.IdentityToken, RegistryToken: config.RegistryToken,
	}), secured{p.base, insecure}, []string{"repository:" + p.path + ":" + transport.PushScope})
	if err != nil {
		p.base.CloseIdleConnections()
		return nil, registryError(domain, err)
	}

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		p.base.CloseIdleConnections()
		return nil, fmt.Errorf("open a way to push images: %w", err)
	}
	p.repository = l.Addr().String() + "/" + g.tags.repository(repo)
	if p.auth, err = dockerregistry.EncodeAuthConfig(dockerregistry.AuthConfig{Username: "guard", Password: p.password, ServerAddress: l.Addr().String()}); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	quiet := stdlog.New(lineWriter(func(line string) { g.log.Debug(line) }), "", 0)
	proxy := &httputil.ReverseProxy{Rewrite: p.rewrite, ModifyResponse: p.relocate, Transport: rt, ErrorLog: quiet, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		writeRegistryError(w, http.StatusBadGateway, "UNKNOWN", registryError(domain, err).Error())
	}}
	p.server = &http.Server{Handler: p.guarded(proxy), ErrorLog: quiet, BaseContext: func(net.Listener) context.Context { return g.base }}
	p.serving.Go(func() { _ = p.server.Serve(l) }) // ends with close; what a push meets before is in its own progress
	return p, nil
}

func registryError(domain string, err error) error {
	var te *transport.Error
	if errors.As(err, &te) {
		status := te.StatusCode
		if status < 400 {
			status = http.StatusBadGateway
		}
		return statusError{status, fmt.Sprintf("registry %s: %v", domain, te)}
	}
	return fmt.Errorf("registry %s: %w", domain, err)
}

// close ends the proxy with its connections.
func (p *pushProxy) close() {
	_ = p.server.Close() // it has no state that could be lost
	p.serving.Wait()
	p.base.CloseIdleConnections()
}

// prefix of the paths that stand for the repository.
func (p *pushProxy) prefix() string {
	_, path, _ := strings.Cut(p.repository, "/")
	return "/v2/" + path + "/"
}

// guarded lets only the daemon in, and only to the repository.
func (p *pushProxy) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		_, password, _ := r.BasicAuth()
		switch {
		case subtle.ConstantTimeCompare([]byte(password), []byte(p.password)) != 1:
			w.Header().Set("Www-Authenticate", `Basic realm="guard"`)
			writeRegistryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		case r.URL.Path == "/v2/":
			w.WriteHeader(http.StatusOK)
		case strings.HasPrefix(r.URL.Path, p.prefix()) || strings.HasPrefix(r.URL.Path, elsewhere+"/"):
			next.ServeHTTP(w, r)
		default:
			writeRegistryError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		}
	})
}

// elsewhere begins the proxy's paths for places of the real registry outside of the repository, to which it sends uploads.
const elsewhere = "/elsewhere"

// rewrite aims a request at the real registry.
func (p *pushProxy) rewrite(r *httputil.ProxyRequest) {
	u := r.Out.URL
	u.Scheme, u.Host = p.real.Scheme(), p.real.RegistryStr()
	r.Out.Host = u.Host
	r.Out.Header.Del("Authorization")
	if rest, ok := strings.CutPrefix(u.Path, p.prefix()); ok {
		u.Path, u.RawPath = "/v2/"+p.path+"/"+rest, ""
	} else {
		u.Path, u.RawPath = strings.TrimPrefix(u.Path, elsewhere), strings.TrimPrefix(u.RawPath, elsewhere)
	}
	if q := u.Query(); q.Has("mount") { // its source would be a name that the registry doesn't know
		q.Del("mount")
		q.Del("from")
		u.RawQuery = q.Encode()
	}
}

// relocate makes the places that the real registry sends the daemon to places of the proxy.
func (p *pushProxy) relocate(resp *http.Response) error {
	resp.Header.Del("Www-Authenticate")
	text := resp.Header.Get("Location")
	if text == "" {
		return nil
	}
	to, err := resp.Request.URL.Parse(text)
	if err != nil {
		return fmt.Errorf("the registry sends to a malformed place: %w", err)
	}
	if to.Host != resp.Request.URL.Host {
		return nil // a store that takes signed requests
	}
	to.Scheme, to.Host = "", ""
	if rest, ok := strings.CutPrefix(to.Path, "/v2/"+p.path+"/"); ok {
		to.Path, to.RawPath = p.prefix()+rest, ""
	} else {
		to.Path = elsewhere + to.Path
		if to.RawPath != "" {
			to.RawPath = elsewhere + to.RawPath
		}
	}
	resp.Header.Set("Location", to.String())
	return nil
}

func writeRegistryError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}}) // a daemon that has gone needs no answer
}

// insecureRegistry tells whether the daemon is set to use a registry without TLS.
func (g *Guard) insecureRegistry(ctx context.Context, domain string) (bool, error) {
	var info struct {
		RegistryConfig struct {
			InsecureRegistryCIDRs []string
			IndexConfigs          map[string]struct{ Secure bool }
		}
	}
	if err := g.up.call(ctx, http.MethodGet, "/info", nil, nil, &info); err != nil {
		return false, err
	}
	if i, ok := info.RegistryConfig.IndexConfigs[domain]; ok {
		return !i.Secure, nil
	}
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addrs = append(addrs, a)
	} else if found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil {
		addrs = found
	}
	for _, cidr := range info.RegistryConfig.InsecureRegistryCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err == nil && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return prefix.Contains(a.Unmap()) }) {
			return true, nil
		}
	}
	return false, nil
}

// registryTransport speaks to a registry as the daemon would: with the certificates that are set for it.
func registryTransport(domain string, insecure bool) (*http.Transport, error) {
	config := &tls.Config{InsecureSkipVerify: insecure} //nolint:gosec // as the operator has set the daemon
	if err := addCertificates(config, domain); err != nil {
		return nil, err
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true}, nil
}

// secured refuses plain HTTP unless the daemon would speak it, too.
type secured struct {
	http.RoundTripper
	insecure bool
}

// RoundTrip refuses plain HTTP.
func (s secured) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !s.insecure {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, fmt.Errorf("the registry isn't among the daemon's insecure ones, so plain HTTP isn't spoken to it")
	}
	return s.RoundTripper.RoundTrip(r)
}
