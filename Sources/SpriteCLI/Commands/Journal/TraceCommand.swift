// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct TraceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace", abstract: "Show the steps of a request as a tree, with times.",
        discussion:
            "Every answer of the server names its trace in the header traceparent; `sprite logs --json` as well.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The trace's id: 32 hexadecimal digits.")
    var id: String
    @Flag(help: "Print the trace as JSON.")
    var json = false

    func run() async throws {
        let trace = try await Context(global).client().trace(id)
        if json { return try printJSON(trace) }
        let known = Set(trace.spans.map(\.spanID))
        let begin = trace.spans.compactMap { API.TimeText.nanoseconds($0.start) }.min() ?? 0
        let children = Dictionary(grouping: trace.spans) { $0.parentID.flatMap { known.contains($0) ? $0 : nil } ?? "" }
        var lines: [(offset: Double, duration: Double, text: String)] = []
        var shown: Set<String> = []
        func show(_ span: API.Span, _ depth: Int) {
            // What a client made up may run in circles.
            guard shown.insert(span.spanID).inserted, depth < 50 else { return }
            let offset = Double((API.TimeText.nanoseconds(span.start) ?? begin) - begin) / 1e6
            var text = span.name
            if case .text(let subject) = span.attributes?["subject"] { text += " \(subject)" }
            if let error = span.error { text += "  ✗ \(error)" }
            lines.append(
                (offset, span.durationMilliseconds, String(repeating: "  ", count: depth) + text))
            for child in begun(children[span.spanID]) { show(child, depth + 1) }
        }
        for root in begun(children[""]) { show(root, 0) }
        for line in lines {
            try printLine(
                "\(milliseconds(line.offset)) \(milliseconds(line.duration)) ms  \(Table.printable(line.text))")
        }
    }

    /// In the order in which they began; they are recorded as they end.
    private func begun(_ spans: [API.Span]?) -> [API.Span] {
        func start(_ span: API.Span) -> Int64 { API.TimeText.nanoseconds(span.start) ?? 0 }
        return (spans ?? []).sorted { start($0) < start($1) }
    }

    private func milliseconds(_ value: Double) -> String {
        let text = "\((value * 100).rounded() / 100)"
        return String(repeating: " ", count: max(0, 9 - text.count)) + text
    }
}
