// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Synchronization

/// How long operations took, as cumulative histograms.
final class JournalMetrics: Sendable {
    /// Upper bounds in seconds.
    static let bounds: [Double] = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
    ]
    /// Names are ours, so there are few; this keeps a mistake from taking memory.
    private static let namesMax = 200

    struct Histogram {
        var counts = [UInt64](repeating: 0, count: JournalMetrics.bounds.count + 1)
        var sum = 0.0
        var failures: UInt64 = 0
    }

    private let histograms = Mutex<[String: Histogram]>([:])
    private let counters = Mutex<[String: UInt64]>([:])

    func observe(_ span: JournalSpan) {
        let seconds = Double(span.duration.nanoseconds) / 1e9
        let place = JournalMetrics.bounds.firstIndex { seconds <= $0 } ?? JournalMetrics.bounds.count
        histograms.withLock { histograms in
            guard histograms[span.name] != nil || histograms.count < JournalMetrics.namesMax else { return }
            histograms[span.name, default: Histogram()].counts[place] += 1
            histograms[span.name]?.sum += seconds
            if span.error != nil { histograms[span.name]?.failures += 1 }
        }
    }

    func count(_ name: String, _ number: Int = 1) {
        counters.withLock { $0[name, default: 0] += UInt64(clamping: number) }
    }

    func counter(_ name: String) -> UInt64 { counters.withLock { $0[name] ?? 0 } }

    /// In the text format of Prometheus.
    var text: String {
        var text = """
            # HELP sprited_operation_duration_seconds How long operations took, by name.
            # TYPE sprited_operation_duration_seconds histogram

            """
        let histograms = histograms.withLock { $0 }
        for (name, histogram) in histograms.sorted(by: { $0.key < $1.key }) {
            var total: UInt64 = 0
            for (index, count) in histogram.counts.enumerated() {
                total += count
                let bound = index < JournalMetrics.bounds.count ? "\(JournalMetrics.bounds[index])" : "+Inf"
                text += "sprited_operation_duration_seconds_bucket{operation=\"\(name)\",le=\"\(bound)\"} \(total)\n"
            }
            text += "sprited_operation_duration_seconds_sum{operation=\"\(name)\"} \(histogram.sum)\n"
            text += "sprited_operation_duration_seconds_count{operation=\"\(name)\"} \(total)\n"
        }
        text += """
            # HELP sprited_operation_failures_total Operations that failed, by name.
            # TYPE sprited_operation_failures_total counter

            """
        for (name, histogram) in histograms.sorted(by: { $0.key < $1.key }) {
            text += "sprited_operation_failures_total{operation=\"\(name)\"} \(histogram.failures)\n"
        }
        return text
    }
}
