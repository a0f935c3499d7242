// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// The driver of the conformance suite for the Go SDK; conformance/README.md has the protocol.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
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
	Filters          map[string]string
	Match            string
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

func run(ctx context.Context, r *request) (any, error) {
	result, err := r.command().Run(ctx)
	if err != nil {
		return nil, err
	}
	if r.Check {
		if err = result.Check(); err != nil {
			return nil, err
		}
	}
	if r.Digest {
		sum := sha256.Sum256(result.Stdout)
		return object{
			"exit_code": result.ExitCode, "stdout_bytes": len(result.Stdout), "stdout_sha256": hex.EncodeToString(sum[:]),
		}, nil
	}
	return object{"exit_code": result.ExitCode, "stdout": full(result.Stdout), "stderr": full(result.Stderr)}, nil
}

// full is never null in JSON.
func full(data []byte) []byte { return append([]byte{}, data...) }

func stream(ctx context.Context, r *request) (any, error) {
	process, err := r.command().Start(ctx)
	if err != nil {
		return nil, err
	}
	defer process.Close()
	process.Stdin.Close()
	digest := sha256.New()
	count, err := io.Copy(digest, process.Stdout)
	if err != nil {
		return nil, err
	}
	code, err := process.Wait()
	return object{"exit_code": code, "stdout_bytes": count, "stdout_sha256": hex.EncodeToString(digest.Sum(nil))}, err
}

func burst(ctx context.Context, r *request) (any, error) {
	var wait sync.WaitGroup
	numbers, wrong := make(chan int), []string{}
	for i := 0; i < r.AtOnce; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for n := range numbers {
				script := fmt.Sprintf("echo out %d; echo err %d >&2; exit %d", n, n, n%7)
				result, err := r.sprite().CommandArgs("sh", "-c", script).Run(ctx)
				told := ""
				if err != nil {
					told = err.Error()
				} else if result.ExitCode != n%7 || string(result.Stdout) != fmt.Sprintf("out %d\n", n) ||
					string(result.Stderr) != fmt.Sprintf("err %d\n", n) {
					told = fmt.Sprintf("%d %q %q", result.ExitCode, result.Stdout, result.Stderr)
				}
				if told != "" {
					lock.Lock()
					wrong = append(wrong, fmt.Sprintf("%d: %s", n, told))
					lock.Unlock()
				}
			}
		}()
	}
	for n := 0; n < r.Count; n++ {
		numbers <- n
	}
	close(numbers)
	wait.Wait()
	return object{"count": r.Count, "wrong": wrong[:min(5, len(wrong))]}, nil
}

func measure(ctx context.Context, r *request) (any, error) {
	times := []float64{}
	for n := 0; n < r.Count; n++ {
		started := time.Now()
		if _, err := r.sprite().CommandArgs("true").Run(ctx); err != nil {
			return nil, err
		}
		times = append(times, time.Since(started).Seconds()*1000)
	}
	started := time.Now()
	process, err := r.sprite().CommandArgs("head", "-c", strconv.Itoa(r.Bytes), "/dev/zero").Start(ctx)
	if err != nil {
		return nil, err
	}
	defer process.Close()
	process.Stdin.Close()
	count, buffer := 0, make([]byte, 1<<20)
	for {
		n, err := process.Stdout.Read(buffer)
		if count += n; err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	_, err = process.Wait()
	return object{"times": times, "seconds": time.Since(started).Seconds(), "bytes": count}, err
}

func begun(p *sprites.Process, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	id, err := p.SessionID()
	if err != nil {
		return nil, err
	}
	one := &process{p, bufio.NewReader(p.Stdout), bufio.NewReader(p.Stderr)}
	return object{"session_id": id, "process": keep("process", one), "tty": p.TTY()}, nil
}

func read(r *request) (any, error) {
	from := r.process().out
	if r.Stream == "stderr" {
		from = r.process().err
	}
	switch {
	case len(r.Until) > 0:
		got := []byte{}
		for !bytes.HasSuffix(got, r.Until) {
			one, err := from.ReadByte()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, err
			}
			got = append(got, one)
		}
		return object{"data": got}, nil
	case r.Lines > 0:
		lines := []string{}
		for len(lines) < r.Lines {
			line, err := from.ReadString('\n')
			if err != nil && err != io.EOF {
				return nil, err
			}
			lines = append(lines, line)
		}
		return object{"lines": lines}, nil
	}
	data, err := io.ReadAll(from)
	return object{"data": full(data)}, err
}

func entry(one sprites.FileEntry) object {
	return object{
		"name": one.Name, "path": one.Path, "type": one.Type, "size": one.Size, "mode": fmt.Sprintf("%04o", one.Mode),
	}
}

func mode(text string) fs.FileMode {
	if text == "" {
		return 0o644
	}
	number, _ := strconv.ParseUint(text, 8, 32)
	return fs.FileMode(number)
}

func events(list []sprites.Event, err error) (any, error) {
	types, text := []string{}, ""
	for _, one := range list {
		types, text = append(types, one.Type), text+one.Data
	}
	return object{"types": types, "text": text}, err
}

func checkpoint(one *sprites.Checkpoint, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return object{"id": one.ID, "comment": one.Comment, "source_id": one.SourceID, "is_auto": one.IsAuto}, nil
}

func restored(one sprites.Restored, err error) (any, error) {
	return object{"id": one.ID, "replaced_id": one.ReplacedID}, err
}

func logs(ctx context.Context, r *request) (any, error) {
	count, filters := 0, url.Values{}
	for name, value := range r.Filters {
		filters.Set(name, value)
	}
	follow, _ := r.Follow.(bool)
	err := r.sprite().Logs(ctx, sprites.LogOptions{Follow: follow, Filters: filters}, func(event sprites.Event) error {
		text, _ := json.Marshal(event.Raw)
		if strings.Contains(string(text), r.Match) {
			if count++; count >= r.Count {
				return sprites.ErrStop
			}
		}
		return nil
	})
	return object{"count": count}, err
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
	case "logs":
		return logs(ctx, r)
	}
	return doPart(ctx, r)
}

func doPart(ctx context.Context, r *request) (any, error) {
	files, checkpoints, services := r.sprite().Files(), r.sprite().Checkpoints(), r.sprite().Services()
	services.Follow = r.follow()
	switch r.Do {
	case "files.read":
		data, err := files.Read(ctx, r.Path)
		return object{"data": full(data)}, err
	case "files.write":
		return nil, files.Write(ctx, r.Path, r.Data, mode(r.Mode))
	case "files.list":
		list, err := files.List(ctx, r.Path)
		entries := []object{}
		for _, one := range list {
			entries = append(entries, entry(one))
		}
		return object{"entries": entries}, err
	case "files.stat":
		one, err := files.Stat(ctx, r.Path)
		return entry(one), err
	case "files.exists":
		there, err := files.Exists(ctx, r.Path)
		return object{"exists": there}, err
	case "files.mkdir":
		return nil, files.Mkdir(ctx, r.Path)
	case "files.remove":
		if r.Recursive {
			return nil, files.RemoveAll(ctx, r.Path)
		}
		return nil, files.Remove(ctx, r.Path)
	case "files.rename":
		return nil, files.Rename(ctx, r.Path, r.To)
	case "files.copy":
		return nil, files.Copy(ctx, r.Path, r.To)
	case "files.chmod":
		return nil, files.Chmod(ctx, r.Path, mode(r.Mode))
	case "files.upload":
		_, err := files.Upload(ctx, r.Local, r.Path)
		return nil, err
	case "files.download":
		return nil, files.Download(ctx, r.Path, r.Local)
	case "checkpoints.create":
		return checkpoint(checkpoints.Create(ctx, r.Comment))
	case "checkpoints.list":
		list, err := checkpoints.List(ctx, false)
		ids := []string{}
		for _, one := range list {
			ids = append(ids, one.ID)
		}
		return object{"ids": ids}, err
	case "checkpoints.get":
		return checkpoint(checkpoints.Get(ctx, r.Checkpoint))
	case "checkpoints.delete":
		return nil, checkpoints.Delete(ctx, r.Checkpoint)
	case "checkpoints.restore":
		return restored(checkpoints.Restore(ctx, r.Checkpoint))
	case "checkpoints.undo":
		return restored(checkpoints.Undo(ctx))
	case "services.create":
		return events(services.Create(ctx, sprites.Service{
			Name: r.Name, Cmd: r.Cmd, Args: r.Args, Needs: r.Needs, HTTPPort: r.HTTPPort, Env: r.Environment, Dir: r.Directory,
		}))
	case "services.list":
		list, err := services.List(ctx)
		names := []string{}
		for _, one := range list {
			names = append(names, one.Name)
		}
		return object{"names": names}, err
	case "services.get":
		one, err := services.Get(ctx, r.Name)
		if err != nil {
			return nil, err
		}
		return object{
			"name": one.Name, "cmd": one.Cmd, "args": one.Args, "status": one.State.Status, "http_port": one.HTTPPort,
		}, nil
	case "services.start":
		return events(services.Start(ctx, r.Name))
	case "services.stop":
		return events(services.Stop(ctx, r.Name, 10*time.Second))
	case "services.restart":
		return events(services.Restart(ctx, r.Name))
	case "services.signal":
		return nil, services.Signal(ctx, r.Name, r.Signal)
	case "services.delete":
		return nil, services.Delete(ctx, r.Name)
	case "services.logs":
		var list []sprites.Event
		err := services.Logs(ctx, r.Name, 100, r.follow(), func(event sprites.Event) error {
			list = append(list, event)
			return nil
		})
		return events(list, err)
	case "policy.get":
		rules, err := r.sprite().Policy(ctx)
		return object{"rules": rules}, err
	case "policy.set":
		return nil, r.sprite().SetPolicy(ctx, r.Rules)
	}
	return nil, fmt.Errorf("there is no verb '%s'", r.Do)
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
