// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// `sprite-env checkpoints diff`, `try` and `restore --path`.
enum States {
    static func diff(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments, flags: ["--stat", "--patch", "--no-renames"])
        var words = arguments.words[...]
        guard let from = words.popFirst(), !from.hasPrefix("/") else {
            throw usage("give a checkpoint, such as v1, perhaps another, and perhaps an absolute path")
        }
        var query = "from=\(encoded(from))"
        if let path = words.last, path.hasPrefix("/") {
            query += "&path=\(encoded(path))"
            words.removeLast()
        }
        if let to = words.popFirst() { query += "&to=\(encoded(to))" }
        guard words.isEmpty else { throw usage("'\(words.first ?? "")' is one word too many") }
        if arguments.has("--stat") { query += "&limit=0" }
        if arguments.has("--patch") { query += "&patch=true" }
        if arguments.has("--no-renames") { query += "&renames=false" }
        var code: Int32 = 1
        try SpriteRequest("GET", "/v1/diff?\(query)").checked().eachLine { line, bytes in
            if line["type"]?.text == "error" { throw ClientFailure(line["error"]?.text ?? "cannot compare") }
            let isEnd = line["type"]?.text == "complete"
            if isEnd { code = 0 }
            if arguments.isJSON { return put(bytes + [0x0A]) }
            if isEnd {
                return put(summary(line["stat"]) + "\n", arguments.has("--stat") ? STDOUT_FILENO : STDERR_FILENO)
            }
            if arguments.has("--patch"), let patch = line["patch"]?.text { return put(patch) }
            put((arguments.has("--patch") ? "# " : "") + text(line) + "\n")
        }
        return code
    }

    /// The code is that of the command, or of the check where the command succeeded.
    static func attempt(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments, options: ["--check", "--timeout", "--dir"], flags: ["--dry-run"])
        guard let command = arguments.rest, !command.isEmpty, arguments.words.isEmpty else {
            throw usage("write: sprite-env try [--check COMMAND] [--dry-run] -- COMMAND ARG...")
        }
        var members: [(String, JSONText)] = [("command", .list(command.map { .text($0) }))]
        if let check = arguments.value("--check") { members.append(("check", .text(check))) }
        members.append(("dry_run", .bool(arguments.has("--dry-run"))))
        members.append(("dir", .text(arguments.value("--dir") ?? currentDirectory())))
        members.append(("user", .text("\(getuid())")))
        if let text = arguments.value("--timeout") {
            guard let seconds = Int64(text), seconds > 0 else { throw usage("--timeout needs a number of seconds") }
            members.append(("timeout_seconds", .number(seconds)))
        }
        var code: Int32 = 1
        try SpriteRequest("POST", "/v1/try", .object(members)).checked().eachLine { line, bytes in
            let type = line["type"]?.text
            if type == "error" { throw ClientFailure(line["error"]?.text ?? "the try failed") }
            if type == "complete" {
                let exit = line["exit_code"]?.number ?? 1
                code = Int32(exit == 0 ? line["check_exit_code"]?.number ?? 0 : exit)
            }
            if arguments.isJSON { return put(bytes + [0x0A]) }
            switch type {
            case "stdout": put(output(line))
            case "stderr": put(output(line), STDERR_FILENO)
            case "exit":
                if line["exit_code"]?.number != 0, !arguments.has("--dry-run") { warn() }
            case "check_exit":
                if line["exit_code"]?.number != 0, !arguments.has("--dry-run") { warn() }
            case "change": put((line["change"].map(text) ?? "") + "\n", STDERR_FILENO)
            case "complete":
                put(summary(line["stat"]) + "\n", STDERR_FILENO)
                put("\(line["outcome"]?.text ?? "")\n", STDERR_FILENO)
            default: break
            }
        }
        return code
    }

    private static func warn() {
        put("failed: the disk is rolled back, which ends every process of this sprite\n", STDERR_FILENO)
    }

    static func restorePath(_ id: String, _ path: String, _ isJSON: Bool) throws -> Int32 {
        var code: Int32 = 1
        let place = "/v1/checkpoints/\(encoded(id))/restore?path=\(encoded(path))"
        try SpriteRequest("POST", place).checked().eachLine { line, bytes in
            if line["type"]?.text == "error" { throw ClientFailure(line["error"]?.text ?? "cannot restore") }
            if isJSON { put(bytes + [0x0A]) }
            guard line["type"]?.text == "complete" else { return }
            code = 0
            if !isJSON { put("restored \(path) from \(id); 'sprite-env undo' takes it back\n") }
        }
        return code
    }

    private static func currentDirectory() -> String {
        guard let path = getcwd(nil, 0) else { return "/" }
        defer { free(path) }
        return String(cString: path)
    }

    // MARK: Text

    /// A letter and a path, as outside; control characters are replaced.
    private static func text(_ change: JSONValue) -> String {
        func shown(_ name: String) -> String {
            String(
                String.UnicodeScalarView(
                    (change[name]?.text ?? "").unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? "?" : $0 }))
        }
        switch change["change"]?.text {
        case "added": return "A  \(shown("path"))"
        case "removed": return "D  \(shown("path"))"
        case "renamed": return "R  \(shown("from_path")) -> \(shown("path"))"
        default: return "M  \(shown("path"))  \(change["fields"]?.shown ?? "")"
        }
    }

    private static func summary(_ stat: JSONValue?) -> String {
        ["added", "removed", "changed", "renamed", "bytes"].map { "\(stat?[$0]?.number ?? 0) \($0)" }
            .joined(separator: ", ")
    }

    private static func output(_ line: JSONValue) -> [UInt8] {
        guard let encoded = line["data_base64"]?.text else { return Array((line["data"]?.text ?? "").utf8) }
        var bytes: [UInt8] = []
        var bits: UInt32 = 0
        var count = 0
        for byte in encoded.utf8 {
            let digit: UInt32
            switch byte {
            case 0x41...0x5A: digit = UInt32(byte - 0x41)
            case 0x61...0x7A: digit = UInt32(byte - 0x61) + 26
            case 0x30...0x39: digit = UInt32(byte - 0x30) + 52
            case UInt8(ascii: "+"): digit = 62
            case UInt8(ascii: "/"): digit = 63
            default: continue
            }
            bits = bits << 6 | digit
            count += 6
            if count >= 8 {
                count -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return bytes
    }
}
