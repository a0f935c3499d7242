// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"io"
	"sync"
)

const (
	// softLimit is what may wait unread before the connection is held back: enough that the command never waits for the
	// reader's turn, little enough to stay in the processor's cache.
	softLimit = 512 << 10
	hardLimit = 64 << 20
)

// buffers has both streams of a command. Both come over one connection, so who waits for one may let the other grow.
type buffers struct {
	lock    sync.Mutex
	changed *sync.Cond
	streams [2]stream
	awaited bool
	ended   bool
	err     error
}

type stream struct {
	buffers *buffers
	// data[from:] is unread. Its memory is used again: a reader that keeps up costs no garbage.
	data []byte
	from int
	// waiting is set while a reader waits; what comes goes straight to where it wants it, and got says how much did.
	waiting bool
	into    []byte
	got     int
}

func newBuffers() *buffers {
	b := &buffers{}
	b.changed = sync.NewCond(&b.lock)
	b.streams[0].buffers, b.streams[1].buffers = b, b
	return b
}

func (s *stream) unread() int { return len(s.data) - s.from }

func (s *stream) add(data []byte) {
	if s.waiting && s.got < len(s.into) && s.unread() == 0 {
		count := copy(s.into[s.got:], data)
		s.got += count
		data = data[count:]
	}
	if len(data) == 0 {
		return
	}
	if s.from == len(s.data) {
		s.data, s.from = s.data[:0], 0
		if cap(s.data) > 2*softLimit {
			s.data = nil // It grew for a reader that was far behind.
		}
	} else if s.from > len(s.data)/2 && len(s.data)+len(data) > cap(s.data) {
		s.data, s.from = s.data[:copy(s.data, s.data[s.from:])], 0
	}
	s.data = append(s.data, data...)
}

// feed holds the connection back while too much is unread and nobody waits for what may come behind it.
func (b *buffers) feed(number int, data []byte) error {
	b.lock.Lock()
	defer b.lock.Unlock()
	size := func() int { return b.streams[0].unread() + b.streams[1].unread() }
	for size() >= softLimit && !b.awaited && !b.streams[0].waiting && !b.streams[1].waiting && !b.ended {
		b.changed.Wait()
	}
	if b.ended {
		return nil
	}
	if size() > hardLimit {
		return failure(OutputLimit, "more than %d bytes of output were not read", hardLimit)
	}
	b.streams[number-1].add(data)
	b.changed.Broadcast()
	return nil
}

func (b *buffers) await() {
	b.lock.Lock()
	b.awaited = true
	b.changed.Broadcast()
	b.lock.Unlock()
}

func (b *buffers) end(err error) {
	b.lock.Lock()
	if !b.ended {
		b.ended, b.err = true, err
	}
	b.changed.Broadcast()
	b.lock.Unlock()
}

// Read gives what is there, or waits for it.
func (s *stream) Read(into []byte) (int, error) {
	b := s.buffers
	b.lock.Lock()
	defer b.lock.Unlock()
	if len(into) == 0 {
		return 0, nil
	}
	if s.unread() == 0 && !b.ended {
		s.waiting, s.into, s.got = true, into, 0
		b.changed.Broadcast()
		for s.got == 0 && s.unread() == 0 && !b.ended {
			b.changed.Wait()
		}
		count := s.got
		s.waiting, s.into, s.got = false, nil, 0
		b.changed.Broadcast()
		if count > 0 {
			return count, nil
		}
	}
	if s.unread() == 0 {
		if b.err != nil {
			return 0, b.err
		}
		return 0, io.EOF
	}
	count := copy(into, s.data[s.from:])
	s.from += count
	b.changed.Broadcast()
	return count, nil
}
