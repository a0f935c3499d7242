// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"time"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
)

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
	case "diff":
		return diff(ctx, r)
	case "attempt":
		return attempt(ctx, r)
	case "policy.get":
		rules, err := r.sprite().Policy(ctx)
		return object{"rules": rules}, err
	case "policy.set":
		return nil, r.sprite().SetPolicy(ctx, r.Rules)
	case "secrets.list":
		list := []object{}
		found, err := r.sprite().Secrets(ctx)
		for _, one := range found {
			list = append(list, object{"id": one.ID, "host": one.Host, "header": one.Header, "format": one.Format})
		}
		return object{"secrets": list}, err
	case "secrets.set":
		secret := sprites.Secret{ID: r.Name, Host: r.Host, Header: r.Header, Format: r.Format}
		return nil, r.sprite().SetSecret(ctx, secret, r.Value)
	case "secrets.remove":
		return nil, r.sprite().RemoveSecret(ctx, r.Name)
	}
	return nil, fmt.Errorf("there is no verb '%s'", r.Do)
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
	each := r.sprite().Logs
	if r.Do == "events" {
		each = r.sprite().Events
	}
	err := each(ctx, sprites.LogOptions{Follow: follow, Filters: filters}, func(event sprites.Event) error {
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

func changes(found []sprites.Change) []string {
	told := []string{}
	for _, one := range found {
		told = append(told, one.Kind+" "+one.Path)
	}
	return told
}

func diff(ctx context.Context, r *request) (any, error) {
	found, err := r.sprite().Diff(ctx, r.From, sprites.DiffOptions{
		To: r.To, Path: r.Path, Patch: r.Patch, NoRenames: r.Renames != nil && !*r.Renames, Limit: r.Limit,
	})
	if err != nil {
		return nil, err
	}
	patch := ""
	for _, one := range found.Changes {
		patch += one.Patch
	}
	return object{"changes": changes(found.Changes), "stat": found.Stat, "truncated": found.Truncated, "patch": patch}, nil
}

func attempt(ctx context.Context, r *request) (any, error) {
	types := []string{}
	options := sprites.AttemptOptions{
		Check: r.Checked, DryRun: r.DryRun, Env: r.Environment, Dir: r.Directory, User: r.User,
		OnEvent: func(event sprites.Event) { types = append(types, event.Type) },
	}
	if r.Timeout != nil {
		options.Timeout = seconds(*r.Timeout)
	}
	var text string
	var list []string
	var done *sprites.Attempt
	var err error
	if json.Unmarshal(r.Command, &text) == nil {
		done, err = r.sprite().Attempt(ctx, text, options)
	} else if err = json.Unmarshal(r.Command, &list); err == nil {
		done, err = r.sprite().AttemptArgs(ctx, list, options)
	}
	if err != nil {
		return nil, err
	}
	told := object{
		"outcome": done.Outcome, "kept": done.Kept(), "exit_code": done.ExitCode, "check_exit_code": done.CheckExitCode,
		"stdout": full(done.Stdout), "stderr": full(done.Stderr), "changes": changes(done.Changes), "stat": done.Stat,
		"checkpoint_id": done.CheckpointID, "types": types,
	}
	if done.ReplacedID != "" {
		told["replaced_id"] = done.ReplacedID
	}
	return told, nil
}
