// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// One thing that `sprited doctor` looks at.
package struct HostCheck: Sendable, Hashable {
    package enum State: String, Sendable, Hashable {
        case ok
        /// It works with something less.
        case warning
        /// Sprites cannot run, or the named feature cannot.
        case missing
    }

    /// What is looked at, such as `cgroup memory`.
    package var name: String
    package var state: State
    /// What was found.
    package var found: String
    /// What does not work without it; empty if all is well.
    package var lost: String
    /// What to do; empty if all is well.
    package var fix: String

    package init(_ name: String, _ state: State, found: String, lost: String = "", fix: String = "") {
        self.name = name
        self.state = state
        self.found = found
        self.lost = lost
        self.fix = fix
    }
}
