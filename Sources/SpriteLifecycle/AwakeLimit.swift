// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Synchronization

/// How many sprites may be awake at once, which means that they run or are frozen.
///
/// One that is to start when all seats are taken gets that of the frozen sprite which nobody has used for the longest
/// time; if there is none, it is refused.
package final class AwakeLimit: Sendable {
    private let max: Int?
    private let awake = Mutex<Set<SpriteID>>([])

    /// - Parameter max: Nil for no limit.
    package init(_ max: Int? = nil) { self.max = max }

    /// Takes a seat before a sprite starts.
    ///
    /// - Parameter makeRoom: Stops a sprite that is awake; false if none can be stopped.
    func admit(_ id: SpriteID, _ verb: String, makeRoom: @Sendable () async -> Bool) async throws {
        guard let max else { return }
        // Each round stops one, and others may take its seat meanwhile: not for ever.
        for _ in 0...max {
            let isIn = awake.withLock { $0.contains(id) || ($0.count < max && $0.insert(id).inserted) }
            if isIn { return }
            guard await makeRoom() else { break }
        }
        throw SpriteError(
            .concurrentSpriteLimit,
            "cannot \(verb): \(max) sprites are awake and all in use, which is the limit of this host; stop or destroy "
                + "one, or start sprited with a larger --max-awake")
    }

    /// Follows what a sprite really is; one that was found running keeps its seat even above the limit.
    func note(_ id: SpriteID, isAwake: Bool) {
        guard max != nil else { return }
        awake.withLock {
            if isAwake { $0.insert(id) } else { $0.remove(id) }
        }
    }
}

/// Why a frozen sprite is stopped before its time.
enum GivingWay: String {
    case memory
    case awakeLimit = "max_awake"

    var text: String {
        switch self {
        case .memory: "memory was short"
        case .awakeLimit: "its seat was needed"
        }
    }
}
