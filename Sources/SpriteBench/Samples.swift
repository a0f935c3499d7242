// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Durations of one operation, in milliseconds.
struct Samples: Sendable {
    private(set) var values: [Double] = []

    mutating func add(_ duration: Duration) { values.append(duration.milliseconds) }
    mutating func add(_ other: Samples) { values += other.values }
    mutating func add(milliseconds: Double) { values.append(milliseconds) }

    var median: Double { quantile(0.5) }
    var p95: Double { quantile(0.95) }

    /// By linear interpolation between the two nearest ranks.
    func quantile(_ fraction: Double) -> Double {
        guard !values.isEmpty else { return .nan }
        let sorted = values.sorted()
        let position = fraction * Double(sorted.count - 1)
        let lower = Int(position)
        guard lower + 1 < sorted.count else { return sorted[lower] }
        return sorted[lower] + (sorted[lower + 1] - sorted[lower]) * (position - Double(lower))
    }
}

extension Duration {
    var milliseconds: Double { Double(components.seconds) * 1e3 + Double(components.attoseconds) / 1e15 }
}

/// Runs `body` and says how long it took.
func timed(_ body: () async throws -> Void) async rethrows -> Duration {
    let clock = ContinuousClock()
    let start = clock.now
    try await body()
    return clock.now - start
}
