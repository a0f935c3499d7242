// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Work that keeps a sprite awake although nobody is connected to it, until it expires or is ended.
package struct SpriteTask: Sendable, Hashable {
    package var name: String
    package var startedAt: Timestamp
    package var expiresAt: Timestamp

    package init(name: String, startedAt: Timestamp, expiresAt: Timestamp) {
        self.name = name
        self.startedAt = startedAt
        self.expiresAt = expiresAt
    }

    /// Throws `.invalidRequest` with the rule: 1 to 100 letters, digits, `.`, `_`, `-`, `:` and `@`.
    package static func checkedName(_ name: String) throws -> String {
        let allowed = name.utf8.allSatisfy {
            (0x30...0x3A).contains($0) || (0x40...0x5A).contains($0) || (0x61...0x7A).contains($0)
                || $0 == 0x2D || $0 == 0x5F || $0 == 0x2E
        }
        guard (1...Limits.taskNameBytesMax).contains(name.utf8.count), allowed, name.first != "." else {
            throw SpriteError(
                .invalidRequest,
                "invalid task name: use 1 to \(Limits.taskNameBytesMax) letters, digits, '.', '_', '-', ':' and '@', "
                    + "not beginning with '.'")
        }
        return name
    }
}
