// Command ryuk stands in for testcontainers/ryuk, whose image no test machine may be able to pull.
// It speaks the same protocol: on port 8080 a client says "label=a=b&label=c=d\n" and is answered
// "ACK\n"; when no client has been connected for RYUK_RECONNECTION_TIMEOUT (10s), what bears all
// labels of a line is removed, and ryuk ends. It asks the docker daemon by the plain API, as the
// real one does through its client.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"
)

func main() {
	if err := serve(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// reaper knows what is to be removed, and who is connected.
type reaper struct {
	mu        sync.Mutex
	filters   []url.Values
	connected int
	idle      *time.Timer
	wait      time.Duration
}

func serve(ctx context.Context) error {
	r := &reaper{wait: duration("RYUK_RECONNECTION_TIMEOUT", 10*time.Second)}
	r.idle = time.NewTimer(duration("RYUK_CONNECTION_TIMEOUT", time.Minute))
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	log.Printf("Started!") // what Testcontainers waits for
	go r.accept(l)
	<-r.idle.C
	return r.reap(ctx)
}

// duration reads a variable as Go writes durations, or as seconds.
func duration(name string, otherwise time.Duration) time.Duration {
	for _, unit := range []string{"", "s"} {
		if d, err := time.ParseDuration(os.Getenv(name) + unit); err == nil {
			return d
		}
	}
	return otherwise
}

func (r *reaper) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		r.count(1)
		go r.listen(conn)
	}
}

func (r *reaper) count(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connected += n
	r.idle.Stop()
	if r.connected == 0 {
		r.idle.Reset(r.wait)
	}
}

// listen takes lines of filters.
func (r *reaper) listen(conn net.Conn) {
	defer r.count(-1)
	defer conn.Close()
	for s := bufio.NewScanner(conn); s.Scan(); {
		q, err := url.ParseQuery(s.Text())
		if err != nil || len(q["label"]) == 0 {
			log.Printf("not understood: %q", s.Text())
			continue
		}
		r.mu.Lock()
		r.filters = append(r.filters, q)
		r.mu.Unlock()
		if _, err := conn.Write([]byte("ACK\n")); err != nil {
			return
		}
	}
}

// reap removes all that bears the labels.
func (r *reaper) reap(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	docker := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", "/var/run/docker.sock")
	}}}
	self, err := os.Hostname()
	if err != nil {
		return err
	}
	for _, f := range r.filters {
		filters, err := json.Marshal(map[string][]string{"label": slices.Compact(f["label"])})
		if err != nil {
			return err
		}
		for _, kind := range []struct{ list, remove, suffix string }{
			{"/containers/json?all=1&", "/containers/", "?force=1&v=1"}, {"/networks?", "/networks/", ""}, {"/volumes?", "/volumes/", "?force=1"},
		} {
			ids, err := list(ctx, docker, kind.list+"filters="+url.QueryEscape(string(filters)))
			if err != nil {
				return err
			}
			for _, id := range ids {
				if len(self) >= 12 && len(id) >= 12 && id[:12] == self[:12] {
					continue
				}
				if err := call(ctx, docker, http.MethodDelete, kind.remove+id+kind.suffix, nil); err != nil {
					return err
				}
				log.Printf("removed %s%s", kind.remove, id)
			}
		}
	}
	return nil
}

// list returns the ids, or for volumes the names, of a list.
func list(ctx context.Context, docker *http.Client, path string) (ids []string, err error) {
	type object struct {
		ID   string `json:"Id"`
		Name string
	}
	var raw json.RawMessage
	if err := call(ctx, docker, http.MethodGet, path, &raw); err != nil {
		return nil, err
	}
	var objects []object
	if json.Unmarshal(raw, &objects) != nil {
		var v struct{ Volumes []object }
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("read the list %s: %w", path, err)
		}
		objects = v.Volumes
	}
	for _, o := range objects {
		if o.ID == "" {
			o.ID = o.Name
		}
		ids = append(ids, o.ID)
	}
	return ids, nil
}

func call(ctx context.Context, docker *http.Client, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	resp, err := docker.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 && resp.StatusCode != http.StatusNotFound {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
