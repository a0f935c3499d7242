// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// The commands of people and agents inside a sprite: each is a request or two to the sprite's API.
package enum ClientCommand {
    package static let names: Set<String> = [
        "checkpoints", "checkpoint", "restore", "undo", "services", "service", "tasks", "task", "logs", "info",
        "policy", "diff", "try", "curl", "mcp",
    ]

    /// Returns the exit code: 0, 1 for a failure (a sentence is on standard error), 2 for wrong usage.
    package static func run(_ arguments: [String]) -> Int32 {
        signal(SIGPIPE, SIG_DFL)
        do {
            let rest = arguments.dropFirst()
            if rest.contains("--help") || rest.contains("-h"), !rest.contains("--") {
                put(Help.text)
                return 0
            }
            switch arguments.first {
            case "checkpoints", "checkpoint": return try Checkpoints.run(rest)
            case "restore": return try Checkpoints.restore(rest)
            case "undo": return try Checkpoints.undo(rest)
            case "diff": return try States.diff(rest)
            case "try": return try States.attempt(rest)
            case "services", "service": return try Services.run(rest)
            case "tasks", "task": return try Tasks.run(rest)
            case "logs": return try Services.logs(rest)
            case "info": return try show(rest, "/v1/info")
            case "policy": return try show(rest, "/v1/policy/network")
            case "curl": return try Curl.run(rest)
            case "mcp": return try Conversation.run(rest)
            default: throw usage("there is no such command")
            }
        } catch let failure as ClientFailure {
            put("sprite-env: \(failure.message)\n", STDERR_FILENO)
            return failure.exitCode
        } catch {
            put("sprite-env: \(error)\n", STDERR_FILENO)
            return 1
        }
    }

    /// An object of the API, one field a line.
    private static func show(_ arguments: ArraySlice<String>, _ path: String) throws -> Int32 {
        let arguments = try Arguments(arguments)
        try arguments.none()
        let bytes = try SpriteRequest("GET", path).checked().all()
        if arguments.isJSON {
            put(bytes + [0x0A])
        } else {
            put(fields(try JSONValue.parse(bytes)))
        }
        return 0
    }
}

/// `NAME  VALUE` lines of an object.
func fields(_ object: JSONValue) -> String {
    guard case .object(let members) = object else { return object.shown + "\n" }
    let width = members.map(\.name.utf8.count).max() ?? 0
    return members.map { member in
        member.name + String(repeating: " ", count: width - member.name.utf8.count + 2) + member.value.shown + "\n"
    }.joined()
}

/// A table whose columns are as wide as they need to be.
func table(_ header: [String], _ rows: [[String]]) -> String {
    let all = [header] + rows
    let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    return all.map { row in
        var line = ""
        for (column, cell) in row.enumerated() {
            line += cell
            if column < row.count - 1 { line += String(repeating: " ", count: widths[column] - cell.count + 2) }
        }
        while line.last == " " { line.removeLast() }
        return line + "\n"
    }.joined()
}

func put(_ text: String, _ descriptor: Int32 = STDOUT_FILENO) { put(Array(text.utf8), descriptor) }

/// What a process printed, as a terminal may show it: control characters as `^[`, so that none of them moves the cursor
/// or sets the title. Anywhere but on a terminal it stays as it is.
func shown(_ text: String, _ descriptor: Int32 = STDOUT_FILENO, isRaw: Bool) -> String {
    guard !isRaw, isatty(descriptor) == 1 else { return text }
    var shown = ""
    for scalar in text.unicodeScalars {
        switch scalar.value {
        case 0x09, 0x0A: shown.unicodeScalars.append(scalar)
        case ..<0x20: shown += "^\(Character(Unicode.Scalar(UInt8(scalar.value) + 0x40)))"
        case 0x7F: shown += "^?"
        case 0x80..<0xA0: shown += "?"
        default: shown.unicodeScalars.append(scalar)
        }
    }
    return shown
}

func put(_ bytes: [UInt8], _ descriptor: Int32 = STDOUT_FILENO) {
    try? bytes.withUnsafeBytes { try writeAll(descriptor, $0, "") }
}

/// `2026-02-03T04:05:06.123456Z` without its fraction.
func shortTime(_ text: String?) -> String {
    guard let text else { return "" }
    return text.contains(".") ? text.prefix { $0 != "." } + "Z" : text
}
