// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What runs as PID 1 in the sprites of a base.
package enum InitSystem: String, Codable, Sendable, Hashable, CaseIterable {
    /// `sprite-env init`: nothing runs but what the API starts.
    case sprite
    case systemd
    case openrc
    case s6

    /// Whether the base brings it, and `sprite-env` runs beside it.
    package var isOfBase: Bool { self != .sprite }

    package init(text: String) throws {
        guard let known = InitSystem(rawValue: text) else {
            let all = InitSystem.allCases.map(\.rawValue).joined(separator: ", ")
            throw SpriteError(.invalidRequest, "there is no init system '\(text.prefix(40))'; use one of \(all)")
        }
        self = known
    }
}
