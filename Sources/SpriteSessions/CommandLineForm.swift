// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAgentWire
import SpriteDomain

extension AgentSpawn {
    /// What every command finds in its environment unless something else is said.
    private static let defaults = [
        ("PATH", "/.sprite/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8"),
    ]
    private static let defaultTerminal = TerminalSize(rows: 24, columns: 80)

    /// Checks a request and lays its environment over the sprite's, and that over the defaults.
    ///
    /// - Throws: ``SpriteError`` with `.invalidRequest` or `.tooLarge`.
    init(_ request: ExecRequest, sprite environment: [String: String]) throws {
        guard let first = request.arguments.first, !(request.path ?? first).isEmpty else {
            throw SpriteError(.invalidRequest, "cannot run a command: it has no name")
        }
        guard request.arguments.count <= Limits.execArgumentCountMax else {
            throw SpriteError(
                .tooLarge,
                "cannot run a command: it has \(request.arguments.count) arguments, "
                    + "the limit is \(Limits.execArgumentCountMax)")
        }
        guard request.environment.count <= Limits.execEnvironmentCountMax else {
            throw SpriteError(
                .tooLarge,
                "cannot run a command: it has \(request.environment.count) environment variables, "
                    + "the limit is \(Limits.execEnvironmentCountMax)")
        }
        for text in request.arguments + [request.path ?? "", request.directory ?? "", request.user ?? ""]
        where text.utf8.contains(0) {
            throw SpriteError(.invalidRequest, "cannot run a command: an argument holds a NUL byte")
        }
        for (name, value) in request.environment {
            guard !name.isEmpty, !name.utf8.contains(0), !name.utf8.contains(UInt8(ascii: "=")), !value.utf8.contains(0)
            else {
                throw SpriteError(
                    .invalidRequest,
                    "cannot run a command: an environment variable's name must not be empty or hold '=' or NUL, "
                        + "and its value must not hold NUL")
            }
        }
        let size = request.terminal ?? AgentSpawn.defaultTerminal
        self.init(
            session: 0, isTerminal: request.terminal != nil, takesInput: request.takesInput, rows: size.rows,
            columns: size.columns, path: request.path ?? "", arguments: request.arguments,
            environment: AgentSpawn.merged(request, environment), directory: request.directory ?? "",
            user: request.user ?? "")
        let bytes = (arguments + self.environment).reduce(0) { $0 + $1.utf8.count + 1 }
        guard bytes <= Limits.execArgumentBytesMax else {
            throw SpriteError(
                .tooLarge,
                "cannot run a command: its arguments and environment are \(bytes) bytes, "
                    + "the limit is \(Limits.execArgumentBytesMax)")
        }
    }

    private static func merged(_ request: ExecRequest, _ sprite: [String: String]) -> [String] {
        var order: [String] = []
        var values: [String: String] = [:]
        func set(_ name: String, _ value: String) {
            if values.updateValue(value, forKey: name) == nil { order.append(name) }
        }
        for (name, value) in defaults { set(name, value) }
        if request.terminal != nil { set("TERM", "xterm-256color") }
        for (name, value) in sprite.sorted(by: { $0.key < $1.key }) { set(name, value) }
        for (name, value) in request.environment { set(name, value) }
        return order.map { "\($0)=\(values[$0] ?? "")" }
    }
}
