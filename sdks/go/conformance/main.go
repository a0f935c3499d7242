// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// The driver of the conformance suite for the Go SDK; conformance/README.md has the protocol.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
)

type object = map[string]any

type request struct {
	ID               int
	Do               string
	Sprite           string
	Name             string
	To               string
	Prefix           string
	PageSize         int `json:"page_size"`
	Labels           []string
	Environment      map[string]string
	Limits           *sprites.Limits
	URLAuth          string `json:"url_auth"`
	Checkpoint       string
	Comment          string
	Command          json.RawMessage
	Directory, User  string
	Timeout          *float64
	KillAfter        float64 `json:"kill_after"`
	Detachable       bool
	TTY              *struct{ Rows, Cols int }
	MaxRun           float64 `json:"max_run_after_disconnect"`
	Input            *[]byte
	InputBytes       *int `json:"input_bytes"`
	Check, Digest    bool
	OutputLimit      int `json:"output_limit"`
	Count, Bytes     int
	AtOnce           int `json:"at_once"`
	Process          string
	Stream           string
	Lines            int
	Until            []byte
	Data             []byte
	Signal           string
	Rows, Cols, Port int
	SessionID        string `json:"session_id"`
	Forward          string
	Path, Local      string
	Mode             string
	Recursive        bool
	Cmd              string
	Args, Needs      []string
	HTTPPort         int `json:"http_port"`
	Follow           any
	Rules            []sprites.Rule
	Host, Value      string
	Header, Format   string
	Filters          map[string]string
	Match            string
	From             string
	Patch            bool
	Renames          *bool
	Limit            int
	Checked          string
	DryRun           bool `json:"dry_run"`
}

var (
	client *sprites.Client
	lock   sync.Mutex
	things = map[string]any{}
)

func keep(kind string, thing any) string {
	lock.Lock()
	defer lock.Unlock()
	name := kind + strconv.Itoa(len(things))
	things[name] = thing
	return name
}

// process is one that runs, with a reader for each stream, so that nothing is lost between reads.
type process struct {
	*sprites.Process
	out, err *bufio.Reader
}

func (r *request) process() *process {
	lock.Lock()
	defer lock.Unlock()
	return things[r.Process].(*process)
}

func (r *request) sprite() *sprites.Sprite { return client.Sprite(r.Sprite) }

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }

func (r *request) follow() time.Duration {
	value, _ := r.Follow.(float64)
	return seconds(value)
}

func (r *request) command() *sprites.Cmd {
	var text string
	var list []string
	var cmd *sprites.Cmd
	if json.Unmarshal(r.Command, &text) == nil {
		cmd = r.sprite().Command(text)
	} else {
		_ = json.Unmarshal(r.Command, &list)
		cmd = r.sprite().CommandArgs(list...)
	}
	for name, value := range r.Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Dir, cmd.User, cmd.Detachable, cmd.OutputLimit = r.Directory, r.User, r.Detachable, r.OutputLimit
	if r.Timeout != nil {
		cmd.Timeout = seconds(*r.Timeout)
	}
	cmd.KillAfter, cmd.MaxRunAfterDisconnect = seconds(r.KillAfter), seconds(r.MaxRun)
	if r.TTY != nil {
		cmd.TTY = &sprites.TerminalSize{Rows: r.TTY.Rows, Cols: r.TTY.Cols}
	}
	if r.Input != nil {
		cmd.Stdin = bytes.NewReader(*r.Input)
	} else if r.InputBytes != nil {
		cmd.Stdin = io.LimitReader(&pattern{}, int64(*r.InputBytes))
	}
	return cmd
}

// pattern gives the bytes 0 to 255, again and again.
type pattern struct{ at byte }

func (p *pattern) Read(into []byte) (int, error) {
	for i := range into {
		into[i] = p.at
		p.at++
	}
	return len(into), nil
}

func info(sprite *sprites.Sprite, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	i := sprite.Info
	return object{"name": i.Name, "status": i.Status, "labels": i.Labels, "url": i.URL}, nil
}

func do(ctx context.Context, r *request) (any, error) {
	switch r.Do {
	case "create":
		return info(client.Create(ctx, r.Name, &sprites.CreateOptions{
			Labels: r.Labels, Environment: r.Environment, Limits: r.Limits, URLAuth: r.URLAuth,
		}))
	case "get":
		return info(client.Get(ctx, r.Sprite))
	case "list":
		names := []string{}
		list := client.List(ctx, sprites.ListOptions{Prefix: r.Prefix, PageSize: r.PageSize})
		for list.Next() {
			names = append(names, list.Sprite().Name)
		}
		return object{"names": names}, list.Err()
	case "update":
		sprite := r.sprite()
		return info(sprite, sprite.Update(ctx, sprites.Changes{Labels: r.Labels, URLAuth: r.URLAuth}))
	case "destroy":
		return nil, r.sprite().Destroy(ctx)
	case "fork":
		return info(r.sprite().Fork(ctx, r.To, r.Checkpoint))
	case "run":
		return run(ctx, r)
	case "output":
		text, err := r.command().Output(ctx)
		return object{"text": text}, err
	case "cancel":
		inner, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)
		_, err := r.command().Run(inner)
		return object{"canceled": errors.Is(err, sprites.Canceled) || errors.Is(err, context.Canceled)}, nil
	case "stream":
		return stream(ctx, r)
	case "burst":
		return burst(ctx, r)
	case "measure":
		return measure(ctx, r)
	case "start":
		return begun(r.command().Start(ctx))
	case "attach":
		return begun(r.sprite().Attach(ctx, r.SessionID))
	case "write":
		_, err := r.process().Stdin.Write(r.Data)
		return nil, err
	case "close_input":
		return nil, r.process().Stdin.Close()
	case "read":
		return read(r)
	case "wait":
		code, err := r.process().Wait()
		return object{"exit_code": code}, err
	case "signal":
		return nil, r.process().Signal(r.Signal)
	case "resize":
		return nil, r.process().Resize(sprites.TerminalSize{Rows: r.Rows, Cols: r.Cols})
	case "detach":
		r.process().Detach()
		return nil, nil
	case "sessions":
		list, err := r.sprite().Sessions(ctx)
		ids := []string{}
		for _, one := range list {
			ids = append(ids, one.ID)
		}
		return object{"ids": ids}, err
	case "kill":
		timeout, signal := 10*time.Second, r.Signal
		if r.Timeout != nil {
			timeout = seconds(*r.Timeout)
		}
		if signal == "" {
			signal = "TERM"
		}
		code, err := r.sprite().Kill(ctx, r.SessionID, signal, timeout)
		return object{"exit_code": code}, err
	case "exchange":
		connection, err := r.sprite().Connect(ctx, r.Port)
		if err != nil {
			return nil, err
		}
		defer connection.Close()
		if _, err = connection.Write(r.Data); err != nil {
			return nil, err
		}
		data, err := io.ReadAll(connection)
		return object{"data": full(data)}, err
	case "forward":
		forward, err := r.sprite().Forward(ctx, "127.0.0.1:0", r.Port)
		if err != nil {
			return nil, err
		}
		return object{"local_port": forward.Port(), "forward": keep("forward", forward)}, nil
	case "forward.close":
		lock.Lock()
		forward := things[r.Forward].(*sprites.Forward)
		lock.Unlock()
		return nil, forward.Close()
	case "logs", "events":
		return logs(ctx, r)
	}
	return doPart(ctx, r)
}

func problem(err error) object {
	var e *sprites.Error
	if !errors.As(err, &e) {
		return object{"code": "driver", "message": err.Error()}
	}
	told := object{"code": e.Code, "message": e.Message, "may_be_running": e.MayBeRunning}
	for name, value := range map[string]string{
		"request_id": e.RequestID, "remedy": e.Remedy, "session_id": e.SessionID, "path": e.Path,
	} {
		if value != "" {
			told[name] = value
		}
	}
	if e.Status != 0 {
		told["status"] = e.Status
	}
	if e.RetryAfter > 0 {
		told["retry_after"] = e.RetryAfter.Seconds()
	}
	if e.Result != nil {
		told["exit_code"], told["stdout"], told["stderr"] = e.Result.ExitCode, full(e.Result.Stdout), full(e.Result.Stderr)
	}
	return told
}

func main() {
	var err error
	if client, err = sprites.New(sprites.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		go func() {
			r := &request{}
			reply := object{}
			if err := json.Unmarshal(line, r); err != nil {
				reply["error"] = object{"code": "driver", "message": err.Error()}
			} else if ok, err := do(context.Background(), r); err != nil {
				reply["error"] = problem(err)
			} else if reply["ok"] = ok; ok == nil {
				reply["ok"] = object{}
			}
			reply["id"] = r.ID
			text, _ := json.Marshal(reply)
			lock.Lock()
			os.Stdout.Write(append(text, '\n'))
			lock.Unlock()
		}()
	}
	client.Close()
}
