// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	controlPrefix = "control:"
	inputChunk    = 256 << 10
)

// execution is one command over one connection.
type execution struct {
	client  *Client
	sprite  string
	socket  *webSocket
	control bool
	// sink takes output; stream is 1 or 2. It may block, and an error gives the command up.
	sink   func(stream int, data []byte) error
	onPort func(PortChange)

	// stream is that of the binary message that is coming in; 0 before its first byte.
	stream byte

	lock       sync.Mutex
	tty        bool
	sessionID  string
	introduced chan struct{}
	isKnown    bool
	exitCode   int // -1 until the exit frame.
	timedOut   bool
	released   bool
	err        error
	done       chan struct{}
	timers     []*time.Timer
	stop       func() bool

	resumption
}

func (cmd *Cmd) arguments(stdin bool) url.Values {
	values := url.Values{"cmd": cmd.argv, "path": {cmd.argv[0]}, "stdin": {strconv.FormatBool(stdin)}}
	if len(cmd.Env) > 0 {
		values["env"] = cmd.Env
	}
	if cmd.Dir != "" {
		values.Set("dir", cmd.Dir)
	}
	if cmd.User != "" {
		values.Set("user", cmd.User)
	}
	if cmd.TTY != nil {
		values.Set("tty", "true")
		values.Set("rows", strconv.Itoa(cmd.TTY.Rows))
		values.Set("cols", strconv.Itoa(cmd.TTY.Cols))
	}
	if cmd.Detachable {
		values.Set("detachable", "true")
	}
	if cmd.MaxRunAfterDisconnect > 0 {
		values.Set("max_run_after_disconnect", durationText(cmd.MaxRunAfterDisconnect))
	}
	return values
}

func (c *Client) newExecution(sprite string, socket *webSocket, control bool) *execution {
	return &execution{
		client: c, sprite: sprite, socket: socket, control: control, exitCode: -1,
		introduced: make(chan struct{}), done: make(chan struct{}),
		resumption: resumption{hasPlace: true, settled: closedChannel()},
	}
}

// begin starts the command. A context that ends, ends it.
func (cmd *Cmd) begin(ctx context.Context, stdin bool, sink func(int, []byte) error) (*execution, error) {
	if len(cmd.argv) == 0 {
		return nil, failure(InvalidRequest, "a command needs at least one argument")
	}
	client, sprite := cmd.sprite.client, cmd.sprite.Name
	values := cmd.arguments(stdin)
	// What outlives its client, and terminals, get a connection of their own.
	var socket *webSocket
	var err error
	if cmd.TTY == nil && !cmd.Detachable {
		if socket, err = client.pool.control(ctx, sprite); err != nil {
			return nil, err
		}
	}
	control := socket != nil
	if !control {
		if socket, err = client.pool.direct(ctx, spritePath(sprite)+"/exec", values); err != nil {
			return nil, err
		}
	}
	e := client.newExecution(sprite, socket, control)
	e.tty, e.sink, e.onPort = cmd.TTY != nil, sink, cmd.OnPort
	socket.use(e)
	if control {
		args := map[string]any{}
		for name, list := range values {
			if name == "cmd" || name == "env" {
				args[name] = list
			} else {
				args[name] = list[0]
			}
		}
		start, _ := json.Marshal(map[string]any{"type": "op.start", "op": "exec", "args": args})
		_ = socket.write(1, []byte(controlPrefix), start) // If it fails the end of the connection is told.
	} else {
		socket.start()
	}
	if cmd.Timeout > 0 {
		grace := cmd.KillAfter
		if grace == 0 {
			grace = 5 * time.Second
		}
		e.lock.Lock()
		e.timers = []*time.Timer{
			time.AfterFunc(cmd.Timeout, func() { e.expire("TERM") }),
			time.AfterFunc(cmd.Timeout+grace, func() { e.expire("KILL") }),
			// If even that brings no end, the connection is of no use.
			time.AfterFunc(cmd.Timeout+grace+5*time.Second, func() { e.expire(""); e.giveUp() }),
		}
		e.lock.Unlock()
	}
	stop := context.AfterFunc(ctx, func() {
		e.abandon(!cmd.Detachable, e.client.contextError(ctx, "the command"))
	})
	e.lock.Lock()
	e.stop = stop
	if e.released {
		stop()
	}
	e.lock.Unlock()
	return e, nil
}

func (e *execution) expire(signal string) {
	e.lock.Lock()
	e.timedOut = true
	e.lock.Unlock()
	if signal != "" {
		_ = e.signal(signal)
	}
}

// binary runs on the connection's goroutine.
func (e *execution) binary(data []byte, isFirst bool) {
	if e.tty {
		e.output(1, data)
		return
	}
	if isFirst {
		e.stream = 0
	}
	if e.stream == 0 && len(data) > 0 {
		// Of a message that names no stream the rest is for a newer client.
		e.stream, data = data[0], data[1:]
	}
	switch e.stream {
	case 1, 2:
		e.output(int(e.stream), data)
	case 3:
		if len(data) == 0 {
			return
		}
		e.lock.Lock()
		e.exitCode = int(data[0])
		e.lock.Unlock()
		e.stream = 255
		if !e.control {
			e.end(nil, false)
		}
	}
}

func (e *execution) output(stream int, data []byte) {
	if len(data) == 0 {
		return
	}
	e.received(stream, len(data))
	if err := e.sink(stream, data); err != nil {
		e.abandon(true, err)
	}
}

// text runs on the connection's goroutine.
func (e *execution) text(data []byte) {
	if e.control && bytes.HasPrefix(data, []byte(controlPrefix)) {
		var event struct {
			Type string         `json:"type"`
			Args map[string]any `json:"args"`
		}
		if json.Unmarshal(data[len(controlPrefix):], &event) != nil {
			return
		}
		switch event.Type {
		case "op.complete":
			if code, ok := event.Args["exitCode"].(float64); ok {
				e.lock.Lock()
				e.exitCode = int(code)
				e.lock.Unlock()
			}
			if e.exitCode < 0 {
				e.end(failure(InvalidResponse, "the command's end came without an exit code"), false)
				return
			}
			e.end(nil, true)
		case "op.error":
			e.end(fromEvent(event.Args), false)
		}
		return
	}
	var event struct {
		Type      string `json:"type"`
		SessionID string `json:"session_id"`
		TTY       bool   `json:"tty"`
		ExitCode  int    `json:"exit_code"`
		Port      int    `json:"port"`
		Address   string `json:"address"`
		position
	}
	if json.Unmarshal(data, &event) != nil {
		return
	}
	switch event.Type {
	case "session_info":
		e.lock.Lock()
		isOther := e.Instance != "" && e.position != event.position
		e.sessionID, e.tty, e.position = event.SessionID, event.TTY, event.position
		e.lock.Unlock()
		if isOther {
			e.end(e.lost(failure(InvalidResponse, "the server does not resume")), false)
			return
		}
		e.introduce()
	case "exit":
		if e.tty && !e.control {
			e.lock.Lock()
			e.exitCode = event.ExitCode
			e.lock.Unlock()
			e.end(nil, false)
		}
	case "port_opened", "port_closed":
		if e.onPort != nil {
			e.onPort(PortChange{Open: event.Type == "port_opened", Port: event.Port, Address: event.Address})
		}
	}
}

func (e *execution) introduce() {
	e.lock.Lock()
	defer e.lock.Unlock()
	if !e.isKnown {
		e.isKnown = true
		close(e.introduced)
	}
}

// closed runs on the connection's goroutine when it ended.
func (e *execution) closed(err error) {
	e.lock.Lock()
	hasExit := e.exitCode >= 0 // Which comes after all output.
	e.lock.Unlock()
	if hasExit {
		e.end(nil, false)
	} else if !e.resume() {
		e.end(e.lost(err), false)
	}
}

func (e *execution) lost(err error) *Error {
	e.lock.Lock()
	defer e.lock.Unlock()
	where := ""
	if e.sessionID != "" {
		where = ", session " + e.sessionID
	}
	told := caused(ConnectionLost, err, "the connection ended before the command's exit code (%v)%s", err, where)
	told.Remedy = "it may still run: look for it with Sessions, attach to it or kill it"
	told.MayBeRunning, told.SessionID = true, e.sessionID
	return told
}

func (e *execution) end(err error, keep bool) {
	e.lock.Lock()
	if e.released {
		e.lock.Unlock()
		return
	}
	e.released, e.err = true, err
	for _, timer := range e.timers {
		timer.Stop()
	}
	if e.stop != nil {
		e.stop()
	}
	socket, hasPlace := e.socket, e.hasPlace
	e.hasPlace = false
	e.lock.Unlock()
	e.introduce()
	if hasPlace {
		e.client.pool.giveBack(e.sprite, socket, keep)
	}
	close(e.done)
}

// abandon gives up the connection; the server ends what was not detached, at once with kill.
func (e *execution) abandon(kill bool, err error) {
	if kill && !e.killElsewhere() {
		_ = e.signal("KILL")
	}
	e.end(err, false)
}

// wait gives the exit code once the command has ended and all output was handed out.
func (e *execution) wait(limit time.Duration, result *Result) (int, error) {
	<-e.done
	if !e.timedOut {
		return e.exitCode, e.err
	}
	lost := asError(e.err)
	if lost != nil && lost.Code != ConnectionLost {
		return e.exitCode, e.err
	}
	told := failure(Timeout, "the command ran longer than its limit of %v and was ended", limit)
	told.SessionID, told.MayBeRunning, told.Result = e.sessionID, lost != nil, result
	return e.exitCode, told
}

func (e *execution) running() error {
	e.lock.Lock()
	defer e.lock.Unlock()
	// Also because the connection may already serve another command.
	if e.released || e.exitCode >= 0 {
		if lost := asError(e.err); lost != nil && lost.Code == ConnectionLost {
			return lost
		}
		return failure(CommandEnded, "the command has ended")
	}
	return nil
}

// Write sends input; it waits while the command does not read.
func (e *execution) Write(data []byte) (int, error) {
	prefix := []byte{0}
	if e.tty {
		prefix = nil
	}
	for sent := 0; sent < len(data); {
		if err := e.running(); err != nil {
			return sent, err
		}
		part := data[sent:min(len(data), sent+inputChunk)]
		if err := e.connection(true).write(2, prefix, part); err != nil {
			if ended := e.running(); ended != nil {
				return sent, ended
			}
			return sent, e.lost(err)
		}
		sent += len(part)
	}
	return len(data), nil
}

func (e *execution) closeInput() {
	if e.running() == nil {
		e.lock.Lock()
		e.inputEnded = !e.tty
		e.lock.Unlock()
		_ = e.connection(false).write(2, nil, []byte{4}) // Said again if the connection comes back.
	}
}

func (e *execution) signal(name string) error {
	return e.tell(map[string]any{"type": "signal", "signal": strings.ToUpper(name)})
}

func (e *execution) resize(size TerminalSize) error {
	return e.tell(map[string]any{"type": "resize", "rows": size.Rows, "cols": size.Cols})
}

func (e *execution) tell(message map[string]any) error {
	if err := e.running(); err != nil {
		return err
	}
	text, _ := json.Marshal(message)
	for {
		socket := e.connection(false)
		err := socket.write(1, nil, text)
		if err == nil {
			return nil
		}
		if !e.comesBack(socket) {
			if ended := e.running(); ended != nil {
				return ended
			}
			return e.lost(err)
		}
	}
}
