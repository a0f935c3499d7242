// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// Limits say what a sprite may use; nil leaves the server's default, 0 means no limit.
type Limits struct {
	RAMMB              *int     `json:"ram_mb,omitempty"`
	CPUs               *float64 `json:"cpus,omitempty"`
	PIDs               *int     `json:"pids,omitempty"`
	FreezeAfterSeconds *int     `json:"freeze_after_seconds,omitempty"`
	StopAfterSeconds   *int     `json:"stop_after_seconds,omitempty"`
}

// Info is a sprite as the server described it.
type Info struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Status      string            `json:"status"`
	URL         string            `json:"url"`
	Labels      []string          `json:"labels"`
	Environment map[string]string `json:"environment"`
	Version     string            `json:"version"`
	CreatedAt   time.Time         `json:"created_at"`
}

// Sprite is a persistent computer.
type Sprite struct {
	Name string
	// Info is as the server described it last; nil for a handle that has not asked.
	Info   *Info
	client *Client
}

// CreateOptions are what a new sprite is given.
type CreateOptions struct {
	Labels      []string
	Environment map[string]string
	Limits      *Limits
	Base        string
	// URLAuth is "sprite" or "public".
	URLAuth string
}

func spritePath(name string) string { return "/v1/sprites/" + url.PathEscape(name) }

func (s *Sprite) path() string { return spritePath(s.Name) }

type urlSettings struct {
	Auth string `json:"auth"`
}

func authOf(auth string) *urlSettings {
	if auth == "" {
		return nil
	}
	return &urlSettings{auth}
}

// Create creates a sprite; it can be used at once. The options may be nil.
func (c *Client) Create(ctx context.Context, name string, options *CreateOptions) (*Sprite, error) {
	if options == nil {
		options = &CreateOptions{}
	}
	body := struct {
		Name        string            `json:"name"`
		Labels      []string          `json:"labels,omitempty"`
		Environment map[string]string `json:"environment,omitempty"`
		Config      *Limits           `json:"config,omitempty"`
		Base        string            `json:"base,omitempty"`
		URL         *urlSettings      `json:"url_settings,omitempty"`
	}{name, options.Labels, options.Environment, options.Limits, options.Base, authOf(options.URLAuth)}
	sprite := &Sprite{Name: name, Info: &Info{}, client: c}
	return sprite, orNil(&sprite, c.call(ctx, "POST", "/v1/sprites", nil, body, sprite.Info))
}

// orNil takes the value back if there is an error.
func orNil[T any](value **T, err error) error {
	if err != nil {
		*value = nil
	}
	return err
}

// Get gives the sprite of this name; an error with the code NotFound if there is none.
func (c *Client) Get(ctx context.Context, name string) (*Sprite, error) {
	sprite := c.Sprite(name)
	if err := sprite.Refresh(ctx); err != nil {
		return nil, err
	}
	return sprite, nil
}

// Sprite is a handle on the sprite of this name; nothing is asked of the server.
func (c *Client) Sprite(name string) *Sprite { return &Sprite{Name: name, client: c} }

// ListOptions narrow a list.
type ListOptions struct {
	Prefix string
	// PageSize is how many are asked for at once: 50 if 0.
	PageSize int
}

// Iterator goes through sprites, page by page:
//
//	for list := client.List(ctx, sprites.ListOptions{}); list.Next(); { … list.Sprite() … }
type Iterator struct {
	ctx     context.Context
	client  *Client
	options ListOptions
	page    []*Info
	token   string
	isLast  bool
	sprite  *Sprite
	err     error
}

// List goes through all sprites in the order of their names.
func (c *Client) List(ctx context.Context, options ListOptions) *Iterator {
	return &Iterator{ctx: ctx, client: c, options: options}
}

// Next goes on; false at the end or at an error.
func (i *Iterator) Next() bool {
	for len(i.page) == 0 {
		if i.isLast || i.err != nil {
			return false
		}
		query := url.Values{}
		if i.options.PageSize > 0 {
			query.Set("max_results", strconv.Itoa(i.options.PageSize))
		}
		if i.options.Prefix != "" {
			query.Set("prefix", i.options.Prefix)
		}
		if i.token != "" {
			query.Set("continuation_token", i.token)
		}
		var page struct {
			Sprites []*Info `json:"sprites"`
			HasMore bool    `json:"has_more"`
			Token   string  `json:"next_continuation_token"`
		}
		if i.err = i.client.call(i.ctx, "GET", "/v1/sprites", query, nil, &page); i.err != nil {
			return false
		}
		i.page, i.token, i.isLast = page.Sprites, page.Token, !page.HasMore || page.Token == ""
	}
	i.sprite = &Sprite{Name: i.page[0].Name, Info: i.page[0], client: i.client}
	i.page = i.page[1:]
	return true
}

// Sprite is the one that Next went to.
func (i *Iterator) Sprite() *Sprite { return i.sprite }

// Err is what ended the iteration early.
func (i *Iterator) Err() error { return i.err }

// Refresh asks the server again.
func (s *Sprite) Refresh(ctx context.Context) error {
	info := &Info{}
	if err := s.client.call(ctx, "GET", s.path(), nil, nil, info); err != nil {
		return err
	}
	s.Info = info
	return nil
}

// Changes are what Update changes; what is nil or empty stays as it is.
type Changes struct {
	// Labels replaces the labels; an empty list that is not nil takes them away.
	Labels  []string
	Limits  *Limits
	URLAuth string
}

// Update changes a sprite.
func (s *Sprite) Update(ctx context.Context, changes Changes) error {
	body := map[string]any{}
	if changes.Labels != nil {
		body["labels"] = changes.Labels
	}
	if changes.Limits != nil {
		body["config"] = changes.Limits
	}
	if changes.URLAuth != "" {
		body["url_settings"] = urlSettings{changes.URLAuth}
	}
	info := &Info{}
	if err := s.client.call(ctx, "PUT", s.path(), nil, body, info); err != nil {
		return err
	}
	s.Info = info
	return nil
}

// Destroy destroys a sprite with all its checkpoints.
func (s *Sprite) Destroy(ctx context.Context) error {
	err := s.client.call(ctx, "DELETE", s.path(), nil, nil, nil)
	if err == nil {
		s.client.pool.forget(s.Name)
	}
	return err
}

// Fork makes a new sprite from a checkpoint, or, with "", from the disk as it is now.
func (s *Sprite) Fork(ctx context.Context, name, checkpoint string) (*Sprite, error) {
	body := map[string]any{"name": name}
	if checkpoint != "" {
		body["checkpoint"] = checkpoint
	}
	fork := &Sprite{Name: name, Info: &Info{}, client: s.client}
	return fork, orNil(&fork, s.client.call(ctx, "POST", s.path()+"/fork", nil, body, fork.Info))
}

// Session is a command that runs.
type Session struct {
	ID        string    `json:"id"`
	Command   string    `json:"command"`
	Directory string    `json:"workdir"`
	TTY       bool      `json:"tty"`
	Created   time.Time `json:"created"`
}

// Sessions are the commands that run.
func (s *Sprite) Sessions(ctx context.Context) ([]Session, error) {
	var body struct {
		Sessions []Session `json:"sessions"`
	}
	err := s.client.call(ctx, "GET", s.path()+"/exec", nil, nil, &body)
	return body.Sessions, err
}

// Attach comes back to a command that runs: what it printed comes first. Detach or Close it when done.
func (s *Sprite) Attach(ctx context.Context, sessionID string) (*Process, error) {
	path := s.path() + "/exec/" + url.PathEscape(sessionID)
	socket, err := s.client.pool.direct(ctx, path, nil)
	// The session outlives the server: whoever was cut off attaches while it starts again.
	for attempt := 0; err != nil && isPassing(err) && attempt < len(readWaits); attempt++ {
		select {
		case <-ctx.Done():
			return nil, s.client.contextError(ctx, "the session")
		case <-time.After(readWaits[attempt]):
		}
		socket, err = s.client.pool.direct(ctx, path, nil)
	}
	if err != nil {
		return nil, err
	}
	e, b := s.client.newExecution(s.Name, socket, false), newBuffers()
	e.sessionID, e.sink = sessionID, b.feed
	socket.use(e)
	socket.start()
	stop := context.AfterFunc(ctx, func() { e.abandon(false, s.client.contextError(ctx, "the session")) })
	go func() { <-e.done; stop() }()
	return newProcess(e, b, 0, true), nil
}

// Kill signals a command; SIGKILL follows after the timeout. It gives the exit code, or -1 if the command goes on.
func (s *Sprite) Kill(ctx context.Context, sessionID, signal string, timeout time.Duration) (int, error) {
	query := url.Values{"signal": {signal}, "timeout": {durationText(timeout)}}
	code, last := -1, map[string]any{}
	path := s.path() + "/exec/" + url.PathEscape(sessionID) + "/kill"
	err := s.client.lines(ctx, "POST", path, query, nil, func(event map[string]any) error {
		last = event
		return nil
	})
	if err != nil {
		return -1, err
	}
	if last["type"] == "error" {
		return -1, fromEvent(last)
	}
	if value, ok := last["exit_code"].(float64); ok {
		code = int(value)
	}
	return code, nil
}
