package registryproxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// certsDir is where the docker daemon has the certificates of registries: a folder for each,
// HOST:PORT, with *.crt of authorities and pairs of *.cert and *.key.
const certsDir = "/etc/docker/certs.d"

// addCertificates reads the certificates that are set for a registry. There need be none.
func addCertificates(config *tls.Config, domain string) error {
	if domain != filepath.Base(domain) {
		return fmt.Errorf("the registry %q has no name", domain)
	}
	dir := filepath.Join(certsDir, domain)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the certificates of registry %s: %w", domain, err)
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch filepath.Ext(file) {
		case ".crt":
			if config.RootCAs == nil {
				if config.RootCAs, err = x509.SystemCertPool(); err != nil {
					return fmt.Errorf("read the system's certificates: %w", err)
				}
			}
			b, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read the certificates of registry %s: %w", domain, err)
			}
			config.RootCAs.AppendCertsFromPEM(b)
		case ".cert":
			pair, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".cert")+".key")
			if err != nil {
				return fmt.Errorf("read the certificates of registry %s: %w", domain, err)
			}
			config.Certificates = append(config.Certificates, pair)
		}
	}
	return nil
}
