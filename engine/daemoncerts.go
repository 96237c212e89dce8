package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// certLife is longer than any run lasts.
const certLife = 30 * 24 * time.Hour

// certsOf is the folder of the client's certificates of a stage.
func (d *Docker) certsOf(s *spec.Spec) string { return filepath.Join(d.opts.Guard.Dir, s.ID, "certs") }

// writeCerts makes an authority for one stage, writes what a docker client needs into dir under the
// names that it looks for, and gives the server's side: for these names and this address, and for
// clients of this authority alone. The keys of the authority and of the server are never written.
func writeCerts(dir string, names []string, addr netip.Addr) (*tls.Config, error) {
	now := time.Now()
	base := x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	authority := base
	authority.SerialNumber, authority.Subject.CommonName = big.NewInt(1), "docker of this build"
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca, err := sign(&authority, &authority, authorityKey, authorityKey)
	if err != nil {
		return nil, err
	}
	issue := func(serial int64, name string, usage x509.ExtKeyUsage) (cert, key []byte, err error) {
		c := base
		c.SerialNumber, c.Subject = big.NewInt(serial), pkix.Name{CommonName: name}
		c.ExtKeyUsage = []x509.ExtKeyUsage{usage}
		if usage == x509.ExtKeyUsageServerAuth {
			c.DNSNames, c.IPAddresses = names, []net.IP{addr.AsSlice()}
		}
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		if cert, err = sign(&c, &authority, private, authorityKey); err != nil {
			return nil, nil, err
		}
		der, err := x509.MarshalECPrivateKey(private)
		return cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
	}
	serverCert, serverKey, err := issue(2, "server", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	clientCert, clientKey, err := issue(3, "client", x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(serverCert, serverKey)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// A step may run as any user, and all of the stage's steps may be clients.
	for name, content := range map[string][]byte{"ca.pem": ca, "cert.pem": clientCert, "key.pem": clientKey} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return nil, err
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}, nil
}

// sign makes a certificate as PEM.
func sign(cert, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of the %s: %w", cert.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
