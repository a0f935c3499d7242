// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// TerminalSize is the size of a terminal.
type TerminalSize struct{ Rows, Cols int }

// PortChange says that a command began or stopped to listen on a port.
type PortChange struct {
	Open    bool
	Port    int
	Address string
}

// Result is how a command ended, with all it printed.
type Result struct {
	ExitCode       int
	Stdout, Stderr []byte
}

// Cmd is a command of a sprite, not yet run. Its fields are set before; it can be run any number of times.
type Cmd struct {
	// Env has variables as NAME=VALUE, laid over those of the sprite.
	Env []string
	// Dir is the working directory; the home directory if empty.
	Dir string
	// User runs it; the sprite's own user if empty.
	User string
	// TTY gives it a terminal.
	TTY *TerminalSize
	// Stdin is read to its end by Run and Output.
	Stdin io.Reader
	// Stdout and Stderr, if set, get the output of Run instead of its result.
	Stdout, Stderr io.Writer
	// Timeout is how long it may run; then it gets SIGTERM, and SIGKILL KillAfter (5 seconds) later.
	Timeout, KillAfter time.Duration
	// Detachable commands go on when their client leaves.
	Detachable bool
	// MaxRunAfterDisconnect is how long it may go on after the connection was lost.
	MaxRunAfterDisconnect time.Duration
	// OutputLimit is how much output Run may keep in memory: 256 MiB if 0.
	OutputLimit int
	// OnPort hears of ports the command listens on.
	OnPort func(PortChange)

	sprite *Sprite
	argv   []string
}

// Command is a command that the shell runs: sprite.Command("ls -la").
func (s *Sprite) Command(shellCommand string) *Cmd {
	return s.CommandArgs("/bin/sh", "-c", shellCommand)
}

// CommandArgs is a command that is run as it is: sprite.CommandArgs("ls", "-la").
func (s *Sprite) CommandArgs(argv ...string) *Cmd { return &Cmd{sprite: s, argv: argv} }

// Run runs the command to its end and gives its exit code and output. Another exit code than 0 is no error.
func (cmd *Cmd) Run(ctx context.Context) (*Result, error) {
	limit := cmd.OutputLimit
	if limit == 0 {
		limit = 256 << 20
	}
	var stdout, stderr bytes.Buffer
	sink := func(stream int, data []byte) error {
		buffer, writer := &stdout, cmd.Stdout
		if stream == 2 {
			buffer, writer = &stderr, cmd.Stderr
		}
		if writer != nil {
			_, err := writer.Write(data)
			return err
		}
		if stdout.Len()+stderr.Len()+len(data) > limit {
			return failure(OutputLimit, "the command printed more than %d bytes", limit)
		}
		buffer.Write(data)
		return nil
	}
	e, err := cmd.begin(ctx, cmd.Stdin != nil, sink)
	if err != nil {
		return nil, err
	}
	if cmd.Stdin != nil {
		go func() {
			// A command that does not read to the end is no error.
			if _, err := io.Copy(struct{ io.Writer }{e}, cmd.Stdin); err != nil && asError(err) == nil {
				e.abandon(true, err)
			}
			e.closeInput()
		}()
	}
	<-e.done
	result := &Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	if result.ExitCode, err = e.wait(cmd.Timeout, result); err != nil {
		return nil, err
	}
	return result, nil
}

// Output runs the command and gives what it printed on standard output; an exit code other than 0 is an error.
func (cmd *Cmd) Output(ctx context.Context) (string, error) {
	result, err := cmd.Run(ctx)
	if err != nil {
		return "", err
	}
	return string(result.Stdout), result.Check()
}

// Check is an error with the code CommandFailed unless the exit code is 0.
func (r *Result) Check() error {
	if r.ExitCode == 0 {
		return nil
	}
	message := fmt.Sprintf("the command ended with exit code %d", r.ExitCode)
	if text := strings.TrimSpace(string(r.Stderr)); text != "" {
		message += ": " + text[strings.LastIndexByte(text, '\n')+1:]
	}
	return &Error{Code: CommandFailed, Message: message, Result: r}
}

// Process is a command that runs.
type Process struct {
	// Stdin is its input; Close is the end of it.
	Stdin io.WriteCloser
	// Stdout is what it prints; in a terminal everything.
	Stdout io.Reader
	Stderr io.Reader

	running  *execution
	buffers  *buffers
	limit    time.Duration
	outlives bool
}

type stdin struct {
	*execution
	once sync.Once
}

func (s *stdin) Close() error {
	s.once.Do(s.closeInput)
	return nil
}

// Start starts the command with streams. Close the process when done. A context that ends, ends the command.
func (cmd *Cmd) Start(ctx context.Context) (*Process, error) {
	b := newBuffers()
	e, err := cmd.begin(ctx, true, b.feed)
	if err != nil {
		return nil, err
	}
	return newProcess(e, b, cmd.Timeout, cmd.Detachable), nil
}

func newProcess(e *execution, b *buffers, limit time.Duration, outlives bool) *Process {
	go func() {
		<-e.done
		b.end(e.err)
	}()
	return &Process{
		Stdin: &stdin{execution: e}, Stdout: &b.streams[0], Stderr: &b.streams[1],
		running: e, buffers: b, limit: limit, outlives: outlives,
	}
}

// SessionID waits until the command runs and gives its session's id.
func (p *Process) SessionID() (string, error) {
	<-p.running.introduced
	if p.running.sessionID == "" {
		_, err := p.Wait()
		return "", err
	}
	return p.running.sessionID, nil
}

// TTY tells whether it has a terminal; known once SessionID returned.
func (p *Process) TTY() bool { return p.running.tty }

// Wait gives the exit code, once the command has ended. Output that is not read is kept, up to a limit.
func (p *Process) Wait() (int, error) {
	p.buffers.await()
	return p.running.wait(p.limit, nil)
}

// Signal sends a signal, such as "INT", to the command's process group.
func (p *Process) Signal(name string) error { return p.running.signal(name) }

// Kill sends SIGKILL.
func (p *Process) Kill() error { return p.Signal("KILL") }

// Resize sets the size of the terminal.
func (p *Process) Resize(size TerminalSize) error { return p.running.resize(size) }

var errLeft = errors.New("the command was left")

// Detach leaves. A terminal or a detachable command goes on; any other is ended by the server a while later.
func (p *Process) Detach() {
	p.buffers.end(errLeft)
	p.running.abandon(false, errLeft)
}

// Close ends the command if it still runs, unless it was made to go on, and leaves.
func (p *Process) Close() error {
	p.buffers.end(errLeft)
	p.running.abandon(!p.outlives, errLeft)
	return nil
}
