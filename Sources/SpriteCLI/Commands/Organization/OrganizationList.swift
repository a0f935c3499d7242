// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser

struct OrganizationList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List servers and organizations.", aliases: ["ls"])

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Print them as JSON.")
    var json = false

    private struct Output: Encodable {
        var url: String
        var organization: String
        var current: Bool
    }

    func run() async throws {
        let context = try Context(global)
        let entries = context.file.organizations.map { entry in
            Output(
                url: entry.url, organization: entry.organization ?? "",
                current: entry.url == context.url && entry.organization == context.organization)
        }
        if json { return try printJSON(entries) }
        guard !entries.isEmpty else { return printNote("not logged in anywhere; `sprite login` does that") }
        var table = Table("CURRENT", "ORGANIZATION", "SERVER")
        for entry in entries { table.add(entry.current ? "*" : "", entry.organization, entry.url) }
        try table.print()
    }
}
