// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteCLI

await SpriteProgram.main()
