// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import FoundationEssentials
import SpriteDomain

/// `sprited token`: the tokens of a data directory.
struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Print the first token; create, list and revoke others.",
        discussion: "What changes counts at once, also in a daemon that runs.",
        subcommands: [ShowToken.self, CreateToken.self, ListTokens.self, RevokeToken.self],
        defaultSubcommand: ShowToken.self)
}

struct ShowToken: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Print the first token of the data directory, making it if there is none.")

    @OptionGroup var data: DataOptions

    func run() throws { say(try TokenFile(path: data.names().tokenPath).token) }
}

struct CreateToken: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Make a token and print it; it cannot be shown again.",
        discussion: """
            Scopes: all; read (everything, changing nothing); sprite:NAME; sprite:PREFIX* (every sprite whose name \
            begins so); sprite:NAME,read.
            """)

    @OptionGroup var data: DataOptions
    @Option(help: "What it is for.")
    var scope: String
    @Option(help: "When it ends: so many s, m, h or d from now, such as 30d. (default: never)")
    var expires: String?
    @Option(help: "What to call it in lists.")
    var name = ""

    func run() throws {
        guard name.utf8.count <= TokenStore.nameBytesMax, !name.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw SpriteError(
                .invalidRequest,
                "cannot create token: its name may have \(TokenStore.nameBytesMax) bytes and no control characters")
        }
        let made = try TokenStore.create(
            in: data.names().tokensPath, name: name, scope: try AccessScope(scope), lifetime: try expires.map(lifetime))
        complain("token \(made.stored.id) (\(made.stored.scope)); keep it, it cannot be shown again")
        say(made.token)
    }
}

struct ListTokens: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List tokens: id, scope, end, last use, name.")

    @OptionGroup var data: DataOptions
    @Flag(help: "Print an array of JSON objects.")
    var json = false

    private struct Row: Encodable {
        var id: String
        var scope: String
        var name: String
        var created_at: Int64
        var expires_at: Int64?
        var last_used_at: Int64?
        var expired: Bool
    }

    func run() throws {
        let now = TokenStore.now()
        let rows = try TokenStore.list(in: data.names().tokensPath).map { token, usedAt in
            Row(
                id: token.id, scope: token.scope, name: token.name, created_at: token.createdAt,
                expires_at: token.expiresAt, last_used_at: usedAt, expired: token.isExpired(at: now))
        }
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
            return say(String(decoding: try encoder.encode(rows), as: UTF8.self))
        }
        let table =
            [["ID", "SCOPE", "EXPIRES", "LAST USED", "NAME"]]
            + rows.map { row in
                [
                    row.id, row.scope, row.expired ? "expired" : row.expires_at.map(time) ?? "never",
                    row.last_used_at.map(time) ?? "never", row.name,
                ]
            }
        let widths = (0..<4).map { column in table.map { $0[column].count }.max() ?? 0 }
        for row in table {
            let cells = row.enumerated().map { column, cell in
                column < 4 ? cell + String(repeating: " ", count: widths[column] - cell.count) : cell
            }
            say(cells.joined(separator: "  "))
        }
    }

    private func time(_ seconds: Int64) -> String {
        Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
    }
}

struct RevokeToken: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke", abstract: "End a token, and what it has open, within a second.")

    @OptionGroup var data: DataOptions
    @Argument(help: "As `sprited token list` shows it.")
    var id: String

    func run() throws { try TokenStore.revoke(id, in: data.names().tokensPath) }
}

/// Reads `30d` (also `s`, `m`, `h`) as seconds.
private func lifetime(_ text: String) throws -> Int64 {
    let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
    guard let unit = text.last.flatMap({ units[$0] }), let count = Int64(text.dropLast()),
        (1...36_500 * 86_400 / unit).contains(count)
    else {
        throw SpriteError(
            .invalidRequest, "cannot read '\(text)' as a time: write a number with s, m, h or d, such as 30d")
    }
    return count * unit
}
