// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Package sprites is the Go client of sprite-env: persistent, checkpointable Linux computers.
//
//	client, err := sprites.New(sprites.Options{})
//	sprite, err := client.Create(ctx, "my-sprite", nil)
//	text, err := sprite.Shell("ls -la").Output(ctx)
//
// A command is a value like those of os/exec: made by [Sprite.Command] or [Sprite.Shell], its fields set, then run. A
// context that ends ends the command as well.
package sprites
