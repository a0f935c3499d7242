// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// Every path the server knows.
enum Route: Sendable, Equatable {
    case health
    case mcp
    case metrics
    case allLogs
    case logQuery
    case trace(id: String, sprite: String?)
    case logs(String)
    case sprites
    case sprite(String)
    case disk(String)
    case upgrade(String)
    case stop(String)
    case restart(String)
    case check(String)
    case fork(String)
    case base(String)
    case exec(String)
    case session(String, id: String)
    case killSession(String, id: String)
    case createCheckpoint(String)
    case checkpoints(String)
    case checkpoint(String, id: String)
    case restore(String, id: String)
    case undoRestore(String)
    case pin(String, id: String)
    case diff(String)
    case attempt(String)
    case race(String)
    case bisect(String)
    case services(String, ServiceRoute)
    case policy(String, PolicyKind)
    case tasks(String)
    case task(String, name: String)
    case secrets(String)
    case secret(String, id: String)
    case networkContacts(String)
    case networkSuggestion(String)
    case control(String)
    case proxy(String)
    case portWatch(String)
    case files(String, FileOperation)
    /// Part of the contract and not served yet; clients fall back on a 404.
    case notServed(String, what: String)

    init?(_ segments: [String]) {
        guard segments != ["health"] else {
            self = .health
            return
        }
        guard segments != ["mcp"] else {
            self = .mcp
            return
        }
        if let route = Route.ofJournal(segments) {
            self = route
            return
        }
        guard segments.count >= 2, segments[0] == "v1", segments[1] == "sprites" else { return nil }
        guard segments.count > 2 else {
            self = .sprites
            return
        }
        let name = segments[2]
        let rest = Array(segments.dropFirst(3))
        switch (rest.count, rest.first) {
        case (0, _): self = .sprite(name)
        case (1, "disk"): self = .disk(name)
        case (1, "upgrade"): self = .upgrade(name)
        case (1, "stop"): self = .stop(name)
        case (1, "restart"): self = .restart(name)
        case (1, "check"): self = .check(name)
        case (1, "fork"): self = .fork(name)
        case (1, "base"): self = .base(name)
        case (1, "exec"): self = .exec(name)
        case (2, "exec"): self = .session(name, id: rest[1])
        case (3, "exec") where rest[2] == "kill": self = .killSession(name, id: rest[1])
        case (1, "checkpoint"): self = .createCheckpoint(name)
        case (1, "checkpoints"): self = .checkpoints(name)
        case (2, "checkpoints"): self = .checkpoint(name, id: rest[1])
        case (3, "checkpoints") where rest[2] == "restore":
            self = rest[1] == "undo" ? .undoRestore(name) : .restore(name, id: rest[1])
        case (3, "checkpoints") where rest[2] == "pin": self = .pin(name, id: rest[1])
        case (1, "diff"): self = .diff(name)
        case (1, "try"): self = .attempt(name)
        case (1, "race"): self = .race(name)
        case (1, "bisect"): self = .bisect(name)
        case (2, "restore") where rest[1] == "undo": self = .undoRestore(name)
        case (1, "control"): self = .control(name)
        case (1, "proxy"): self = .proxy(name)
        case (2, "ports") where rest[1] == "watch": self = .portWatch(name)
        case (2, "fs"):
            guard let operation = FileOperation(rawValue: rest[1]) else { return nil }
            self = .files(name, operation)
        case (_, "services"):
            guard let route = ServiceRoute(Array(rest.dropFirst())) else { return nil }
            self = .services(name, route)
        case (2, "policy"):
            guard let kind = PolicyKind(rawValue: rest[1]) else { return nil }
            self = .policy(name, kind)
        case (1, "secrets"): self = .secrets(name)
        case (2, "secrets"): self = .secret(name, id: rest[1])
        case (1, "tasks"): self = .tasks(name)
        case (2, "tasks"): self = .task(name, name: rest[1])
        case (3, "policy") where rest[1] == "network" && rest[2] == "contacts": self = .networkContacts(name)
        case (3, "policy") where rest[1] == "network" && rest[2] == "suggestion": self = .networkSuggestion(name)
        default: return nil
        }
    }

    /// The methods that a path has; empty where every method gets the same 404.
    var methods: [String] {
        switch self {
        case .health, .check, .checkpoints, .session, .networkContacts, .networkSuggestion, .disk, .metrics, .allLogs,
            .logs, .trace:
            ["GET", "HEAD"]
        case .mcp: ["POST", "DELETE"]
        case .logQuery: ["POST"]
        case .sprites: ["GET", "HEAD", "POST"]
        case .sprite: ["GET", "HEAD", "PUT", "DELETE"]
        case .exec: ["GET", "HEAD", "POST"]
        case .upgrade, .stop, .restart, .fork, .base, .killSession, .createCheckpoint, .restore, .undoRestore: ["POST"]
        case .secrets: ["GET", "HEAD"]
        case .secret: ["GET", "HEAD", "PUT", "DELETE"]
        case .tasks: ["GET", "HEAD", "POST", "PUT"]
        case .task: ["GET", "HEAD", "PUT", "DELETE"]
        case .attempt, .race, .bisect: ["POST"]
        case .diff: ["GET"]
        case .pin: ["POST", "DELETE"]
        case .checkpoint: ["GET", "HEAD", "DELETE"]
        case .control, .proxy, .portWatch: ["GET"]
        case .files(_, let operation): operation.methods
        case .services(_, let route): route.methods
        case .policy(_, let kind): kind.methods
        case .notServed: []
        }
    }
}

extension Route {
    /// The kind of path without what varies in it.
    var label: String {
        let text = String(describing: self)
        return String(text.prefix { $0 != "(" })
    }

    /// Paths of the journal.
    static func ofJournal(_ segments: [String]) -> Route? {
        switch segments.count {
        case 1 where segments == ["metrics"]: return .metrics
        case 2 where segments == ["v1", "logs"]: return .allLogs
        case 3 where segments == ["v1", "logs", "query"]: return .logQuery
        case 3 where segments[0] == "v1" && segments[1] == "traces": return .trace(id: segments[2], sprite: nil)
        case 4 where segments[0] == "v1" && segments[1] == "sprites" && segments[3] == "logs":
            return .logs(segments[2])
        case 5 where segments[0] == "v1" && segments[1] == "sprites" && segments[3] == "traces":
            return .trace(id: segments[4], sprite: segments[2])
        default: return nil
        }
    }
}
