// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// `sprite-env services …` and `logs`.
enum Services {
    static func run(_ arguments: ArraySlice<String>) throws -> Int32 {
        let rest = arguments.dropFirst()
        switch arguments.first {
        case "list", "ls", nil: return try list(rest)
        case "get", "info": return try get(rest)
        case "create", "set": return try create(rest)
        case "start": return try change(rest, "start", "duration")
        case "restart": return try change(rest, "restart", "duration")
        case "stop": return try change(rest, "stop", "timeout")
        case "signal": return try signal(rest)
        case "delete", "rm": return try delete(rest)
        case "logs": return try logs(rest)
        case .some(let name): throw usage("there is no 'services \(name)'")
        }
    }

    private static func list(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments)
        try arguments.none()
        let bytes = try SpriteRequest("GET", "/v1/services").checked().all()
        if arguments.isJSON {
            put(bytes + [0x0A])
            return 0
        }
        let rows = try JSONValue.parse(bytes).items.map { item in
            let state = item["state"]
            return [
                item["name"]?.shown ?? "", state?["status"]?.shown ?? "", state?["restart_count"]?.shown ?? "",
                item["http_port"]?.shown ?? "",
                ([item["cmd"]?.shown ?? ""] + (item["args"]?.items.map(\.shown) ?? [])).joined(separator: " "),
            ]
        }
        put(table(["NAME", "STATUS", "RESTARTS", "HTTP", "COMMAND"], rows))
        return 0
    }

    private static func get(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments)
        let name = try arguments.one("service")
        let bytes = try SpriteRequest("GET", "/v1/services/\(encoded(name))").checked().all()
        put(arguments.isJSON ? bytes + [0x0A] : Array(fields(try JSONValue.parse(bytes)).utf8))
        return 0
    }

    private static func create(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(
            arguments,
            options: ["--cmd", "--args", "--env", "--dir", "--needs", "--http-port", "--duration"],
            flags: ["--no-stream"])
        let name = try arguments.one("name for the service")
        var command = arguments.rest ?? []
        if let given = arguments.value("--cmd") {
            guard command.isEmpty else { throw usage("give the command with --cmd or after --, not both") }
            command = [given] + arguments.all("--args").flatMap { $0.split(separator: ",").map(String.init) }
        }
        guard let program = command.first else {
            throw usage("give the command: sprite-env services create \(name) -- COMMAND ARGUMENT…")
        }
        var body: [(String, JSONText)] = [
            ("cmd", .text(program)), ("args", .list(command.dropFirst().map { .text($0) })),
            ("needs", .list(arguments.all("--needs").flatMap { $0.split(separator: ",") }.map { .text(String($0)) })),
        ]
        var environment: [(String, JSONText)] = []
        for pair in arguments.all("--env") {
            // With a comma only where another name follows it: values may hold commas.
            for piece in pairs(pair) {
                guard let equals = piece.firstIndex(of: "=") else { throw usage("--env is NAME=VALUE") }
                environment.append((String(piece[..<equals]), .text(String(piece[piece.index(after: equals)...]))))
            }
        }
        if !environment.isEmpty { body.append(("env", .object(environment))) }
        if let directory = arguments.value("--dir") { body.append(("dir", .text(directory))) }
        if let port = arguments.value("--http-port") {
            guard let number = Int64(port) else { throw usage("--http-port is a number") }
            body.append(("http_port", .number(number)))
        }
        let duration = arguments.has("--no-stream") ? "0s" : arguments.value("--duration") ?? "5s"
        return try follow(
            try SpriteRequest(
                "PUT", "/v1/services/\(encoded(name))?duration=\(encoded(duration))", .object(body)), arguments.isJSON)
    }

    private static func pairs(_ text: String) -> [String] {
        var pairs: [String] = []
        for piece in text.split(separator: ",", omittingEmptySubsequences: false) {
            let name = piece.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
            let isPair = !name.isEmpty && piece.dropFirst(name.count).first == "="
            if isPair || pairs.isEmpty { pairs.append(String(piece)) } else { pairs[pairs.count - 1] += "," + piece }
        }
        return pairs
    }

    private static func change(_ arguments: ArraySlice<String>, _ verb: String, _ query: String) throws -> Int32 {
        let arguments = try Arguments(arguments, options: ["--duration", "--timeout"], flags: ["--no-stream"])
        let name = try arguments.one("service")
        var path = "/v1/services/\(encoded(name))/\(verb)"
        if arguments.has("--no-stream"), query == "duration" {
            path += "?duration=0s"
        } else if let time = arguments.value("--duration", "--timeout") {
            path += "?\(query)=\(encoded(time))"
        }
        return try follow(try SpriteRequest("POST", path), arguments.isJSON)
    }

    private static func signal(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments)
        guard arguments.words.count == 2 else { throw usage("give a service and a signal, such as 'web HUP'") }
        _ = try SpriteRequest(
            "POST", "/v1/services/signal",
            .object([("name", .text(arguments.words[0])), ("signal", .text(arguments.words[1]))])
        ).checked().all()
        return 0
    }

    private static func delete(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments)
        let name = try arguments.one("service")
        _ = try SpriteRequest("DELETE", "/v1/services/\(encoded(name))").checked().all()
        if arguments.isJSON { put(JSONText.object([("deleted", .text(name))]).bytes + [0x0A]) }
        return 0
    }

    /// `logs [NAME] [--lines N] [-f]`
    static func logs(_ arguments: ArraySlice<String>) throws -> Int32 {
        let all = arguments
        let arguments = try Arguments(
            arguments, options: ["--lines", "-n", "--duration", "--since", "--grep", "--kind"],
            flags: ["--follow", "-f", "--raw"])
        if arguments.words.isEmpty { return try Journal.run(all) }
        let name = try arguments.one("service (list them with 'sprite-env services list')")
        let lines = arguments.value("--lines", "-n") ?? "100"
        // The API follows for an hour at most; it is asked again then.
        let isEndless = arguments.has("--follow") || arguments.has("-f")
        let duration = isEndless ? "1h" : arguments.value("--duration") ?? "0s"
        var code = try follow(
            try SpriteRequest(
                "GET", "/v1/services/\(encoded(name))/logs?lines=\(encoded(lines))&duration=\(encoded(duration))"),
            arguments.isJSON, judged: false, isRaw: arguments.has("--raw"))
        while isEndless, code == 0 {
            code = try follow(
                try SpriteRequest("GET", "/v1/services/\(encoded(name))/logs?lines=0&duration=1h"), arguments.isJSON,
                judged: false, isRaw: arguments.has("--raw"))
        }
        return code
    }

    /// Prints a stream of events: a service's output as it is, or each event as a line of JSON.
    ///
    /// - Parameter judged: An `error`, or an exit with another code than 0, is a failure.
    private static func follow(
        _ request: SpriteRequest, _ isJSON: Bool, judged: Bool = true, isRaw: Bool = false
    ) throws -> Int32 {
        var code: Int32 = 0
        try request.checked().eachLine { event, bytes in
            let type = event["type"]?.text
            if isJSON { put(bytes + [0x0A]) }
            switch type {
            case "stdout": if !isJSON { put(shown(event["data"]?.text ?? "", isRaw: isRaw)) }
            case "stderr":
                if !isJSON { put(shown(event["data"]?.text ?? "", STDERR_FILENO, isRaw: isRaw), STDERR_FILENO) }
            case "exit":
                let exit = event["exit_code"]?.number ?? 0
                if !isJSON { put("sprite-env: the service ended with code \(exit)\n", STDERR_FILENO) }
                if judged, exit != 0 { code = 1 }
            case "error":
                if !isJSON { put("sprite-env: \(event["data"]?.text ?? "error")\n", STDERR_FILENO) }
                if judged { code = 1 }
            default: break
            }
        }
        return code
    }
}
