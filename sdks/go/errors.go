// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Code names a kind of error; it is stable.
type Code string

// The codes of the server, and those of this package. File operations have the names of POSIX errors, such as EACCES.
const (
	InvalidRequest  Code = "invalid_request"
	Unauthorized    Code = "unauthorized"
	NotFound        Code = "not_found"
	Gone            Code = "gone"
	Conflict        Code = "conflict"
	AlreadyExists   Code = "already_exists"
	RateLimited     Code = "limit_reached"
	NoSpace         Code = "no_space"
	Unsupported     Code = "unsupported"
	Unavailable     Code = "unavailable"
	Internal        Code = "internal"
	InvalidResponse Code = "invalid_response"
	CannotConnect   Code = "cannot_connect"
	ConnectionLost  Code = "connection_lost"
	Timeout         Code = "timeout"
	CommandFailed   Code = "command_failed"
	CommandEnded    Code = "command_ended"
	OutputLimit     Code = "output_limit"
	Canceled        Code = "canceled"
)

var remedies = map[Code]string{
	Unauthorized:  "give the token of 'sprited token', or set SPRITE_TOKEN",
	AlreadyExists: "take another name, or get the one that is there",
	RateLimited:   "wait as long as RetryAfter says",
	NoSpace:       "delete sprites or checkpoints",
	Unavailable:   "try again when the server runs",
	Internal:      "look for the request id in the server's log",
	CannotConnect: "check the address and that the server runs",
	OutputLimit:   "read the output as a stream, or raise OutputLimit",
	Gone:          "it has ended; start it again",
}

// Error is what went wrong: every error of this package is one, or wraps one. Compare codes with errors.Is:
//
//	if errors.Is(err, sprites.NotFound) { … }
type Error struct {
	Code    Code
	Message string
	// Status is the HTTP status, when the server answered with one.
	Status int
	// RequestID is the server's name for the request, to be found in its log.
	RequestID string
	// Remedy says what to do about it.
	Remedy string
	// RetryAfter is how long to wait before another attempt, when the server said so.
	RetryAfter time.Duration
	// MayBeRunning is set where what was asked for may still run, or may have been done.
	MayBeRunning bool
	// SessionID is the session of the command the error is about; [Sprite.Attach] comes back to it.
	SessionID string
	// Path is the file an error of a file operation is about.
	Path string
	// Result has the exit code and output of a command that failed or ran out of time.
	Result *Result
	// Cause is what caused it, if something else did.
	Cause error
}

// Error says what went wrong and what to do.
func (e *Error) Error() string {
	if e.Remedy != "" {
		return e.Message + " (" + e.Remedy + ")"
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is compares codes. A missing file is fs.ErrNotExist as well, and so on.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Code == "ENOENT"
	case fs.ErrPermission:
		return e.Code == "EACCES" || e.Code == "EPERM"
	case fs.ErrExist:
		return e.Code == "EEXIST"
	}
	code, ok := target.(Code)
	return ok && (e.Code == code || code == NotFound && (e.Code == Gone || e.Code == "ENOENT") ||
		code == Conflict && e.Code == AlreadyExists || code == RateLimited && e.Status == http.StatusTooManyRequests)
}

// Error makes a code something that errors.Is can be asked for.
func (c Code) Error() string { return string(c) }

func failure(code Code, format string, values ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, values...), Remedy: remedies[code]}
}

func caused(code Code, cause error, format string, values ...any) *Error {
	e := failure(code, format, values...)
	e.Cause = cause
	return e
}

var statusCodes = map[int]Code{
	400: InvalidRequest, 401: Unauthorized, 403: Unauthorized, 404: NotFound, 405: InvalidRequest, 409: Conflict,
	410: Gone, 413: InvalidRequest, 426: InvalidRequest, 429: RateLimited, 500: Internal, 501: Unsupported,
	502: Unavailable, 503: Unavailable, 504: Timeout, 507: NoSpace,
}

type errorBody struct {
	Error      string `json:"error"`
	Message    string `json:"message"`
	Code       string `json:"code"`
	Path       string `json:"path"`
	RetryAfter int    `json:"retry_after_seconds"`
}

// fromResponse is the error that an answer tells.
func fromResponse(status int, header http.Header, body []byte) *Error {
	var fields errorBody
	_ = json.Unmarshal(body, &fields) // The text is the message then.
	e := &Error{Status: status, RequestID: header.Get("X-Request-Id")}
	if fields.Code != "" && fields.Path != "" {
		e.Code, e.Path, e.Message = Code(fields.Code), fields.Path, fields.Path+": "+fields.Error
		return e
	}
	e.Code, e.Message = Code(fields.Error), fields.Message
	if e.Code == "" {
		if e.Code = statusCodes[status]; e.Code == "" {
			e.Code = "error"
		}
	}
	if e.Message == "" {
		if e.Message = strings.TrimSpace(string(body)); e.Message == "" || len(e.Message) > 2000 {
			e.Message = fmt.Sprintf("the server answered with status %d", status)
		}
	}
	if e.Remedy = remedies[e.Code]; e.Remedy == "" && status == http.StatusTooManyRequests {
		e.Remedy = remedies[RateLimited] // There are several limits, each with a code of its own.
	}
	if seconds, err := strconv.ParseFloat(header.Get("Retry-After"), 64); err == nil {
		e.RetryAfter = time.Duration(seconds * float64(time.Second))
	} else if fields.RetryAfter > 0 {
		e.RetryAfter = time.Duration(fields.RetryAfter) * time.Second
	}
	return e
}

// fromEvent is the error that a stream's last line tells.
func fromEvent(event map[string]any) *Error {
	text := func(key string) string { value, _ := event[key].(string); return value }
	e := &Error{Code: Code(text("code")), Message: text("error")}
	if e.Code == "" {
		e.Code = "failed"
	}
	for _, key := range []string{"data", "message"} {
		if e.Message == "" {
			e.Message = text(key)
		}
	}
	if e.Message == "" {
		e.Message = "the operation failed"
	}
	e.Remedy = remedies[e.Code]
	return e
}

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
