// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What `sprite-env` says about itself.
package enum Help {
    package static let version = "0.1.0"

    package static let text = """
        sprite-env: the program inside every sprite

        usage: sprite-env <command>

          init          run as PID 1 of a sprite; needs a listening unix socket as descriptor 3
          fs OPERATION  a file operation, for the daemon
          --version     print the version
          --help        print this text

        """

    package static func unknownCommand(_ name: String) -> String {
        "sprite-env: unknown command '\(name)'; see 'sprite-env --help'\n"
    }
}
