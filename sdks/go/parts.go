// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"
	"time"
)

func decode(from io.Reader, into any) error {
	if err := json.NewDecoder(from).Decode(into); err != nil {
		return caused(InvalidResponse, err, "the answer is not what was expected: %v", err)
	}
	return nil
}

// Event is a line of a stream: of a checkpoint, a service or the journal.
type Event struct {
	Type string
	// Data is what is for people.
	Data string
	Raw  map[string]any
}

func eventOf(raw map[string]any) Event {
	e := Event{Raw: raw}
	e.Type, _ = raw["type"].(string)
	if e.Type == "" {
		e.Type, _ = raw["kind"].(string)
	}
	for _, key := range []string{"data", "message", "text"} {
		if e.Data == "" {
			e.Data, _ = raw[key].(string)
		}
	}
	return e
}

// Checkpoint is a copy of a sprite's disk at one moment.
type Checkpoint struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"create_time"`
	Comment  string    `json:"comment"`
	SourceID string    `json:"source_id"`
	IsAuto   bool      `json:"is_auto"`
}

// Checkpoints are the checkpoints of a sprite.
type Checkpoints struct {
	sprite *Sprite
	// OnProgress, if set, hears how it goes.
	OnProgress func(Event)
}

// Checkpoints gives the checkpoints of a sprite.
func (s *Sprite) Checkpoints() *Checkpoints { return &Checkpoints{sprite: s} }

func (c *Checkpoints) of(id string) string {
	return c.sprite.path() + "/checkpoints/" + url.PathEscape(id)
}

func (c *Checkpoints) last(ctx context.Context, path string, send any) (map[string]any, error) {
	var last map[string]any
	err := c.sprite.client.lines(ctx, "POST", path, nil, send, func(event map[string]any) error {
		if event["type"] == "error" {
			return fromEvent(event)
		}
		if c.OnProgress != nil {
			c.OnProgress(eventOf(event))
		}
		if event["type"] == "complete" {
			last = event
		}
		return nil
	})
	if err == nil && last == nil {
		e := failure(ConnectionLost, "POST %s ended without saying how it went", path)
		e.MayBeRunning = true
		err = e
	}
	return last, err
}

// Create takes a checkpoint; the sprite keeps running.
func (c *Checkpoints) Create(ctx context.Context, comment string) (*Checkpoint, error) {
	body := map[string]any{}
	if comment != "" {
		body["comment"] = comment
	}
	last, err := c.last(ctx, c.sprite.path()+"/checkpoint", body)
	if err != nil {
		return nil, err
	}
	id, _ := last["checkpoint_id"].(string)
	return c.Get(ctx, id)
}

// List gives all checkpoints, newest first.
func (c *Checkpoints) List(ctx context.Context, includeAuto bool) ([]Checkpoint, error) {
	query := url.Values{}
	if includeAuto {
		query.Set("includeAuto", "true")
	}
	var list []Checkpoint
	err := c.sprite.client.call(ctx, "GET", c.sprite.path()+"/checkpoints", query, nil, &list)
	return list, err
}

// Get gives a checkpoint.
func (c *Checkpoints) Get(ctx context.Context, id string) (*Checkpoint, error) {
	one := &Checkpoint{}
	return one, orNil(&one, c.sprite.client.call(ctx, "GET", c.of(id), nil, nil, one))
}

// Delete deletes a checkpoint.
func (c *Checkpoints) Delete(ctx context.Context, id string) error {
	return c.sprite.client.call(ctx, "DELETE", c.of(id), nil, nil, nil)
}

// Restored is what a restore did; ReplacedID is the automatic checkpoint of the state it replaced.
type Restored struct{ ID, ReplacedID string }

func restoredOf(last map[string]any, err error) (Restored, error) {
	var r Restored
	r.ID, _ = last["checkpoint_id"].(string)
	r.ReplacedID, _ = last["replaced_id"].(string)
	return r, err
}

// Restore puts the disk back. Commands that run end; what is replaced is kept as an automatic checkpoint.
func (c *Checkpoints) Restore(ctx context.Context, id string) (Restored, error) {
	return restoredOf(c.last(ctx, c.of(id)+"/restore", nil))
}

// Undo brings back what the last restore replaced.
func (c *Checkpoints) Undo(ctx context.Context) (Restored, error) {
	return restoredOf(c.last(ctx, c.sprite.path()+"/restore/undo", nil))
}

// Service is a command that a sprite keeps running.
type Service struct {
	Name  string   `json:"name"`
	Cmd   string   `json:"cmd"`
	Args  []string `json:"args"`
	Needs []string `json:"needs"`
	// HTTPPort is the port that the sprite's URL leads to; 0 if none.
	HTTPPort int               `json:"http_port,omitempty"`
	Env      map[string]string `json:"env,omitempty"`
	Dir      string            `json:"dir,omitempty"`
	// State is how it is; not sent.
	State ServiceState `json:"state"`
}

// ServiceState is how a service is.
type ServiceState struct {
	Status       string `json:"status"`
	RestartCount int    `json:"restart_count"`
	Error        string `json:"error"`
}

// Services are the services of a sprite.
type Services struct {
	sprite *Sprite
	// Follow is how long to follow a service that was started before the answer ends.
	Follow time.Duration
}

// Services gives the services of a sprite.
func (s *Sprite) Services() *Services { return &Services{sprite: s} }

func (s *Services) of(name string) string {
	return s.sprite.path() + "/services/" + url.PathEscape(name)
}

func (s *Services) events(ctx context.Context, method, path string, query url.Values, send any) ([]Event, error) {
	var events []Event
	err := s.sprite.client.lines(ctx, method, path, query, send, func(raw map[string]any) error {
		events = append(events, eventOf(raw))
		return nil
	})
	return events, err
}

func (s *Services) follow() url.Values { return url.Values{"duration": {durationText(s.Follow)}} }

// Create defines or replaces a service, starts it and gives what it did.
func (s *Services) Create(ctx context.Context, service Service) ([]Event, error) {
	body := map[string]any{"cmd": service.Cmd, "args": service.Args, "needs": service.Needs}
	if service.Args == nil {
		body["args"] = []string{}
	}
	if service.Needs == nil {
		body["needs"] = []string{}
	}
	if service.HTTPPort != 0 {
		body["http_port"] = service.HTTPPort
	}
	if service.Env != nil {
		body["env"] = service.Env
	}
	if service.Dir != "" {
		body["dir"] = service.Dir
	}
	return s.events(ctx, "PUT", s.of(service.Name), s.follow(), body)
}

// List gives all services, in the order of their names.
func (s *Services) List(ctx context.Context) ([]Service, error) {
	var list []Service
	err := s.sprite.client.call(ctx, "GET", s.sprite.path()+"/services", nil, nil, &list)
	return list, err
}

// Get gives a service and its state.
func (s *Services) Get(ctx context.Context, name string) (*Service, error) {
	one := &Service{}
	return one, orNil(&one, s.sprite.client.call(ctx, "GET", s.of(name), nil, nil, one))
}

// Start starts a service, and what it needs.
func (s *Services) Start(ctx context.Context, name string) ([]Event, error) {
	return s.events(ctx, "POST", s.of(name)+"/start", s.follow(), nil)
}

// Restart stops a service and starts it again.
func (s *Services) Restart(ctx context.Context, name string) ([]Event, error) {
	return s.events(ctx, "POST", s.of(name)+"/restart", s.follow(), nil)
}

// Stop stops a service until it is started again: SIGTERM, after the timeout SIGKILL.
func (s *Services) Stop(ctx context.Context, name string, timeout time.Duration) ([]Event, error) {
	return s.events(ctx, "POST", s.of(name)+"/stop", url.Values{"timeout": {durationText(timeout)}}, nil)
}

// Delete stops a service and forgets it.
func (s *Services) Delete(ctx context.Context, name string) error {
	return s.sprite.client.call(ctx, "DELETE", s.of(name), nil, nil, nil)
}

// Signal signals the process group of a service.
func (s *Services) Signal(ctx context.Context, name, signal string) error {
	body := map[string]any{"name": name, "signal": signal}
	return s.sprite.client.call(ctx, "POST", s.sprite.path()+"/services/signal", nil, body, nil)
}

// ErrStop ends a stream early when the function that takes its events returns it.
var ErrStop = errors.New("enough")

// Logs gives the last lines a service printed, then for a while what it prints.
func (s *Services) Logs(
	ctx context.Context, name string, lines int, follow time.Duration, each func(Event) error,
) error {
	query := url.Values{"lines": {strconv.Itoa(lines)}}
	if follow > 0 {
		query.Set("duration", durationText(follow))
	}
	err := s.sprite.client.lines(ctx, "GET", s.of(name)+"/logs", query, nil, func(raw map[string]any) error {
		return each(eventOf(raw))
	})
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// Rule is a rule of the network policy: either Domain with Action "allow" or "deny", or Include "defaults".
type Rule struct {
	Domain  string `json:"domain,omitempty"`
	Action  string `json:"action,omitempty"`
	Include string `json:"include,omitempty"`
}

type policyBody struct {
	Rules []Rule `json:"rules"`
}

// Policy gives the rules of the network policy; none means that everything is allowed.
func (s *Sprite) Policy(ctx context.Context) ([]Rule, error) {
	var body policyBody
	err := s.client.call(ctx, "GET", s.path()+"/policy/network", nil, nil, &body)
	return body.Rules, err
}

// SetPolicy replaces the rules of the network policy.
func (s *Sprite) SetPolicy(ctx context.Context, rules []Rule) error {
	if rules == nil {
		rules = []Rule{}
	}
	return s.client.call(ctx, "POST", s.path()+"/policy/network", nil, policyBody{rules}, nil)
}

// Secret is carried by a sprite's HTTPS requests to one host; the server never tells its value.
type Secret struct {
	ID   string `json:"id"`
	Host string `json:"host"`
	// Header carries it; empty when setting: authorization.
	Header string `json:"header"`
	// Format is what the header says, with {} in the place of the value. Empty when setting: "Bearer {}" in
	// authorization, the value alone in another header.
	Format  string    `json:"format"`
	Created time.Time `json:"created_at"`
	// LastUsed is to the minute; zero if no request carried it yet.
	LastUsed time.Time `json:"last_used_at"`
}

// Secrets gives the secrets that the sprite's requests carry, without their values.
func (s *Sprite) Secrets(ctx context.Context) ([]Secret, error) {
	var body struct{ Secrets []Secret }
	err := s.client.call(ctx, "GET", s.path()+"/secrets", nil, nil, &body)
	return body.Secrets, err
}

// SetSecret gives the sprite a secret that its requests carry and nothing inside can read, or replaces the one with this ID.
func (s *Sprite) SetSecret(ctx context.Context, secret Secret, value string) error {
	body := map[string]string{"host": secret.Host, "value": value}
	if secret.Header != "" {
		body["header"] = secret.Header
	}
	if secret.Format != "" {
		body["format"] = secret.Format
	}
	return s.client.call(ctx, "PUT", s.path()+"/secrets/"+url.PathEscape(secret.ID), nil, body, nil)
}

// RemoveSecret takes a secret away; connections that carry it are cut.
func (s *Sprite) RemoveSecret(ctx context.Context, id string) error {
	return s.client.call(ctx, "DELETE", s.path()+"/secrets/"+url.PathEscape(id), nil, nil, nil)
}

// LogOptions narrow the journal.
type LogOptions struct {
	// Follow goes on with what is recorded from now on, through lost connections too.
	Follow bool
	// Cursor begins behind a record; its Raw has the cursor.
	Cursor string
	// Filters are sent as they are.
	Filters url.Values
}

// Logs gives the sprite's journal, oldest first, to a function.
func (s *Sprite) Logs(ctx context.Context, options LogOptions, each func(Event) error) error {
	err := s.logs(ctx, options, each)
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

func (s *Sprite) logs(ctx context.Context, options LogOptions, each func(Event) error) error {
	cursor, path := options.Cursor, s.path()+"/logs"
	query := func(name, value string) url.Values {
		query := url.Values{name: {value}}
		for name, values := range options.Filters {
			query[name] = values
		}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		return query
	}
	for more := !options.Follow; more; {
		var page struct {
			Records []map[string]any `json:"records"`
			HasMore bool             `json:"has_more"`
			Next    string           `json:"next_cursor"`
		}
		if err := s.client.call(ctx, "GET", path, query("order", "asc"), nil, &page); err != nil {
			return err
		}
		for _, record := range page.Records {
			if err := each(eventOf(record)); err != nil {
				return err
			}
		}
		cursor, more = page.Next, page.HasMore && page.Next != ""
	}
	wait, failures, wasThere := 100*time.Millisecond, 0, false
	for options.Follow {
		err := s.client.lines(ctx, "GET", path, query("follow", "true"), nil, func(raw map[string]any) error {
			wait, failures = 100*time.Millisecond, 0
			if text, ok := raw["cursor"].(string); ok {
				cursor = text
			}
			// A line without an id only says that the connection lives.
			if _, ok := raw["id"]; !ok {
				return nil
			}
			return each(eventOf(raw))
		})
		// Nothing was given yet if there is no cursor: the same question again loses nothing, if the server was there.
		wasThere = wasThere || cursor != "" || errors.Is(err, ConnectionLost)
		if failures++; err != nil && (!isPassing(err) || !wasThere || failures > 20) {
			return err
		}
		// The server ends a stream when it stops; the next one goes on behind the last record.
		select {
		case <-ctx.Done():
			return s.client.contextError(ctx, "GET "+path)
		case <-time.After(wait):
			wait = min(wait*2, 2*time.Second)
		}
	}
	return nil
}
