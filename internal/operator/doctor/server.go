package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

// clockSkew is how far the clocks may be apart before log times and cron builds look wrong.
const clockSkew = 30 * time.Second

// server asks the Drone server by the runner's own protocol (POST /rpc/v2/ping): is it there, does
// it take the secret, what time does it have.
func (d Doctor) server(ctx context.Context) []syscont.Check {
	if d.Server == "" {
		return []syscont.Check{fail("server", "DRONE_RPC_HOST isn't set", "set it to the Drone server's host, as the runners reach it")}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(d.Server, "/")+"/rpc/v2/ping", nil)
	if err != nil {
		return []syscont.Check{fail("server", err.Error(), "mend DRONE_RPC_PROTO and DRONE_RPC_HOST")}
	}
	req.Header.Set("X-Drone-Token", d.Secret)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: d.SkipVerify}
	defer transport.CloseIdleConnections()
	// A redirect is an answer in itself: the runner doesn't follow one with its secret in hand.
	res, err := transport.RoundTrip(req)
	if err != nil {
		return []syscont.Check{fail("server", err.Error(), "is DRONE_RPC_HOST right, is the server up, and does a network lead there?")}
	}
	defer res.Body.Close()
	seen := fmt.Sprintf("%s answered %s", d.Server, res.Status)
	return append(answered(seen, res), clock(res))
}

func answered(seen string, res *http.Response) []syscont.Check {
	switch {
	case res.StatusCode < 300:
		return []syscont.Check{pass("server", seen), pass("secret", "accepted")}
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return []syscont.Check{pass("server", seen), fail("secret", "DRONE_RPC_SECRET is wrong", "give the runner the same DRONE_RPC_SECRET as the server")}
	case res.StatusCode < 400:
		return []syscont.Check{fail("server", seen+", to "+res.Header.Get("Location"), "point DRONE_RPC_PROTO and DRONE_RPC_HOST there")}
	case res.StatusCode == http.StatusNotFound:
		return []syscont.Check{fail("server", seen, "whatever answers there is no Drone server: mend DRONE_RPC_HOST")}
	}
	return []syscont.Check{fail("server", seen, "the server's own log says why")}
}

// clock compares ours with the Date of the answer.
func clock(res *http.Response) syscont.Check {
	const name = "clock"
	theirs, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return warn(name, "the server's answer has no date to compare with", "none is needed if the clocks are right")
	}
	apart := time.Since(theirs).Abs().Round(time.Second)
	if apart > clockSkew {
		return warn(name, fmt.Sprintf("%s apart from the server's", apart), "set both clocks by NTP")
	}
	return pass(name, fmt.Sprintf("%s apart from the server's", apart))
}
