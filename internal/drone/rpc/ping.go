package rpc

import (
	"context"
	"net/http"
)

// Ping asks whether the server answers and knows the secret. It isn't repeated inside. The
// machine's name isn't sent: the server has no use for it.
func (c *Client) Ping(ctx context.Context, _ string) error {
	_, err := c.attempt(ctx, call{name: "ping", method: http.MethodPost, path: "/ping"})
	return err
}

// Join does nothing: the server has no nodes to join (it answers 404 to nodes/*).
func (c *Client) Join(context.Context, string) error { return nil }

// Leave does nothing, as Join.
func (c *Client) Leave(context.Context, string) error { return nil }
