// Package registryproxy is a registry on loopback that stands for one repository of a real
// registry. The daemon pushes to it an image that has a name of the stage's own; the real registry
// sees the client's name.
//
// The one rule to keep: only the daemon gets in, only to that repository, and the client's
// credentials go to the real registry alone.
package registryproxy

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log" //nolint:depguard // net/http's servers and proxies take no other logger
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	dockerregistry "github.com/docker/docker/api/types/registry"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// Proxy is a registry on loopback that stands for one repository of a real one. It lives as long as
// a push.
type Proxy struct {
	// Repository is the daemon's name for the repository.
	Repository string
	// Auth is the header with which the daemon gets in: nobody else on the machine does.
	Auth string

	password string
	real     name.Registry
	path     string // of the repository in the real registry
	server   *http.Server
	base     *http.Transport
	serving  sync.WaitGroup
}

// Options say what a proxy stands for.
type Options struct {
	// Repository is the one of the real registry.
	Repository reference.Named
	// Path is that of the repository with the daemon, below the proxy's address.
	Path string
	// Auth is the client's X-Registry-Auth header.
	Auth string
	// Insecure allows plain HTTP, and any certificate.
	Insecure bool
	// Log takes what goes wrong with connections.
	Log *log.Logger
}

// Open signs in at the real registry, and opens the proxy. The requests that it makes end with
// life.
func Open(ctx, life context.Context, o Options) (*Proxy, error) {
	config, err := dockerregistry.DecodeAuthConfig(o.Auth)
	if err != nil {
		return nil, apierror.BadRequest("invalid X-Registry-Auth header: %v", err)
	}
	repo, domain, insecure := o.Repository, reference.Domain(o.Repository), o.Insecure
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	real, err := name.NewRegistry(strings.Replace(domain, "docker.io", name.DefaultRegistry, 1), opts...)
	if err != nil {
		return nil, apierror.BadRequest("invalid registry %s: %v", domain, err)
	}
	p := &Proxy{real: real, path: reference.Path(repo), password: rand.Text()}
	if p.base, err = registryTransport(domain, insecure); err != nil {
		return nil, err
	}
	rt, err := transport.NewWithContext(ctx, real, authn.FromConfig(authn.AuthConfig{
		Username: config.Username, Password: config.Password, Auth: config.Auth,
		IdentityToken: config.IdentityToken, RegistryToken: config.RegistryToken,
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
	p.Repository = l.Addr().String() + "/" + o.Path
	if p.Auth, err = dockerregistry.EncodeAuthConfig(dockerregistry.AuthConfig{Username: "guard", Password: p.password, ServerAddress: l.Addr().String()}); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	quiet := o.Log
	proxy := &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		ModifyResponse: p.relocate,
		Transport:      rt,
		ErrorLog:       quiet,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			writeRegistryError(w, http.StatusBadGateway, "UNKNOWN", registryError(domain, err).Error())
		},
	}
	p.server = &http.Server{
		Handler:     p.guarded(proxy),
		ErrorLog:    quiet,
		BaseContext: func(net.Listener) context.Context { return life },
	}
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
		return apierror.New(status, fmt.Sprintf("registry %s: %v", domain, te))
	}
	return fmt.Errorf("registry %s: %w", domain, err)
}

// Close ends the proxy with its connections.
func (p *Proxy) Close() {
	_ = p.server.Close() // it has no state that could be lost
	p.serving.Wait()
	p.base.CloseIdleConnections()
}

// prefix of the paths that stand for the repository.
func (p *Proxy) prefix() string {
	_, path, _ := strings.Cut(p.Repository, "/")
	return "/v2/" + path + "/"
}

// guarded lets only the daemon in, and only to the repository.
func (p *Proxy) guarded(next http.Handler) http.Handler {
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

// elsewhere begins the proxy's paths for places of the real registry outside of the repository, to
// which it sends uploads.
const elsewhere = "/elsewhere"

// rewrite aims a request at the real registry.
func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
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
func (p *Proxy) relocate(resp *http.Response) error {
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
	_ = json.NewEncoder(
		w,
	).Encode(
		map[string]any{"errors": []map[string]string{{"code": code, "message": message}}},
	) // a daemon that has gone needs no answer
}

// registryTransport speaks to a registry as the daemon would: with the certificates that are set
// for it.
func registryTransport(domain string, insecure bool) (*http.Transport, error) {
	config := &tls.Config{InsecureSkipVerify: insecure} //nolint:gosec // as the operator has set the daemon
	if err := addCertificates(config, domain); err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy:              http.ProxyFromEnvironment,
		TLSClientConfig:    config,
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}, nil
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

// Settings are a docker daemon's settings of registries, as /info has them.
type Settings struct {
	InsecureRegistryCIDRs []string
	IndexConfigs          map[string]struct{ Secure bool }
}

// Insecure reports whether the daemon is set to use a registry without TLS.
func (r Settings) Insecure(ctx context.Context, domain string) bool {
	if i, ok := r.IndexConfigs[domain]; ok {
		return !i.Secure
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
	for _, cidr := range r.InsecureRegistryCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err == nil && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return prefix.Contains(a.Unmap()) }) {
			return true
		}
	}
	return false
}
