package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// run is one run of all calls. Each builds on those before it, as a program would.
type run struct {
	*client
	// ctx is that of the call under way.
	ctx         context.Context
	image, name string
	id          string // of the container
	exec        string
	network     string
	committed   string
}

// try prints the outcome of a call.
func (r *run) try(name string, f func() error) {
	all := r.ctx
	defer func() { r.ctx = all }()
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithTimeout(all, time.Minute)
	defer cancel()
	if err := f(); err != nil {
		fmt.Printf("not ok %s: %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	fmt.Printf("ok %s\n", name)
}

// plain tries a call of which only the status counts.
func (r *run) plain(name, method, path string, o options) {
	r.try(name, func() error { return r.call(r.ctx, method, path, o, nil) })
}

// want is an error unless text holds part.
func want(text, part string, err error) error {
	if err == nil && !strings.Contains(text, part) {
		err = fmt.Errorf("%q isn't in %.500q", part, text)
	}
	return err
}

func (r *run) all() {
	r.daemon()
	r.create()
	r.container()
	r.execs()
	r.files()
	r.life()
	r.images()
	r.networks()
	r.volumes()
	r.end()
}

func (r *run) daemon() {
	r.try("ping", func() error {
		text, err := r.stream(r.ctx, http.MethodGet, "/_ping", nil, nil)
		return want(text, "OK", err)
	})
	r.plain("version", http.MethodGet, "/version", nil)
	r.plain("info", http.MethodGet, "/info", nil)
	r.plain("df", http.MethodGet, "/system/df", nil)
	r.plain("getEvents", http.MethodGet, "/events?", options{"since": 1, "until": 2, "filters": options{"type": []string{"container"}}})
}

func (r *run) create() {
	r.try("createContainer", func() error {
		var made struct {
			ID string `json:"Id"`
		}
		err := r.call(r.ctx, http.MethodPost, "/containers/create?", options{
			"name": r.name, "Image": r.image, "Cmd": []string{"sh", "-c", "echo begun; cat"}, "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "Env": []string{"A=b"}, "Labels": options{"a": "b"},
			"ExposedPorts": options{"80/tcp": options{}}, "AttachStdout": true, "Tty": false,
			"HostConfig": options{"AutoRemove": false, "NetworkMode": "bridge", "PortBindings": options{"80/tcp": []options{{"HostPort": "0"}}}, "Binds": []string{}},
		}, &made)
		r.id = made.ID
		return err
	})
	at := "/containers/" + r.id
	r.plain("container.inspect", http.MethodGet, at+"/json?", nil)
	r.plain("container.start", http.MethodPost, at+"/start?", nil)
	r.try("listContainers", func() error {
		text, err := r.stream(r.ctx, http.MethodGet, "/containers/json?", options{"all": true, "limit": 10, "filters": options{"name": []string{r.name}}}, nil)
		return want(text, r.id, err)
	})
}

func (r *run) container() {
	at := "/containers/" + r.id
	r.try("container.attach", func() error {
		text, err := r.hijack(r.ctx, at+"/attach?", options{"stream": true, "stdin": true, "stdout": true, "stderr": true, "logs": true, "hijack": true}, "through the stream\n")
		return want(text, "through the stream", err)
	})
	r.try("container.wait", func() error {
		text, err := r.stream(r.ctx, http.MethodPost, at+"/wait?", options{"condition": "not-running"}, nil)
		return want(text, `"StatusCode":0`, err)
	})
	r.try("container.logs", func() error {
		text, err := r.stream(r.ctx, http.MethodGet, at+"/logs?", options{"follow": false, "stdout": true, "stderr": true, "tail": 10, "timestamps": false}, nil)
		return want(text, "begun", err)
	})
	r.plain("container.restart", http.MethodPost, at+"/restart?", options{"t": 1})
	r.plain("container.stats", http.MethodGet, at+"/stats?", options{"stream": false})
	r.plain("container.top", http.MethodGet, at+"/top?", options{"ps_args": "-o pid,args"})
	r.plain("container.resize", http.MethodPost, at+"/resize?", options{"h": 20, "w": 80})
	r.plain("container.update", http.MethodPost, at+"/update", options{"Memory": 64 << 20, "MemorySwap": -1})
	r.plain("container.rename", http.MethodPost, at+"/rename?", options{"name": r.name + "-renamed", "_query": options{}})
}

func (r *run) execs() {
	r.try("container.exec", func() error {
		var made struct {
			ID string `json:"Id"`
		}
		err := r.call(r.ctx, http.MethodPost, "/containers/"+r.id+"/exec", options{"Cmd": []string{"cat"}, "AttachStdin": true, "AttachStdout": true, "hijack": true, "stdin": true}, &made)
		r.exec = made.ID
		return err
	})
	r.try("exec.start", func() error {
		text, err := r.hijack(r.ctx, "/exec/"+r.exec+"/start", options{"hijack": true, "stdin": true, "Detach": false, "Tty": false}, "through an exec\n")
		return want(text, "through an exec", err)
	})
	r.plain("exec.inspect", http.MethodGet, "/exec/"+r.exec+"/json", nil)
}

func (r *run) files() {
	at := "/containers/" + r.id
	r.try("container.putArchive", func() error {
		resp, err := r.do(r.ctx, http.MethodPut, at+"/archive?", options{"path": "/tmp", "noOverwriteDirNonDir": true}, archive(map[string]string{"file": "of an archive"}))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	r.try("container.getArchive", func() error {
		text, err := r.stream(r.ctx, http.MethodGet, at+"/archive?", options{"path": "/tmp/file"}, nil)
		return want(text, "of an archive", err)
	})
	r.plain("container.infoArchive", http.MethodHead, at+"/archive?", options{"path": "/tmp/file"})
	r.try("container.changes", func() error {
		text, err := r.stream(r.ctx, http.MethodGet, at+"/changes", nil, nil)
		return want(text, "/tmp/file", err)
	})
	r.try("container.export", func() error {
		text, err := r.stream(r.ctx, http.MethodGet, at+"/export", nil, nil)
		return want(text, "of an archive", err)
	})
}

func (r *run) life() {
	at := "/containers/" + r.id
	r.plain("container.pause", http.MethodPost, at+"/pause", nil)
	r.plain("container.unpause", http.MethodPost, at+"/unpause", nil)
	r.try("container.commit", func() error {
		var made struct {
			ID string `json:"Id"`
		}
		err := r.call(r.ctx, http.MethodPost, "/commit?", options{"container": r.id, "repo": r.name, "tag": "committed", "comment": "of a test", "pause": true}, &made)
		r.committed = made.ID
		return err
	})
	r.plain("container.kill", http.MethodPost, at+"/kill?", options{"signal": "KILL"})
	r.plain("container.stop of a stopped one", http.MethodPost, at+"/stop?", options{"t": 0})
	r.try("run", func() error {
		o := options{"Image": r.image, "Cmd": []string{"echo", "from run"}, "AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Tty": true, "OpenStdin": false, "StdinOnce": false}
		var made struct {
			ID string `json:"Id"`
		}
		if err := r.call(r.ctx, http.MethodPost, "/containers/create?", o, &made); err != nil {
			return err
		}
		defer r.call(context.WithoutCancel(r.ctx), http.MethodDelete, "/containers/"+made.ID+"?", options{"force": true, "v": true}, nil)
		if err := r.call(r.ctx, http.MethodPost, "/containers/"+made.ID+"/start?", options{}, nil); err != nil {
			return err
		}
		if err := r.call(r.ctx, http.MethodPost, "/containers/"+made.ID+"/wait?", nil, nil); err != nil {
			return err
		}
		text, err := r.stream(r.ctx, http.MethodGet, "/containers/"+made.ID+"/logs?", options{"stdout": true}, nil)
		return want(text, "from run", err)
	})
}

func (r *run) images() {
	tag := r.name + ":committed"
	r.plain("listImages", http.MethodGet, "/images/json?", options{"all": false, "digests": true, "filters": options{"reference": []string{tag}}})
	r.plain("image.inspect", http.MethodGet, "/images/"+tag+"/json?", options{"manifests": false})
	r.plain("image.history", http.MethodGet, "/images/"+tag+"/history", nil)
	r.plain("image.tag", http.MethodPost, "/images/"+tag+"/tag?", options{"repo": r.name, "tag": "again", "force": true})
	var saved string
	r.try("image.get", func() (err error) {
		saved, err = r.stream(r.ctx, http.MethodGet, "/images/"+tag+"/get", nil, nil)
		return want(saved, "manifest.json", err)
	})
	r.try("loadImage", func() error {
		_, err := r.stream(r.ctx, http.MethodPost, "/images/load?", options{"quiet": true}, strings.NewReader(saved))
		return err
	})
	r.try("buildImage", func() error {
		_, err := r.stream(r.ctx, http.MethodPost, "/build?", options{
			"t": r.name + ":built", "dockerfile": "Dockerfile", "buildargs": options{"A": "b"}, "labels": options{"c": "d"}, "rm": true, "nocache": false, "q": false,
			"abortSignal": options{}, "version": "1", "src": []string{"Dockerfile"},
		}, archive(map[string]string{"Dockerfile": "FROM " + r.image + "\nARG A\nRUN echo $A > /a\n"}))
		return err
	})
	r.plain("pruneImages", http.MethodPost, "/images/prune?", options{"filters": options{"label": []string{"nothing-has-it"}}})
	for _, t := range []string{":again", ":built", ":committed"} {
		r.plain("image.remove"+strings.Replace(t, ":", " ", 1), http.MethodDelete, "/images/"+r.name+t+"?", options{"force": true, "noprune": false})
	}
}

func (r *run) networks() {
	r.try("createNetwork", func() error {
		var made struct {
			ID string `json:"Id"`
		}
		err := r.call(r.ctx, http.MethodPost, "/networks/create?", options{"Name": r.name + "-net", "Driver": "bridge", "Internal": false, "CheckDuplicate": true, "Attachable": false,
			"EnableIPv6": false, "Labels": options{"a": "b"}, "Options": options{}, "IPAM": options{"Driver": "default", "Config": []options{}}, "abortSignal": options{}}, &made)
		r.network = made.ID
		return err
	})
	at := "/networks/" + r.network
	r.plain("network.inspect", http.MethodGet, at+"?", options{"verbose": true})
	r.plain("listNetworks", http.MethodGet, "/networks?", options{"filters": options{"name": []string{r.name + "-net"}}})
	r.plain("network.connect", http.MethodPost, at+"/connect", options{"Container": r.id, "EndpointConfig": options{"Aliases": []string{"alias"}}})
	r.plain("network.disconnect", http.MethodPost, at+"/disconnect", options{"Container": r.id, "Force": true})
	r.plain("network.remove", http.MethodDelete, at+"?", nil)
}

func (r *run) volumes() {
	name := r.name + "-volume"
	r.plain("createVolume", http.MethodPost, "/volumes/create", options{"Name": name, "Driver": "local", "DriverOpts": options{}, "Labels": options{"a": "b"}, "abortSignal": nil})
	r.plain("volume.inspect", http.MethodGet, "/volumes/"+name, nil)
	r.plain("listVolumes", http.MethodGet, "/volumes?", options{"filters": options{"name": []string{name}}})
	r.plain("volume.remove", http.MethodDelete, "/volumes/"+name+"?", options{"force": true})
}

func (r *run) end() {
	r.plain("container.remove", http.MethodDelete, "/containers/"+r.id+"?", options{"v": true, "force": true, "link": false})
	r.plain("pruneContainers", http.MethodPost, "/containers/prune?", options{"filters": options{"label": []string{"nothing-has-it"}}})
	r.try("modem.followProgress of a pull", func() error {
		// There is no such image anywhere; what counts is that the registry was asked.
		_, err := r.stream(r.ctx, http.MethodPost, "/images/create?", options{"fromImage": "127.0.0.1:1/nothing", "tag": "1", "authconfig": options{"username": "a"}}, nil)
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("it was pulled: %v", err)
		}
		return want(err.Error(), "connection refused", nil)
	})
}
