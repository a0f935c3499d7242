// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// position is how far the output has come, counted from the command's start.
type position struct {
	// Instance names the session for good; empty if the server cannot resume.
	Instance string `json:"instance"`
	Stdout   int64  `json:"stdout_offset"`
	Stderr   int64  `json:"stderr_offset"`
}

// resumption is what an execution needs to attach again where its output stopped.
type resumption struct {
	position
	attempt  int
	hasPlace bool
	// settled is closed unless the connection is lost and may come back.
	settled chan struct{}
	// hasWritten: input was written that may or may not have arrived.
	hasWritten bool
	inputEnded bool
	givenUp    bool
}

func closedChannel() chan struct{} {
	made := make(chan struct{})
	close(made)
	return made
}

// received counts before the output is handed out.
func (e *execution) received(stream, count int) {
	e.lock.Lock()
	defer e.lock.Unlock()
	e.attempt = 0
	if stream == 1 {
		e.Stdout += int64(count)
	} else {
		e.Stderr += int64(count)
	}
}

// connection waits while it may come back; isInput: what is written cannot be written twice.
func (e *execution) connection(isInput bool) *webSocket {
	for {
		e.lock.Lock()
		settled := e.settled
		select {
		case <-settled:
			e.hasWritten = e.hasWritten || isInput
			socket := e.socket
			e.lock.Unlock()
			return socket
		default:
		}
		e.lock.Unlock()
		<-settled
	}
}

// mayResume is called with the lock held: not if input may be lost, nor in a terminal.
func (e *execution) mayResume() bool {
	return e.Instance != "" && !e.tty && !e.hasWritten && !e.givenUp && !e.released && e.exitCode < 0
}

// comesBack waits until another connection has taken the place of a broken one; false if none will.
func (e *execution) comesBack(broken *webSocket) bool {
	for {
		e.lock.Lock()
		socket, may := e.socket, e.mayResume()
		e.lock.Unlock()
		if socket != broken {
			return true
		}
		if !may {
			return false
		}
		select {
		case <-e.done:
			return false
		case <-time.After(10 * time.Millisecond): // Whoever reads finds out.
		}
	}
}

// giveUp breaks off the connection for good.
func (e *execution) giveUp() {
	e.lock.Lock()
	e.givenUp = true
	socket := e.socket
	e.lock.Unlock()
	socket.finish()
}

// resume attaches again, with back-off; false if that is not safe or does not work.
func (e *execution) resume() bool {
	e.lock.Lock()
	if !e.mayResume() {
		e.lock.Unlock()
		return false
	}
	settled := make(chan struct{})
	e.settled = settled
	old, hadPlace := e.socket, e.hasPlace
	e.hasPlace = false
	e.lock.Unlock()
	defer close(settled)
	if hadPlace {
		e.client.pool.giveBack(e.sprite, old, false)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-e.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	path := spritePath(e.sprite) + "/exec/" + url.PathEscape(e.sessionID)
	for {
		e.lock.Lock()
		may, attempt, at := e.mayResume(), e.attempt, e.position
		e.attempt++
		e.lock.Unlock()
		if !may || attempt >= len(readWaits) {
			return false
		}
		select {
		case <-e.done:
			return false
		case <-time.After(readWaits[attempt]):
		}
		socket, err := e.client.pool.direct(ctx, path, url.Values{
			"instance":      {at.Instance},
			"stdout_offset": {strconv.FormatInt(at.Stdout, 10)},
			"stderr_offset": {strconv.FormatInt(at.Stderr, 10)},
		})
		if err != nil {
			if isPassing(err) {
				continue
			}
			return false // It has ended and was forgotten, or the output is not kept any more.
		}
		return e.adopt(socket)
	}
}

func (e *execution) adopt(socket *webSocket) bool {
	e.lock.Lock()
	if e.released || e.givenUp {
		e.lock.Unlock()
		e.client.pool.giveBack(e.sprite, socket, false)
		return false
	}
	e.socket, e.control, e.hasPlace, e.stream = socket, false, true, 0
	inputEnded := e.inputEnded
	e.lock.Unlock()
	if inputEnded {
		_ = socket.write(2, nil, []byte{4}) // If it fails the end of the connection is told.
	}
	socket.use(e)
	socket.start()
	return true
}

// killElsewhere ends a command whose connection is lost, over another, without waiting; false if there is one.
func (e *execution) killElsewhere() bool {
	e.lock.Lock()
	settled, id := e.settled, e.sessionID
	e.lock.Unlock()
	select {
	case <-settled:
		return false
	default:
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = (&Sprite{client: e.client, Name: e.sprite}).Kill(ctx, id, "KILL", 0)
	}()
	return true
}
