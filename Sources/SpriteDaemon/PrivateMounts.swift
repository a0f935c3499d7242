// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Gives this process a mount namespace of its own; call first thing, while there is one thread.
///
/// Without root there is none to be had, and then no command that mounts will be let through either.
package func enterPrivateMounts() {
    guard geteuid() == 0 else { return }
    let result = clinux_private_mounts()
    guard result >= 0 else {
        complain("sprited: cannot make a mount namespace: \(errnoText(-result)); it needs CAP_SYS_ADMIN")
        exit(1)
    }
}
