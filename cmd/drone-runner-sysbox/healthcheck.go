package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func newHealthcheck() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Asks the daemon in this container whether it lives (for HEALTHCHECK)",
		Long: `Asks /healthz of the daemon that runs beside it, at DRONE_HTTP_BIND. It reads nothing else of the configuration.

Exit status: 0 if the daemon answers, 1 if not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bind := os.Getenv("DRONE_HTTP_BIND")
			if bind == "" {
				bind = ":3000"
			}
			if err := healthy(cmd.Context(), bind); err != nil {
				return failed(err)
			}
			return nil
		},
	}
}

// healthy asks the daemon that listens at bind, from the same machine.
func healthy(ctx context.Context, bind string) error {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		host, port = "", bind // a bare port
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	url := "http://" + net.JoinHostPort(host, port) + "/healthz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultTransport.RoundTrip(req) // never by a proxy of the environment's: it is this machine
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1024))
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", url, res.Status, body)
	}
	return nil
}
