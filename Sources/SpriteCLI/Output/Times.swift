// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites

extension Duration {
    var milliseconds: Double {
        let parts = components
        return Double(parts.seconds) * 1000 + Double(parts.attoseconds) / 1e15
    }

    /// `6.4 ms`, `120 ms`, `3.2 s`.
    var shortText: String {
        let milliseconds = milliseconds
        return milliseconds < 100
            ? "\(rounded(milliseconds, 10)) ms"
            : milliseconds < 1000 ? "\(Int(milliseconds.rounded())) ms" : "\(rounded(milliseconds / 1000, 10)) s"
    }
}

private func rounded(_ value: Double, _ scale: Double) -> Double { (value * scale).rounded() / scale }

/// Runs something and tells how long it took.
func timed<Result>(_ body: () async throws -> Result) async throws -> (result: Result, duration: Duration) {
    let start = ContinuousClock.now
    let result = try await body()
    return (result, ContinuousClock.now - start)
}

/// `5 s ago`, `3 min ago`, `2 h ago`, `4 d ago`; the text itself if it is no time.
func ago(_ text: String?) -> String {
    guard let text, !text.isEmpty else { return "-" }
    guard let then = API.TimeText.nanoseconds(text) else { return text }
    let seconds = max(0, Int64(time(nil)) - then / 1_000_000_000)
    return switch seconds {
    case ..<60: "\(seconds) s ago"
    case ..<3600: "\(seconds / 60) min ago"
    case ..<86_400: "\(seconds / 3600) h ago"
    default: "\(seconds / 86_400) d ago"
    }
}
