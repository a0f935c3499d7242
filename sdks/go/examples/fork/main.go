// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Makes a second sprite from the first.
package main

import (
	"context"
	"fmt"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		Check(sprite.Files().Write(ctx, "state", []byte("shared\n"), 0o644))
		twin := Must(sprite.Fork(ctx, sprite.Name+"-twin", ""))
		defer func() { Check(twin.Destroy(ctx)) }()
		Must(twin.Command("echo other > state").Run(ctx))
		fmt.Print(string(Must(sprite.Files().Read(ctx, "state"))))
		fmt.Print(string(Must(twin.Files().Read(ctx, "state"))))
	})
}
