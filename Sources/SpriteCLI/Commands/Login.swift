// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Glibc
import Sprites

struct Login: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "login", abstract: "Store the token for a server.",
        discussion: """
            The token comes from --token, SPRITE_TOKEN, the daemon's own token file if it runs on this machine, \
            standard input, or a question. It is tried before it is stored.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The server's URL, or an alias; without it SPRITES_API_URL, or the daemon on this machine.")
    var url: String?

    @Option(help: "The token. Others on this machine can see it while this runs; standard input is safer.")
    var token: String?

    func run() async throws { try await Self.run(global, url: url, token: token) }

    /// The one flow behind `login`, `org auth` and `auth setup`.
    static func run(_ global: GlobalOptions, url: String?, token: String?) async throws {
        var context = try Context(global)
        if let url { context.url = Context.trimmed(context.file.url(alias: url) ?? url) }
        let token = try token ?? givenToken(context.url)
        TokenSource.set("this command")
        let options = SpritesClient.Options()
        let client = try SpritesClient(baseURL: context.url, token: token, options: options)
        var sprites = client.list(pageSize: 1).makeAsyncIterator()
        let first = try await sprites.next()
        let organization = organization(context, token: token, sprite: first?.info)
        context.file.setToken(token, url: context.url, organization: organization)
        context.file.selection = .init(url: context.url, organization: organization)
        try context.file.save()
        printNote("logged in to \(context.url) as \(organization); the token is in \(context.file.path)")
    }

    /// What `-o` says, else what stands in the token, else what the server says.
    private static func organization(_ context: Context, token: String, sprite: SpriteInfo?) -> String {
        if let given = context.requestedOrganization { return given }
        let parts = token.split(separator: "/", omittingEmptySubsequences: false)
        if parts.count >= 3, let first = parts.first, !first.isEmpty { return String(first) }
        if let name = sprite?.organization, !name.isEmpty { return name }
        return "local"
    }

    private static func givenToken(_ url: String) throws -> String {
        if let token = environmentVariable("SPRITE_TOKEN") ?? Context.localToken(url) { return token }
        let isQuestion = isTerminal(0)
        if isQuestion {
            printNote("The token of \(url) (`sprited token` on its machine prints it):")
            RawTerminal.hideInput()
        }
        let line = readLine(strippingNewline: true)
        if isQuestion { RawTerminal.restore() }
        guard let token = line?.split(whereSeparator: \.isWhitespace).first else {
            throw CommandFailure("no token was given; `sprited token` on the server's machine prints it")
        }
        return String(token)
    }
}

struct Logout: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "logout", abstract: "Forget the stored token.")

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Do not ask.")
    var force = false

    func run() async throws {
        var context = try Context(global)
        let entries = context.file.organizations.filter {
            $0.url == context.url && (context.organization == nil || $0.organization == context.organization)
        }
        guard !entries.isEmpty else { throw CommandFailure("no token is stored for \(context.url)") }
        if !force {
            guard isTerminal(0) else { throw UsageError("not forgetting a token without asking; give --force") }
            guard confirm("Forget the token of \(context.url)?") else { throw CommandFailure("nothing was forgotten") }
        }
        for entry in entries { context.file.remove(entry) }
        try context.file.save()
        printNote("logged out of \(context.url)")
    }
}
