// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	messageSizeMax = 64 << 20
	// readBuffer is what one read of the socket may bring. More is slower: it leaves the processor's cache before it is
	// used (measured: 700 MB/s with 64 KiB, 400 with 1 MiB).
	readBuffer = 64 << 10
	// silenceMax is longer than the time between two pings and their answers.
	silenceMax = 60 * time.Second
)

// closeError is how a WebSocket ended; code 1006 if nobody said.
type closeError struct {
	code   int
	reason string
}

func (e *closeError) Error() string {
	if e.code == 1006 {
		return "without a close"
	}
	return fmt.Sprintf("%d %s", e.code, e.reason)
}

// handler hears what a connection receives, one call at a time. The data is valid until the call returns; a call that
// blocks holds back the server. A text comes whole. A binary message comes in pieces as they arrive, straight from the
// buffer that the socket was read into: collecting it first would cost a copy of every byte. An empty one is a piece too.
type handler interface {
	text(data []byte)
	binary(data []byte, isFirst bool)
	closed(err error)
}

// idle is the handler of a connection that nobody uses.
type idle struct{}

func (idle) text([]byte)         {}
func (idle) binary([]byte, bool) {}
func (idle) closed(error)        {}

// webSocket is the client side of RFC 6455, without extensions. A goroutine of its own reads; any may write.
type webSocket struct {
	conn   net.Conn
	reader *bufio.Reader
	buffer []byte

	writing   sync.Mutex
	sentClose bool
	out       []byte

	state   sync.Mutex
	handler handler
	done    bool
	end     error
	stopped chan struct{}
}

// open connects and upgrades. An ordinary answer is returned as the error it tells.
func (c *Client) open(ctx context.Context, path string, query url.Values) (*webSocket, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.RequestTimeout)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	fail := func(err error) (*webSocket, error) {
		conn.Close()
		if ctx.Err() != nil {
			return nil, c.contextError(ctx, "GET "+path)
		}
		if asError(err) != nil {
			return nil, err
		}
		return nil, caused(CannotConnect, err, "cannot connect to %s: %v", c.base, err)
	}
	var random [16]byte
	if _, err = rand.Read(random[:]); err != nil {
		return fail(err)
	}
	key := base64.StdEncoding.EncodeToString(random[:])
	request, err := c.newRequest(ctx, "GET", path, query, nil)
	if err != nil {
		return fail(err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "websocket")
	request.Header.Set("Sec-WebSocket-Version", "13")
	request.Header.Set("Sec-WebSocket-Key", key)
	if err = request.Write(conn); err != nil {
		return fail(err)
	}
	reader := bufio.NewReaderSize(conn, readBuffer)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return fail(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		return fail(fromResponse(response.StatusCode, response.Header, body))
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if response.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return fail(failure(InvalidResponse, "the server's WebSocket handshake is wrong"))
	}
	if !stop() {
		return fail(ctx.Err())
	}
	return &webSocket{conn: conn, reader: reader, handler: idle{}, stopped: make(chan struct{})}, nil
}

// use makes a handler hear what comes from now on.
func (w *webSocket) use(h handler) {
	w.state.Lock()
	w.handler = h
	end := w.end
	w.state.Unlock()
	if end != nil {
		h.closed(end)
	}
}

// start begins to read.
func (w *webSocket) start() {
	go w.beat()
	go func() {
		err := w.read()
		w.state.Lock()
		w.end = err
		h := w.handler
		w.state.Unlock()
		h.closed(err)
	}()
}

func (w *webSocket) isOpen() bool {
	w.state.Lock()
	defer w.state.Unlock()
	return !w.done && w.end == nil
}

// beat pings: the answers keep the deadline of reading away.
func (w *webSocket) beat() {
	ticker := time.NewTicker(15 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-w.stopped:
			return
		case <-ticker.C:
			if w.write(9, nil, nil) != nil {
				return
			}
		}
	}
}

// write sends a message of up to two parts.
func (w *webSocket) write(opcode byte, first, data []byte) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	if w.sentClose {
		return &closeError{code: 1006}
	}
	size := len(first) + len(data)
	w.out = append(w.out[:0], 0x80|opcode)
	switch {
	case size < 126:
		w.out = append(w.out, 0x80|byte(size))
	case size < 65536:
		w.out = binary.BigEndian.AppendUint16(append(w.out, 0x80|126), uint16(size))
	default:
		w.out = binary.BigEndian.AppendUint64(append(w.out, 0x80|127), uint64(size))
	}
	var mask [4]byte
	if _, err := rand.Read(mask[:]); err != nil {
		return err
	}
	w.out = append(w.out, mask[:]...)
	start := len(w.out)
	w.out = append(append(w.out, first...), data...)
	body := w.out[start:]
	key := uint64(binary.LittleEndian.Uint32(mask[:]))
	key |= key << 32
	for len(body) >= 8 {
		binary.LittleEndian.PutUint64(body, binary.LittleEndian.Uint64(body)^key)
		body = body[8:]
	}
	for i := range body {
		body[i] ^= mask[i%4]
	}
	if opcode == 8 {
		w.sentClose = true
	}
	_, err := w.conn.Write(w.out)
	return err
}

// current is who hears what comes.
func (w *webSocket) current() handler {
	w.state.Lock()
	defer w.state.Unlock()
	return w.handler
}

// read hands out what comes until the connection ends. Closes are answered, pings too.
func (w *webSocket) read() error {
	var kind byte // Of the message that has begun, else 0.
	var taken uint64
	for {
		opcode, last, size, err := w.head()
		if err != nil {
			return err
		}
		if opcode >= 8 {
			body := make([]byte, size)
			if _, err = io.ReadFull(w.reader, body); err != nil {
				return w.ended(err)
			}
			if err = w.control(opcode, body); err != nil {
				return err
			}
			continue
		}
		isFirst := opcode != 0
		if isFirst == (kind != 0) {
			return w.broken(1002)
		}
		if isFirst {
			kind, taken, w.buffer = opcode, 0, w.buffer[:0]
		}
		if taken += size; taken > messageSizeMax {
			return w.broken(1009)
		}
		if kind == 1 {
			from := len(w.buffer)
			w.buffer = append(w.buffer, make([]byte, size)...)
			if _, err = io.ReadFull(w.reader, w.buffer[from:]); err != nil {
				return w.ended(err)
			}
			if last {
				w.current().text(w.buffer)
			}
		} else if err = w.pieces(size, isFirst); err != nil {
			return err
		}
		if last {
			kind = 0
		}
	}
}

// head reads the beginning of a frame.
func (w *webSocket) head() (opcode byte, last bool, size uint64, err error) {
	_ = w.conn.SetReadDeadline(time.Now().Add(silenceMax))
	var head [8]byte
	if _, err = io.ReadFull(w.reader, head[:2]); err != nil {
		return 0, false, 0, w.ended(err)
	}
	opcode, last, size = head[0]&0x0f, head[0]&0x80 != 0, uint64(head[1]&0x7f)
	if head[0]&0x70 != 0 || head[1]&0x80 != 0 || opcode >= 8 && (size > 125 || !last) {
		return 0, false, 0, w.broken(1002)
	}
	if size == 126 {
		_, err = io.ReadFull(w.reader, head[:2])
		size = uint64(binary.BigEndian.Uint16(head[:2]))
	} else if size == 127 {
		_, err = io.ReadFull(w.reader, head[:8])
		size = binary.BigEndian.Uint64(head[:8])
	}
	if err != nil {
		return 0, false, 0, w.ended(err)
	}
	if size > messageSizeMax {
		return 0, false, 0, w.broken(1009)
	}
	return opcode, last, size, nil
}

// pieces hands out the rest of a binary frame as it arrives.
func (w *webSocket) pieces(size uint64, isFirst bool) error {
	h := w.current()
	if size == 0 {
		h.binary(nil, isFirst)
	}
	for ; size > 0; isFirst = false {
		if w.reader.Buffered() == 0 {
			_ = w.conn.SetReadDeadline(time.Now().Add(silenceMax))
			if _, err := w.reader.Peek(1); err != nil {
				return w.ended(err)
			}
		}
		piece, _ := w.reader.Peek(int(min(size, uint64(w.reader.Buffered()))))
		h.binary(piece, isFirst)
		size -= uint64(len(piece))
		_, _ = w.reader.Discard(len(piece))
	}
	return nil
}

func (w *webSocket) control(opcode byte, body []byte) error {
	switch opcode {
	case 9:
		_ = w.write(10, nil, body)
	case 8:
		told := &closeError{code: 1005}
		if len(body) >= 2 {
			told.code, told.reason = int(binary.BigEndian.Uint16(body)), string(body[2:])
		}
		_ = w.write(8, nil, binary.BigEndian.AppendUint16(nil, 1000))
		w.finish()
		return told
	}
	return nil
}

func (w *webSocket) ended(err error) error {
	w.finish()
	var told *closeError
	if errors.As(err, &told) {
		return told
	}
	return &closeError{code: 1006}
}

func (w *webSocket) broken(code int) error {
	_ = w.write(8, nil, binary.BigEndian.AppendUint16(nil, uint16(code)))
	w.finish()
	return &closeError{code: code, reason: "the server broke the protocol"}
}

// finish closes without a handshake.
func (w *webSocket) finish() {
	w.state.Lock()
	defer w.state.Unlock()
	if !w.done {
		w.done = true
		close(w.stopped)
		w.conn.Close()
	}
}

// close says goodbye and waits a moment for the answer.
func (w *webSocket) close(code uint16) {
	if w.write(8, nil, binary.BigEndian.AppendUint16(nil, code)) == nil {
		select {
		case <-w.stopped:
		case <-time.After(2 * time.Second):
		}
	}
	w.finish()
}
