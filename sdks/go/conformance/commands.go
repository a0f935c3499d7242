// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
)

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
