// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"
)

type kept struct {
	socket *webSocket
	since  time.Time
}

// pool has the control connections that are used again, and bounds the connections of commands.
type pool struct {
	client *Client
	places chan struct{}

	lock           sync.Mutex
	idle           map[string][]kept
	withoutControl map[string]bool
	sweeping       bool
	closed         bool
}

func newPool(c *Client) *pool {
	return &pool{
		client: c, places: make(chan struct{}, c.options.ConnectionsMax), idle: map[string][]kept{},
		withoutControl: map[string]bool{},
	}
}

func (p *pool) take(ctx context.Context) error {
	select {
	case p.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		e := p.client.contextError(ctx, "waiting for a free connection")
		e.MayBeRunning = false
		return e
	}
}

// control gives a control connection, with a place taken; nil (and no place) where the server has none.
func (p *pool) control(ctx context.Context, sprite string) (*webSocket, error) {
	p.lock.Lock()
	without := p.client.options.WithoutControl || p.withoutControl[sprite]
	p.lock.Unlock()
	if without {
		return nil, nil
	}
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	// Every kept connection is read from, so one that ended is known to have.
	p.lock.Lock()
	for list := p.idle[sprite]; len(list) > 0; list = p.idle[sprite] {
		one := list[len(list)-1]
		p.idle[sprite] = list[:len(list)-1]
		if one.socket.isOpen() {
			p.lock.Unlock()
			return one.socket, nil
		}
	}
	p.lock.Unlock()
	socket, err := p.client.open(ctx, spritePath(sprite)+"/control", nil)
	if err == nil {
		socket.start()
		return socket, nil
	}
	<-p.places
	if e := asError(err); e != nil && errors.Is(e, NotFound) && !strings.HasPrefix(e.Message, "there is no sprite") {
		p.lock.Lock()
		p.withoutControl[sprite] = true
		p.lock.Unlock()
		return nil, nil
	}
	return nil, err
}

// direct gives a connection for one command, with a place taken. It does not read before it is started.
func (p *pool) direct(ctx context.Context, path string, query url.Values) (*webSocket, error) {
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	socket, err := p.client.open(ctx, path, query)
	if err != nil {
		<-p.places
	}
	return socket, err
}

// giveBack takes a connection and its place back; one that is not kept is closed.
func (p *pool) giveBack(sprite string, socket *webSocket, keep bool) {
	p.lock.Lock()
	if keep && !p.closed && socket.isOpen() && len(p.idle[sprite]) < p.client.options.IdleConnectionsMax {
		socket.use(idle{})
		p.idle[sprite] = append(p.idle[sprite], kept{socket, time.Now()})
		if !p.sweeping {
			p.sweeping = true
			time.AfterFunc(p.interval(), p.sweep)
		}
		p.lock.Unlock()
		<-p.places
		return
	}
	p.lock.Unlock()
	<-p.places
	go socket.close(1000)
}

func (p *pool) interval() time.Duration { return min(p.client.options.IdleTimeout, 5*time.Second) }

// sweep closes what was idle for too long, until nothing is left.
func (p *pool) sweep() {
	p.lock.Lock()
	defer p.lock.Unlock()
	for sprite, list := range p.idle {
		for len(list) > 0 && (time.Since(list[0].since) >= p.client.options.IdleTimeout || !list[0].socket.isOpen()) {
			go list[0].socket.close(1000)
			list = list[1:]
		}
		if p.idle[sprite] = list; len(list) == 0 {
			delete(p.idle, sprite)
		}
	}
	if p.sweeping = len(p.idle) > 0 && !p.closed; p.sweeping {
		time.AfterFunc(p.interval(), p.sweep)
	}
}

// forget closes the kept connections of a sprite that is gone.
func (p *pool) forget(sprite string) {
	p.lock.Lock()
	defer p.lock.Unlock()
	delete(p.withoutControl, sprite)
	for _, one := range p.idle[sprite] {
		go one.socket.close(1000)
	}
	delete(p.idle, sprite)
}

func (p *pool) close() {
	p.lock.Lock()
	p.closed = true
	var wait sync.WaitGroup
	for _, list := range p.idle {
		for _, one := range list {
			wait.Add(1)
			go func(socket *webSocket) {
				defer wait.Done()
				socket.close(1000)
			}(one.socket)
		}
	}
	p.idle = map[string][]kept{}
	p.lock.Unlock()
	wait.Wait()
}
