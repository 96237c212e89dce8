// Command testcontainers does with Testcontainers for Go what a test suite of a user does: it
// starts a container that is ready when it listens, finds its port on the docker host, talks to it,
// runs a command in it, copies a file, reads its log, uses a network of its own, and leaves without
// cleaning up: that is Ryuk's part.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := try(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
	fmt.Println("all well")
}

func try(ctx context.Context, image string) error {
	n, err := network.New(ctx)
	if err != nil {
		return fmt.Errorf("make a network: %w", err)
	}
	web, err := testcontainers.Run(ctx, image,
		testcontainers.WithCmd("sh", "-c", "mkdir /www && echo page >/www/index.html && echo ready && exec httpd -f -p 80 -h /www"),
		testcontainers.WithExposedPorts("80/tcp"),
		network.WithNetwork([]string{"web"}, n),
		testcontainers.WithWaitStrategy(wait.ForAll(wait.ForLog("ready"), wait.ForListeningPort("80/tcp"), wait.ForHTTP("/").WithPort("80/tcp"))),
	)
	if err != nil {
		return fmt.Errorf("run a container: %w", err)
	}
	url, err := web.PortEndpoint(ctx, "80/tcp", "http")
	if err != nil {
		return fmt.Errorf("find its port: %w", err)
	}
	resp, err := http.Get(url)
	if err != nil {
		return fmt.Errorf("talk to it: %w", err)
	}
	defer resp.Body.Close()
	if err := want("the page", resp.Body, "page"); err != nil {
		return err
	}
	code, out, err := web.Exec(ctx, []string{"cat", "/www/index.html"}, exec.Multiplexed())
	if err != nil || code != 0 {
		return fmt.Errorf("run a command in it: exit code %d: %w", code, err)
	}
	if err := want("the command", out, "page"); err != nil {
		return err
	}
	if err := web.CopyToContainer(ctx, []byte("copied"), "/copy", 0o644); err != nil {
		return fmt.Errorf("copy a file into it: %w", err)
	}
	file, err := web.CopyFileFromContainer(ctx, "/copy")
	if err != nil {
		return fmt.Errorf("copy a file out of it: %w", err)
	}
	defer file.Close()
	if err := want("the file", file, "copied"); err != nil {
		return err
	}
	// A sibling finds it by its name on their network.
	_, err = testcontainers.Run(ctx, image, network.WithNetwork(nil, n), testcontainers.WithCmd("sh", "-c", "wget -qO- http://web/ && sleep 600"),
		testcontainers.WithWaitStrategy(wait.ForLog("page")))
	if err != nil {
		return fmt.Errorf("run a sibling: %w", err)
	}
	return nil
}

func want(what string, from io.Reader, text string) error {
	b, err := io.ReadAll(from)
	if err != nil || strings.TrimSpace(string(b)) != text {
		return fmt.Errorf("%s is %q, not %q: %w", what, b, text, err)
	}
	return nil
}
