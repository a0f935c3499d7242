// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct SecretsGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secrets", abstract: "Secrets that a sprite's requests carry and that it cannot read.",
        subcommands: [SecretsSet.self, SecretsList.self, SecretsRemove.self])
}

struct SecretsSet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set", abstract: "Give the sprite a secret for one host; the value is read from standard input.",
        usage: "sprite secrets set ID --host HOST [--header NAME] [--format TEXT] < FILE",
        discussion: """
            From then on the sprite's HTTPS requests to the host carry the secret: as 'authorization: Bearer VALUE' \
            unless said otherwise. Nothing inside can read it, and nobody can read it back. One line end behind the \
            value is left off. The server's operator has to enable it (sprited serve --credential-broker).
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "A name for it, of letters, digits, '-', '_' and '.'.")
    var id: String

    @Option(help: "The one host that gets it, such as api.openai.com.")
    var host: String

    @Option(help: "The header that carries it. (default: authorization)")
    var header: String?

    @Option(help: "What the header says, with {} in the place of the value. (default: 'Bearer {}' in authorization)")
    var format: String?

    func run() async throws {
        let sprite = try Context(global).sprite()
        var value = String(decoding: try readStandardInput(), as: UTF8.self)
        if value.hasSuffix("\n") { value.removeLast() }
        guard !value.isEmpty else { throw CommandFailure("cannot set the secret: standard input holds no value") }
        try await sprite.setSecret(id, host: host, value: value, header: header, format: format)
    }
}

struct SecretsList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List secrets, without their values.", aliases: ["ls"])

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Print the secrets as JSON.")
    var json = false

    func run() async throws {
        let secrets = try await Context(global).sprite().secrets()
        if json { return try printJSON(secrets) }
        var table = Table("ID", "HOST", "HEADER", "LAST USED")
        for secret in secrets {
            table.add(
                secret.id, secret.host, "\(secret.header): \(secret.format)", secret.lastUsedAt.map { ago($0) } ?? "-")
        }
        try table.print()
    }
}

struct SecretsRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Take a secret away; connections that carry it are cut.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Its name.")
    var id: String

    func run() async throws { try await Context(global).sprite().removeSecret(id) }
}
