package cell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

// Running is a cell that another process keeps running, the daemon command for one.
type Running struct {
	// Name, Socket and Builds are those of Cell.
	Name, Socket, Builds string
}

// ListRunning lists the cells whose sockets are in the runner's folder, by name.
func ListRunning(run string) ([]Running, error) {
	folder := filepath.Join(run, "cells")
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the cells that run: %w", err)
	}
	var out []Running
	for _, e := range entries {
		socket := filepath.Join(folder, e.Name(), "docker.sock")
		if _, err := os.Stat(socket); err == nil && validName.MatchString(e.Name()) {
			out = append(out, Running{e.Name(), socket, filepath.Join(run, "builds", e.Name())})
		}
	}
	return out, nil
}

// Netns is the path of the cell's network namespace, empty if its daemon doesn't listen.
func (r Running) Netns() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	pid, err := syscont.PeerPID(ctx, r.Socket)
	if err != nil || pid == 0 {
		return ""
	}
	return fmt.Sprintf("/proc/%d/ns/net", pid)
}
