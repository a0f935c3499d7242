// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Version is the version of this package.
const Version = "0.1.0"

// Options say how a client behaves. The zero value of each field stands for its default.
type Options struct {
	// BaseURL is the server's address: SPRITES_API_URL, else http://127.0.0.1:7780.
	BaseURL string
	// Token is the token: SPRITE_TOKEN.
	Token string
	// RequestTimeout bounds requests that are no streams: 2 minutes. A context may end them sooner.
	RequestTimeout time.Duration
	// ConnectTimeout bounds making a connection: 10 seconds.
	ConnectTimeout time.Duration
	// ConnectionsMax bounds commands that run at once; more wait for a free connection: 1024.
	ConnectionsMax int
	// IdleConnectionsMax bounds the control connections kept for each sprite: 16.
	IdleConnectionsMax int
	// IdleTimeout is how long a control connection is kept without use: 1 minute.
	IdleTimeout time.Duration
	// WithoutControl opens a connection for each command.
	WithoutControl bool
	// Proxy gives the proxy of a request: http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// TLS configures TLS, for example with certificates to trust.
	TLS *tls.Config
	// UserAgent is sent with every request.
	UserAgent string
}

// Client is a server. It can be used by any number of goroutines. Close it when done: it keeps connections.
type Client struct {
	base    *url.URL
	options Options
	http    *http.Client
	pool    *pool
}

// New makes a client. Nothing is asked of the server.
func New(options Options) (*Client, error) {
	fallback := func(value *string, others ...string) {
		for _, other := range others {
			if *value == "" {
				*value = other
			}
		}
	}
	fallback(&options.BaseURL, os.Getenv("SPRITES_API_URL"), "http://127.0.0.1:7780")
	fallback(&options.Token, os.Getenv("SPRITE_TOKEN"))
	fallback(&options.UserAgent, "sprite-env-go/"+Version)
	base, err := url.Parse(strings.TrimRight(options.BaseURL, "/"))
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, failure(InvalidRequest, "invalid base URL '%s': use http://HOST:PORT or https://HOST", options.BaseURL)
	}
	if options.Token == "" {
		return nil, failure(Unauthorized, "no token was given")
	}
	if options.Proxy == nil {
		options.Proxy = http.ProxyFromEnvironment
	}
	for _, one := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{{&options.RequestTimeout, 2 * time.Minute}, {&options.ConnectTimeout, 10 * time.Second}, {&options.IdleTimeout, time.Minute}} {
		if *one.value == 0 {
			*one.value = one.fallback
		}
	}
	if options.ConnectionsMax == 0 {
		options.ConnectionsMax = 1024
	}
	if options.IdleConnectionsMax == 0 {
		options.IdleConnectionsMax = 16
	}
	c := &Client{base: base, options: options}
	c.http = &http.Client{Transport: &http.Transport{
		Proxy: options.Proxy, TLSClientConfig: options.TLS, MaxConnsPerHost: 64, MaxIdleConnsPerHost: 16,
		IdleConnTimeout: options.IdleTimeout, DisableCompression: true, WriteBufferSize: 64 << 10,
		DialContext: (&net.Dialer{Timeout: options.ConnectTimeout}).DialContext,
	}}
	c.pool = newPool(c)
	return c, nil
}

// Close closes the connections that are kept.
func (c *Client) Close() {
	c.pool.close()
	c.http.CloseIdleConnections()
}

func (c *Client) newRequest(
	ctx context.Context, method, path string, query url.Values, body io.Reader,
) (*http.Request, error) {
	address := c.base.String() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, failure(InvalidRequest, "invalid request: %v", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.options.Token)
	request.Header.Set("User-Agent", c.options.UserAgent)
	return request, nil
}

func (c *Client) contextError(ctx context.Context, what string) *Error {
	cause := context.Cause(ctx)
	code := Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = Timeout
	}
	e := caused(code, cause, "%s was given up: %v", what, ctx.Err())
	e.MayBeRunning = !strings.HasPrefix(what, "GET ")
	return e
}

// send gives a successful answer, whose body is still to be read and closed.
func (c *Client) send(
	ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader,
) (*http.Response, error) {
	request, err := c.newRequest(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.told(ctx, err, method, path)
	}
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return nil, fromResponse(response.StatusCode, response.Header, text)
}

// told turns a failure of the HTTP library into ours.
func (c *Client) told(ctx context.Context, err error, method, path string) error {
	if ctx.Err() != nil {
		return c.contextError(ctx, method+" "+path)
	}
	var dialing *net.OpError
	if errors.As(err, &dialing) && (dialing.Op == "dial" || dialing.Op == "proxyconnect") {
		return caused(CannotConnect, err, "cannot connect for %s %s: %v", method, path, dialing)
	}
	var untrusted *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	if errors.As(err, &untrusted) || errors.As(err, &plain) {
		return caused(CannotConnect, err, "cannot connect for %s %s: %v", method, path, err)
	}
	e := caused(ConnectionLost, err, "the connection ended during %s %s: %v", method, path, err)
	// A read has changed nothing, whatever became of it.
	e.MayBeRunning = method != "GET"
	return e
}

// do reads the whole body of a successful answer.
func (c *Client) do(
	ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader,
) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.RequestTimeout)
	defer cancel()
	if method == "GET" {
		return c.read(ctx, path, query)
	}
	return c.once(ctx, method, path, query, contentType, body)
}

func (c *Client) once(
	ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader,
) ([]byte, error) {
	response, err := c.send(ctx, method, path, query, contentType, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, c.told(ctx, err, method, path)
	}
	return text, nil
}

// How long to wait before a read whose connection was lost is tried again, each time: nine seconds in all.
var readWaits = []time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond,
	1500 * time.Millisecond, 2 * time.Second, 2 * time.Second, 2 * time.Second,
}

// read reads the whole body of the answer of a GET. When the connection is lost it asks again, for some seconds.
func (c *Client) read(ctx context.Context, path string, query url.Values) ([]byte, error) {
	wasLost := false
	for attempt := 0; ; attempt++ {
		text, err := c.once(ctx, "GET", path, query, "", nil)
		// A server that was never there is told at once.
		wasLost = wasLost || errors.Is(err, ConnectionLost)
		if err == nil || !wasLost || !isPassing(err) || attempt == len(readWaits) {
			return text, err
		}
		select {
		case <-ctx.Done():
			return nil, c.contextError(ctx, "GET "+path)
		case <-time.After(readWaits[attempt]):
		}
	}
}

// isPassing says whether an error is about the way to the server, or a server that is not there yet.
func isPassing(err error) bool {
	return errors.Is(err, ConnectionLost) || errors.Is(err, CannotConnect) || errors.Is(err, Unavailable)
}

// call sends and receives JSON; either may be nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, send, receive any) error {
	var body io.Reader
	contentType := ""
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return failure(InvalidRequest, "cannot send %T: %v", send, err)
		}
		body, contentType = bytes.NewReader(text), "application/json"
	}
	text, err := c.do(ctx, method, path, query, contentType, body)
	if err != nil {
		return err
	}
	if receive == nil {
		return nil
	}
	if err = json.Unmarshal(text, receive); err != nil {
		return caused(InvalidResponse, err, "the answer of %s %s is not what was expected: %v", method, path, err)
	}
	return nil
}

// lines gives the objects of an NDJSON stream to a function, until it or the stream ends it.
func (c *Client) lines(
	ctx context.Context, method, path string, query url.Values, send any, each func(map[string]any) error,
) error {
	var body io.Reader
	contentType := ""
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return failure(InvalidRequest, "cannot send %T: %v", send, err)
		}
		body, contentType = bytes.NewReader(text), "application/json"
	}
	response, err := c.send(ctx, method, path, query, contentType, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	reader := bufio.NewReader(response.Body)
	for {
		line, err := reader.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var event map[string]any
			if json.Unmarshal(line, &event) != nil {
				return failure(InvalidResponse, "a line of %s %s is not JSON", method, path)
			}
			if err := each(event); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return c.told(ctx, err, method, path)
		}
	}
}

func durationText(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}
