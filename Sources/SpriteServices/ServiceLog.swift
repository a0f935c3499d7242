// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import SpriteDomain

/// What a service printed lately, in memory and in the file the sprite sees.
struct ServiceLog {
    private var events: [ServiceEvent] = []
    private var bytes = 0
    private let path: String?

    init(file path: String?) { self.path = path }

    mutating func append(_ event: ServiceEvent) {
        guard case .output(let stream, let text) = event.kind else { return }
        events.append(event)
        bytes += text.utf8.count
        while bytes > keptBytesMax || events.count > keptEventsMax, events.count > 1 {
            if case .output(_, let old) = events.removeFirst().kind { bytes -= old.utf8.count }
        }
        write(stream, text, event.time)
    }

    /// The newest outputs that hold this many lines.
    func last(_ lines: Int) -> [ServiceEvent] {
        var found = 0
        var first = events.endIndex
        while first > events.startIndex, found < lines {
            first -= 1
            if case .output(_, let text) = events[first].kind { found += max(1, text.utf8.count { $0 == 0x0A }) }
        }
        return Array(events[first...])
    }

    /// Lines `TIMESTAMP [stdout] text`; a file that grew too large becomes `.1`. A full tmpfs loses lines, no more.
    private mutating func write(_ stream: OutputStream, _ text: String, _ time: Timestamp) {
        guard let path else { return }
        var lines = ""
        let label = "\(timeText(time)) [\(stream == .stdout ? "stdout" : "stderr")] "
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast(text.hasSuffix("\n") ? 1 : 0)
        {
            lines += label + line + "\n"
        }
        let file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
        guard file >= 0 else { return }
        defer { close(file) }
        lines.withUTF8 { _ = Glibc.write(file, $0.baseAddress, $0.count) }
        var facts = stat()
        if fstat(file, &facts) == 0, facts.st_size > off_t(keptBytesMax) { rename(path, path + ".1") }
    }
}

private func timeText(_ time: Timestamp) -> String {
    Date(timeIntervalSince1970: Double(time.nanoseconds / 1_000_000) / 1000)
        .formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
}

private let keptBytesMax = 1 << 20
private let keptEventsMax = 10_000
