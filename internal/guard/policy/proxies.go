package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// proxyArgs are arguments that every Dockerfile has and that both builders leave out of the cache's
// key: a build through a proxy of its own would leave, for the same steps of other stages, whatever
// that proxy has given it.
var proxyArgs = []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy"}

// ProxyScope tells apart the steps of builds with different proxies, of a build's arguments; "" is
// that of builds without one.
func ProxyScope(args map[string]*string) string {
	sum := sha256.New()
	found := false
	for _, k := range slices.Sorted(maps.Keys(args)) {
		if v := args[k]; v != nil && *v != "" && slices.Contains(proxyArgs, strings.ToLower(k)) {
			fmt.Fprintf(sum, "%s=%q\n", k, *v) // a hash never fails
			found = true
		}
	}
	if !found {
		return ""
	}
	return "proxy-" + hex.EncodeToString(sum.Sum(nil)[:16])
}
