// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// Connection is a TCP connection to a port of a sprite. The end of either side closes the other.
type Connection struct {
	*buffers
	socket *webSocket
	answer chan error
	opened bool
}

// Connect connects to a port of the sprite itself.
func (s *Sprite) Connect(ctx context.Context, port int) (*Connection, error) {
	return s.ConnectHost(ctx, "localhost", port)
}

// ConnectHost connects to a port of a host that the sprite can reach.
func (s *Sprite) ConnectHost(ctx context.Context, host string, port int) (*Connection, error) {
	socket, err := s.client.open(ctx, s.path()+"/proxy", nil)
	if err != nil {
		return nil, err
	}
	c := &Connection{buffers: newBuffers(), socket: socket, answer: make(chan error, 1)}
	socket.use(c)
	socket.start()
	ask, _ := json.Marshal(map[string]any{"host": host, "port": port})
	_ = socket.write(1, nil, ask)
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	select {
	case err = <-c.answer:
	case <-ctx.Done():
		err = s.client.contextError(ctx, "the connection")
	case <-limit.C:
		err = failure(Timeout, "port %d of '%s' did not answer in time", port, s.Name)
	}
	if err != nil {
		socket.finish()
		if asError(err) == nil {
			told := caused(CannotConnect, err, "cannot connect to port %d of '%s': %v", port, s.Name, err)
			told.Remedy = "check that something listens there"
			err = told
		}
		return nil, err
	}
	return c, nil
}

func (c *Connection) binary(data []byte, _ bool) { _ = c.feed(1, data) }

func (c *Connection) text(data []byte) {
	var answer struct{ Status string }
	if json.Unmarshal(data, &answer) == nil && answer.Status == "connected" {
		c.opened = true
		c.answer <- nil
	}
}

func (c *Connection) closed(err error) {
	var told *closeError
	if !c.opened {
		if errors.As(err, &told) && told.reason != "" {
			err = errors.New(told.reason)
		}
		c.answer <- err
	}
	if errors.As(err, &told) && told.code == 1000 {
		c.end(nil)
		return
	}
	c.end(caused(ConnectionLost, err, "the connection to the port broke off: %v", err))
}

// Read reads what the other side sent; io.EOF at its end.
func (c *Connection) Read(into []byte) (int, error) { return c.streams[0].Read(into) }

// Write sends.
func (c *Connection) Write(data []byte) (int, error) {
	if err := c.socket.write(2, nil, data); err != nil {
		return 0, caused(ConnectionLost, err, "the connection to the port has ended")
	}
	return len(data), nil
}

// Close closes the connection.
func (c *Connection) Close() error {
	c.end(nil)
	c.socket.close(1000)
	return nil
}

// Forward is a local port whose connections go to a port of a sprite.
type Forward struct {
	listener net.Listener
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// Forward listens on a local address such as "127.0.0.1:0" and leads its connections to a port of the sprite. It ends with
// the context, or when it is closed.
func (s *Sprite) Forward(ctx context.Context, address string, port int) (*Forward, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &Forward{listener: listener, cancel: cancel}
	context.AfterFunc(ctx, func() { listener.Close() })
	f.work.Add(1)
	go func() {
		defer f.work.Done()
		for {
			local, err := listener.Accept()
			if err != nil {
				return
			}
			f.work.Add(1)
			go func() {
				defer f.work.Done()
				defer local.Close()
				remote, err := s.Connect(ctx, port)
				if err != nil {
					return // The local side sees that the connection ends.
				}
				stop := context.AfterFunc(ctx, func() { local.Close() })
				defer stop()
				go func() {
					_, _ = io.Copy(struct{ io.Writer }{remote}, local)
					remote.Close()
				}()
				_, _ = io.Copy(local, struct{ io.Reader }{remote})
				remote.Close()
			}()
		}
	}()
	return f, nil
}

// Port is the local port.
func (f *Forward) Port() int {
	_, port, _ := net.SplitHostPort(f.listener.Addr().String())
	number, _ := strconv.Atoi(port)
	return number
}

// Close stops listening and closes the connections.
func (f *Forward) Close() error {
	f.cancel()
	f.listener.Close()
	f.work.Wait()
	return nil
}
