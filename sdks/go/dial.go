// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"time"
)

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// dial opens a connection to the server: plain or TLS, straight or through an HTTP proxy.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.ConnectTimeout)
	defer cancel()
	fail := func(err error) (net.Conn, error) {
		return nil, caused(CannotConnect, err, "cannot connect to %s: %v", c.base, err)
	}
	target := c.base
	proxy, err := c.options.Proxy(&http.Request{URL: c.base})
	if err != nil {
		return fail(err)
	}
	if proxy != nil {
		target = proxy
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", hostPort(target))
	if err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if target.Scheme == "https" {
		if conn, err = c.secure(ctx, conn, target.Hostname()); err != nil {
			return fail(err)
		}
	}
	if proxy != nil {
		if err = tunnel(conn, proxy, hostPort(c.base)); err != nil {
			conn.Close()
			return fail(err)
		}
		if c.base.Scheme == "https" {
			if conn, err = c.secure(ctx, conn, c.base.Hostname()); err != nil {
				return fail(err)
			}
		}
	}
	if !stop() {
		conn.Close()
		return fail(ctx.Err())
	}
	return conn, nil
}

func (c *Client) secure(ctx context.Context, plain net.Conn, host string) (net.Conn, error) {
	config := &tls.Config{}
	if c.options.TLS != nil {
		config = c.options.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	config.NextProtos = []string{"http/1.1"}
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, err
	}
	return conn, nil
}

// tunnel asks a proxy for a way to the server.
func tunnel(conn net.Conn, proxy *url.URL, target string) error {
	request := &http.Request{Method: "CONNECT", URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		login := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+login)
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	// The proxy says nothing more before we speak, so nothing is lost with this reader.
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 1), request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return failure(CannotConnect, "the proxy answered %s", response.Status)
	}
	return nil
}
