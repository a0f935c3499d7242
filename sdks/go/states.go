// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"time"
)

// Change is one difference between two states.
type Change struct {
	// Kind is "added", "removed", "changed" or "renamed".
	Kind string `json:"change"`
	Path string `json:"path"`
	// FromPath is where something renamed was.
	FromPath string `json:"from_path"`
	// Fields are what differs of something that is in both: "content", "mode", "owner" and so on.
	Fields []string `json:"fields"`
	// Patch is a unified diff, where it was asked for and can be told.
	Patch string `json:"patch"`
}

// DiffStat counts differences; Bytes is by how much files grew.
type DiffStat struct {
	Added   int   `json:"added"`
	Removed int   `json:"removed"`
	Changed int   `json:"changed"`
	Renamed int   `json:"renamed"`
	Bytes   int64 `json:"bytes"`
}

// Diff is what differs, sorted by path.
type Diff struct {
	Changes []Change
	Stat    DiffStat
	// Truncated: the limit left some out.
	Truncated bool
}

// DiffOptions say what to compare with, and how to tell it.
type DiffOptions struct {
	// To is a checkpoint; without it the disk as it is now.
	To string
	// Path: only what is at this absolute path or below it.
	Path  string
	Patch bool
	// NoRenames: what was renamed is told as removed and added.
	NoRenames bool
	// Limit is the most differences to tell, all are counted; 0 leaves it to the server.
	Limit int
}

// ended tells what the last line of a stream says about its end.
func ended(last map[string]any, what string) error {
	switch last["type"] {
	case "complete":
		return nil
	case "error":
		return fromEvent(last)
	}
	return failure(ConnectionLost, "%s ended without saying how it went", what)
}

// into reads an object again as a type of ours.
func into(raw any, value any) error {
	text, err := json.Marshal(raw)
	if err == nil {
		err = json.Unmarshal(text, value)
	}
	if err != nil {
		return caused(InvalidResponse, err, "the answer is not what was expected: %v", err)
	}
	return nil
}

// Diff tells what differs between a checkpoint and another, or the disk as it is now.
func (s *Sprite) Diff(ctx context.Context, from string, options DiffOptions) (*Diff, error) {
	query := url.Values{"from": {from}}
	for name, value := range map[string]string{"to": options.To, "path": options.Path} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if options.Patch {
		query.Set("patch", "true")
	}
	if options.NoRenames {
		query.Set("renames", "false")
	}
	if options.Limit > 0 {
		query.Set("limit", strconv.Itoa(options.Limit))
	}
	found, last := &Diff{}, map[string]any{}
	err := s.client.lines(ctx, "GET", s.path()+"/diff", query, nil, func(raw map[string]any) error {
		if last = raw; raw["type"] != "change" {
			return nil
		}
		var one Change
		err := into(raw, &one)
		found.Changes = append(found.Changes, one)
		return err
	})
	if err == nil {
		err = ended(last, "GET "+s.path()+"/diff")
	}
	if err == nil {
		found.Truncated, _ = last["truncated"].(bool)
		err = into(last["stat"], &found.Stat)
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

// AttemptOptions say how a command that can be undone is run.
type AttemptOptions struct {
	// Check decides after the command whether it succeeded: a text for the shell.
	Check string
	// DryRun: in a fork that is dropped.
	DryRun bool
	// Timeout is how long the command may take.
	Timeout   time.Duration
	Env       map[string]string
	Dir, User string
	// OnEvent, if set, hears every line as it comes.
	OnEvent func(Event)
}

// Attempt is how a command that can be undone ended.
type Attempt struct {
	// Outcome is "kept", "rolled_back", or "dropped" after a dry run.
	Outcome string `json:"outcome"`
	// ExitCode and CheckExitCode are nil of what did not run.
	ExitCode      *int   `json:"exit_code"`
	CheckExitCode *int   `json:"check_exit_code"`
	Stdout        []byte `json:"-"`
	Stderr        []byte `json:"-"`
	// Changes are what it changed, the first thousand; Stat counts all.
	Changes []Change `json:"-"`
	Stat    DiffStat `json:"stat"`
	// CheckpointID keeps the state before, ReplacedID what was rolled back.
	CheckpointID string `json:"checkpoint_id"`
	ReplacedID   string `json:"replaced_id"`
}

// Kept tells whether what the command did was kept.
func (a *Attempt) Kept() bool { return a.Outcome == "kept" }

// Attempt runs a command by the shell, then the check; unless both end with 0 the whole disk is rolled back, which ends
// every command of the sprite. A context that ends rolls back too.
func (s *Sprite) Attempt(ctx context.Context, command string, options AttemptOptions) (*Attempt, error) {
	return s.attempt(ctx, command, options)
}

// AttemptArgs is Attempt for a list of arguments.
func (s *Sprite) AttemptArgs(ctx context.Context, arguments []string, options AttemptOptions) (*Attempt, error) {
	return s.attempt(ctx, arguments, options)
}

func (s *Sprite) attempt(ctx context.Context, command any, options AttemptOptions) (*Attempt, error) {
	body := map[string]any{"command": command}
	for name, value := range map[string]string{"check": options.Check, "dir": options.Dir, "user": options.User} {
		if value != "" {
			body[name] = value
		}
	}
	if options.DryRun {
		body["dry_run"] = true
	}
	if options.Env != nil {
		body["env"] = options.Env
	}
	if options.Timeout > 0 {
		body["timeout_seconds"] = options.Timeout.Seconds()
	}
	var stdout, stderr bytes.Buffer
	done, last := &Attempt{}, map[string]any{}
	err := s.client.lines(ctx, "POST", s.path()+"/try", nil, body, func(raw map[string]any) error {
		last = raw
		switch raw["type"] {
		case "stdout":
			stdout.Write(outputOf(raw))
		case "stderr":
			stderr.Write(outputOf(raw))
		case "change":
			var one Change
			if err := into(raw["change"], &one); err != nil {
				return err
			}
			done.Changes = append(done.Changes, one)
		}
		if options.OnEvent != nil && raw["type"] != "error" {
			options.OnEvent(eventOf(raw))
		}
		return nil
	})
	if err == nil {
		err = ended(last, "POST "+s.path()+"/try")
	}
	if err == nil {
		err = into(last, done)
	}
	if err != nil {
		return nil, err
	}
	done.Stdout, done.Stderr = stdout.Bytes(), stderr.Bytes()
	return done, nil
}

func outputOf(raw map[string]any) []byte {
	if encoded, ok := raw["data_base64"].(string); ok {
		data, _ := base64.StdEncoding.DecodeString(encoded)
		return data
	}
	text, _ := raw["data"].(string)
	return []byte(text)
}

// Events gives what became of the sprite: starts, sleeps, checkpoints, restores; Raw["event"] names each. As Logs.
func (s *Sprite) Events(ctx context.Context, options LogOptions, each func(Event) error) error {
	filters := url.Values{"kind": {"system,checkpoint"}}
	for name, values := range options.Filters {
		filters[name] = values
	}
	options.Filters = filters
	return s.Logs(ctx, options, each)
}
