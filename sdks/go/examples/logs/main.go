// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Follows what a service prints.
package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		services := sprite.Services()
		script := "for i in 1 2 3; do echo tick $i; sleep 0.2; done; sleep 60"
		Must(services.Create(ctx, sprites.Service{Name: "ticker", Cmd: "sh", Args: []string{"-c", script}}))
		seen := 0
		Check(services.Logs(ctx, "ticker", 100, 30*time.Second, func(event sprites.Event) error {
			if event.Type == "stdout" {
				fmt.Print(event.Data)
				seen += strings.Count(event.Data, "\n")
			}
			if seen == 3 {
				return sprites.ErrStop
			}
			return nil
		}))
	})
}
