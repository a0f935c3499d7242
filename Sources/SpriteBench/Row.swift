// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// One line of the table: an operation, what it took, and what it may take.
struct Row: Sendable {
    var name: String
    var unit = "ms"
    var samples: Samples
    /// The raw operation it stands beside, such as `snapshot ioctl`, and what that took.
    var rawName: String?
    var raw: Samples?
    var bars: [Bar]
    /// What a reader of the table should know besides.
    var note: String?
    /// False if what was to be measured did not take place; the row then fails, whatever its figures.
    var isMeasured = true

    init(_ name: String, _ samples: Samples, raw: (name: String, samples: Samples)? = nil, bars: [Bar]) {
        self.name = name
        self.samples = samples
        rawName = raw?.name
        self.raw = raw?.samples
        self.bars = bars
    }

    var passes: Bool { isMeasured && bars.allSatisfy { $0.passes(samples.median) } }
}

/// A limit for the median.
struct Bar: Sendable {
    enum Direction: Sendable { case atMost, atLeast }
    var direction: Direction
    var limit: Double
    /// How the limit came about, such as `2.5 × raw`.
    var text: String

    static func atMost(_ limit: Double, _ text: String = "") -> Bar {
        Bar(direction: .atMost, limit: limit, text: text)
    }
    static func atLeast(_ limit: Double, _ text: String = "") -> Bar {
        Bar(direction: .atLeast, limit: limit, text: text)
    }

    func passes(_ value: Double) -> Bool {
        switch direction {
        case .atMost: value <= limit
        case .atLeast: value >= limit
        }
    }
}
