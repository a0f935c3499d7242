// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// `sprite-env logs` without a service: everything that is recorded about this sprite.
enum Journal {
    static func run(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(
            arguments, options: ["--lines", "-n", "--since", "--grep", "--kind"], flags: ["--follow", "-f", "--raw"])
        try arguments.none()
        let isRaw = arguments.has("--raw")
        var query = "limit=\(encoded(arguments.value("--lines", "-n") ?? "100"))"
        for (option, name) in [("--since", "since"), ("--grep", "q"), ("--kind", "kind")] {
            if let value = arguments.value(option) { query += "&\(name)=\(encoded(value))" }
        }
        if arguments.has("--follow") || arguments.has("-f") {
            try SpriteRequest("GET", "/v1/logs?\(query)&follow=true").checked().eachLine { record, bytes in
                put(arguments.isJSON ? bytes + [0x0A] : Array(line(record, isRaw).utf8))
            }
            return 0
        }
        let bytes = try SpriteRequest("GET", "/v1/logs?\(query)").checked().all()
        if arguments.isJSON {
            put(bytes + [0x0A])
            return 0
        }
        // The newest are asked for, and shown last. A search that finds little comes in several pages.
        var page = try JSONValue.parse(bytes)
        var records = page["records"]?.items ?? []
        let wanted = Int(arguments.value("--lines", "-n") ?? "100") ?? 100
        while records.count < wanted, page["has_more"]?.shown == "true", let cursor = page["next_cursor"]?.text {
            page = try JSONValue.parse(
                try SpriteRequest("GET", "/v1/logs?\(query)&cursor=\(encoded(cursor))").checked().all())
            records += page["records"]?.items ?? []
        }
        for record in records.prefix(wanted).reversed() { put(line(record, isRaw)) }
        return 0
    }

    /// `TIME  SOURCE  text`; lines that only keep the connection alive have no text.
    private static func line(_ record: JSONValue, _ isRaw: Bool) -> String {
        guard let text = record["text"]?.text else { return "" }
        let source = record["service"]?.text ?? record["stream"]?.text ?? record["event"]?.text ?? record["kind"]?.text
        return "\(record["time"]?.text ?? "")  \(source ?? "")  \(shown(text, isRaw: isRaw))\n"
    }
}
