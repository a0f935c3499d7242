// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1

/// What a move to another version of a base did, and which of its files the sprite hides.
public typealias BaseUpgrade = API.BaseUpgrade

extension Sprite {
    /// Puts another version of its base under the sprite, which is stopped and started.
    ///
    /// The state before is kept; ``undoRestore(onProgress:)`` brings it back, with the base that it had.
    ///
    /// - Parameters:
    ///   - base: A base or a version of one, such as `debian-bookworm@2`; nil means the newest of what it has.
    ///   - isTrial: Only report.
    @discardableResult
    public func upgradeBase(to base: String? = nil, isTrial: Bool = false) async throws -> BaseUpgrade {
        try await http.call(
            .POST, path + "/base", API.UpgradeBase(base: base, isTrial: isTrial), as: BaseUpgrade.self,
            timeout: requestTimeout)
    }
}
