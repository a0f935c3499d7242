// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// `sprite-env checkpoints …`, `restore` and `undo`.
enum Checkpoints {
    static func run(_ arguments: ArraySlice<String>) throws -> Int32 {
        let rest = arguments.dropFirst()
        switch arguments.first {
        case "create": return try create(rest)
        case "list", "ls", nil: return try list(rest)
        case "info", "get": return try info(rest)
        case "restore": return try restore(rest)
        case "diff": return try States.diff(rest)
        case "delete", "rm": return try delete(rest)
        case .some(let name): throw usage("there is no 'checkpoints \(name)'")
        }
    }

    private static func create(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments, options: ["--comment", "-m"])
        try arguments.none()
        let comment = arguments.value("--comment", "-m")
        let body = comment.map { JSONText.object([("comment", .text($0))]) } ?? .object([])
        var code: Int32 = 1
        try SpriteRequest("POST", "/v1/checkpoint", body).checked().eachLine { event, bytes in
            switch event["type"]?.text {
            case "complete":
                code = 0
                put(arguments.isJSON ? bytes + [0x0A] : Array("\(event["checkpoint_id"]?.text ?? "")\n".utf8))
            case "error": throw ClientFailure(event["data"]?.text ?? "cannot create a checkpoint")
            default: break
            }
        }
        return code
    }

    private static func list(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments, flags: ["--all", "--include-auto"])
        try arguments.none()
        let showsAll = arguments.has("--all") || arguments.has("--include-auto")
        let bytes = try SpriteRequest("GET", "/v1/checkpoints\(showsAll ? "?includeAuto=true" : "")").checked().all()
        if arguments.isJSON {
            put(bytes + [0x0A])
            return 0
        }
        let rows = try JSONValue.parse(bytes).items.map { item in
            [
                item["id"]?.shown ?? "", shortTime(item["create_time"]?.text), item["source_id"]?.shown ?? "",
                item["comment"]?.shown ?? "",
            ]
        }
        put(table(["ID", "CREATED", "FROM", "COMMENT"], rows))
        return 0
    }

    private static func info(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments)
        let id = try arguments.one("checkpoint, such as v1")
        let bytes = try SpriteRequest("GET", "/v1/checkpoints/\(encoded(id))").checked().all()
        put(arguments.isJSON ? bytes + [0x0A] : Array(fields(try JSONValue.parse(bytes)).utf8))
        return 0
    }

    private static func delete(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments)
        let id = try arguments.one("checkpoint, such as v1")
        _ = try SpriteRequest("DELETE", "/v1/checkpoints/\(encoded(id))").checked().all()
        if arguments.isJSON { put("{\"deleted\":\"\(id)\"}\n") }
        return 0
    }

    static func restore(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments, options: ["--then", "--path"], flags: ["--no-wait", "--undo"])
        if let path = arguments.value("--path") {
            return try States.restorePath(try arguments.one("checkpoint, such as v1"), path, arguments.isJSON)
        }
        if arguments.has("--undo") {
            try arguments.none()
            return try begin("/v1/restore/undo", arguments)
        }
        return try begin("/v1/checkpoints/\(encoded(try arguments.one("checkpoint, such as v1")))/restore", arguments)
    }

    static func undo(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments, options: ["--then"], flags: ["--no-wait"])
        try arguments.none()
        return try begin("/v1/restore/undo", arguments)
    }

    /// Asks for the restore and waits for the end it brings, so that nothing after this command runs on the old disk.
    private static func begin(_ path: String, _ arguments: Arguments) throws -> Int32 {
        let body = arguments.value("--then").map { JSONText.object([("then", .text($0))]) } ?? .object([])
        do {
            let bytes = try SpriteRequest("POST", path, body).checked().all()
            if arguments.isJSON {
                put(bytes + [0x0A])
            } else {
                let id = try JSONValue.parse(bytes)["checkpoint_id"]?.text ?? ""
                put(id == "undo" ? "undoing the last restore" : "restoring \(id)")
                put(": every process of this sprite ends now, and it starts again\n")
            }
        }
        if arguments.has("--no-wait") { return 0 }
        // The connection is closed: the sprite is about to be stopped. Only if that fails does this get to the end.
        for _ in 0..<600 {
            sleep(1)
            let report = try JSONValue.parse(try SpriteRequest("GET", "/v1/restore").checked().all())
            switch report["state"]?.text {
            case "failed": throw ClientFailure(report["message"]?.text ?? "the restore failed")
            case "running": continue
            default: return 0
            }
        }
        throw ClientFailure("the restore is not done after ten minutes; see 'sprite-env curl /v1/restore'")
    }
}
