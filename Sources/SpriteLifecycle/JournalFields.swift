// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

extension RecordValue {
    /// Milliseconds, rounded to microseconds.
    static func milliseconds(_ duration: Duration) -> RecordValue {
        .real((duration / .microseconds(1)).rounded() / 1000)
    }

    static func milliseconds(since start: ContinuousClock.Instant) -> RecordValue {
        milliseconds(ContinuousClock.now - start)
    }
}

extension SpriteError {
    /// What may be told of an error of any kind.
    static func sentence(_ error: any Error) -> String { (error as? SpriteError)?.message ?? "\(error)" }
}
