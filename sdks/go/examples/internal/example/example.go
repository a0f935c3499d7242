// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Package example is what the examples have in common: a sprite of their own, and ending at the first error.
package example

import (
	"context"
	"fmt"
	"log"
	"math/rand"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
)

// Must is the value, unless there is an error.
func Must[T any](value T, err error) T {
	Check(err)
	return value
}

// Check ends the program at an error.
func Check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// Name is a name that is not taken.
func Name() string { return fmt.Sprintf("example-%08x", rand.Uint32()) }

// WithSprite runs an example with a sprite that is destroyed afterwards.
func WithSprite(run func(ctx context.Context, sprite *sprites.Sprite)) {
	ctx := context.Background()
	client := Must(sprites.New(sprites.Options{}))
	defer client.Close()
	sprite := Must(client.Create(ctx, Name(), nil))
	defer func() { Check(sprite.Destroy(ctx)) }()
	run(ctx, sprite)
}
