// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// `sprite-env tasks …`: what keeps the sprite awake while nobody is connected.
enum Tasks {
    static func run(_ arguments: ArraySlice<String>) throws -> Int32 {
        let rest = arguments.dropFirst()
        switch arguments.first {
        case "list", "ls", nil:
            let arguments = try Arguments(rest)
            try arguments.none()
            let bytes = try SpriteRequest("GET", "/v1/tasks").checked().all()
            if arguments.isJSON {
                put(bytes + [0x0A])
            } else {
                let tasks = try JSONValue.parse(bytes)["tasks"]?.items ?? []
                put(
                    table(
                        ["NAME", "STARTED", "EXPIRES"],
                        tasks.map {
                            [
                                $0["name"]?.shown ?? "", shortTime($0["started_at"]?.text),
                                shortTime($0["expires_at"]?.text),
                            ]
                        }))
            }
            return 0
        case "create", "start": return try set(rest, "POST")
        case "set", "refresh", "extend": return try set(rest, "PUT")
        case "get", "info":
            let arguments = try Arguments(rest)
            let name = try arguments.one("task")
            let bytes = try SpriteRequest("GET", "/v1/tasks/\(encoded(name))").checked().all()
            put(arguments.isJSON ? bytes + [0x0A] : Array(fields(try JSONValue.parse(bytes)).utf8))
            return 0
        case "delete", "rm", "end":
            let arguments = try Arguments(rest)
            let name = try arguments.one("task")
            _ = try SpriteRequest("DELETE", "/v1/tasks/\(encoded(name))").checked().all()
            if arguments.isJSON { put(JSONText.object([("deleted", .text(name))]).bytes + [0x0A]) }
            return 0
        case .some(let name): throw usage("there is no 'tasks \(name)'")
        }
    }

    private static func set(_ arguments: ArraySlice<String>, _ method: String) throws -> Int32 {
        let arguments = try Arguments(arguments, options: ["--expire", "--for"])
        let name = try arguments.one("name for the task")
        var body: [(String, JSONText)] = [("name", .text(name))]
        if let expire = arguments.value("--expire", "--for") { body.append(("expire", .text(expire))) }
        let bytes = try SpriteRequest(method, "/v1/tasks", .object(body)).checked().all()
        if arguments.isJSON {
            put(bytes + [0x0A])
        } else {
            put("awake until \(shortTime(try JSONValue.parse(bytes)["expires_at"]?.text))\n")
        }
        return 0
    }
}
