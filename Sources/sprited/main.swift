// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDaemon

// Mounts are made in a namespace of this process: nothing of them is left on the host when it ends, however it ends.
// It must be entered before the first thread starts.
enterPrivateMounts()
await SpritedCommand.run()
