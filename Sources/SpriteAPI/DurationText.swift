// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// Durations as queries write them: Go's notation (`10s`, `500ms`, `1m30s`, `1.5h`) or a bare number of seconds.
    public enum DurationText {
        private static let units: [String: Double] = [
            "ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9,
        ]
        /// A hundred years, far above any use and far below overflow.
        private static let nanosecondsMax = 3_155_760_000e9

        /// The duration a text stands for; nil if it is negative, too long or no duration.
        public static func parse(_ text: String) -> Duration? {
            var rest = Substring(text)
            if rest.first == "+" { rest.removeFirst() }
            guard !rest.isEmpty else { return nil }
            var total = 0.0
            while !rest.isEmpty {
                let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
                guard digits.contains(where: \.isNumber), let value = Double(digits) else { return nil }
                let isBare = digits.count == rest.count && digits.startIndex == text.startIndex
                rest = rest.dropFirst(digits.count)
                let unit = rest.prefix { !($0.isASCII && ($0.isNumber || $0 == ".")) }
                rest = rest.dropFirst(unit.count)
                guard let scale = units[isBare ? "s" : String(unit)] else { return nil }
                total += value * scale
            }
            guard total <= nanosecondsMax else { return nil }
            return .nanoseconds(Int64(total.rounded()))
        }

        /// A text for a duration, in seconds with a fraction where needed, such as `10s` or `0.5s`.
        public static func text(_ duration: Duration) -> String {
            let parts = duration.components
            let milliseconds = parts.attoseconds / 1_000_000_000_000_000
            return milliseconds == 0
                ? "\(parts.seconds)s" : "\(Double(parts.seconds) + Double(milliseconds) / 1000)s"
        }
    }
}
