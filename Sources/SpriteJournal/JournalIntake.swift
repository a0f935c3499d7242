// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// How much output is recorded. What is beyond is left out, and a record says how much it was.
package struct JournalIntake: Sendable {
    /// For so long an empty bucket fills; so much more than the rate may come at once.
    static let burstSeconds: Int64 = 8
    /// After it printed too much, nothing of a session is recorded for this long: the rest is in one piece, and not one
    /// line in ten.
    static let pause: Duration = .seconds(1)
    /// The end of what is left out is recorded after all: there it says why it failed.
    static let keptBytes: Int64 = 64 << 10
    /// Whoever printed no more than this beyond its rate is recorded even if others print too much.
    static let spared: Int64 = 1 << 20
    package static let rateMin: Int64 = 64 << 10

    /// Commands, calls and events are recorded in any case.
    package var recordsOutput = true
    /// The bar is 100,000 lines of 100 bytes in a second; this is six times as much.
    package var bytesPerSecond: Int64 = 64 << 20
    package var bytesPerSecondOfSession: Int64 = 32 << 20

    package init() {}
}

/// Lets through so much a second, and more after a pause.
struct TokenBucket {
    let rate: Int64
    private var tokens: Int64
    private var filled = ContinuousClock.now

    init(rate: Int64) {
        self.rate = rate
        tokens = rate * JournalIntake.burstSeconds
    }

    var capacity: Int64 { rate * JournalIntake.burstSeconds }

    mutating func available(_ now: ContinuousClock.Instant) -> Int64 {
        let passed = max(.zero, min(now - filled, .seconds(JournalIntake.burstSeconds * 2)))
        let added = Int64(Double(rate) * (passed / .seconds(1)))
        // Time that is too short for one token is not lost.
        if added > 0 {
            tokens = min(capacity, tokens + added)
            filled = now
        }
        return max(0, tokens)
    }

    mutating func take(_ count: Int64) { tokens -= count }
}
