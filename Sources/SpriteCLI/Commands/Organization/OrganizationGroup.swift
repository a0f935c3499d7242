// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser

struct OrganizationGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "org", abstract: "Servers and organizations this user is logged in to.",
        subcommands: [OrganizationAuth.self, OrganizationList.self, Logout.self, KeyringGroup.self],
        aliases: ["orgs", "organizations", "o"])
}

struct OrganizationAuth: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "auth", abstract: "Store the token for a server; the same as `sprite login`.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The server's URL, or an alias.")
    var url: String?

    @Option(help: "The token; standard input is safer.")
    var token: String?

    func run() async throws { try await Login.run(global, url: url, token: token) }
}

struct AuthGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "auth", abstract: "Store tokens without a question.", subcommands: [AuthSetup.self])
}

struct AuthSetup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "setup", abstract: "Store a token.")

    @OptionGroup var global: GlobalOptions

    @Option(help: "The token.")
    var token: String

    func run() async throws { try await Login.run(global, url: nil, token: token) }
}
