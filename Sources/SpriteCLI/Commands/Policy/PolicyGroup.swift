// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import FoundationEssentials
import Sprites

struct PolicyGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Where a sprite may connect to.",
        subcommands: [PolicyGet.self, PolicySet.self, PolicySuggest.self, PolicyContacts.self])
}

struct PolicyGet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Print the network policy as JSON; without rules everything is allowed.")

    @OptionGroup var global: GlobalOptions

    func run() async throws { try printJSON(try await Context(global).sprite().networkPolicy()) }
}

struct PolicySet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set", abstract: "Replace the network policy; in force at once, for open connections as well.",
        usage: "sprite policy set [FILE] [--allow DOMAIN]... [--deny DOMAIN]... [--defaults] [--none]",
        discussion: """
            FILE holds {"rules": [...]}, and - is standard input. Options make rules instead: an exact name, *.suffix \
            (with the name itself), or * for all. The most specific rule wins; what no rule names is denied. \
            --defaults allows package registries, source hosts and AI services.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "A file with the policy as JSON; - for standard input.")
    var file: String?

    @Option(help: "Allow a domain; may be given several times.")
    var allow: [String] = []

    @Option(help: "Deny a domain; may be given several times.")
    var deny: [String] = []

    @Flag(help: "Allow the built-in list as well.")
    var defaults = false

    @Flag(help: "No rules: everything but private networks is allowed.")
    var none = false

    func validate() throws {
        let hasRules = !allow.isEmpty || !deny.isEmpty || defaults
        guard [file != nil, hasRules, none].filter(\.self).count == 1 else {
            throw ValidationError("give a FILE, or rules by --allow, --deny and --defaults, or --none")
        }
    }

    func run() async throws {
        let sprite = try Context(global).sprite()
        try await sprite.setNetworkPolicy(try policy())
    }

    private func policy() throws -> NetworkPolicy {
        guard let file else {
            var rules = allow.map { NetworkPolicy.Rule(domain: $0, action: "allow") }
            rules += deny.map { NetworkPolicy.Rule(domain: $0, action: "deny") }
            if defaults { rules.append(NetworkPolicy.Rule(include: "defaults")) }
            return NetworkPolicy(rules: rules)
        }
        do {
            let text = try file == "-" ? readStandardInput() : Data(contentsOf: URL(filePath: file))
            return try JSONDecoder().decode(NetworkPolicy.self, from: text)
        } catch let error as CommandFailure {
            throw error
        } catch is DecodingError {
            throw CommandFailure("cannot read \(file): it must hold {\"rules\": [...]}, as `sprite policy get` prints")
        } catch {
            throw CommandFailure("cannot read \(file): \(error)")
        }
    }
}

struct PolicySuggest: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "suggest", abstract: "Print a policy that allows what the sprite contacted, and nothing else.",
        discussion: """
            Let the sprite do its work without a policy, or with one that allows *, then: \
            `sprite policy suggest | sprite policy set -`. Contacts are counted since the server started.
            """)

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Allow names that were refused as well.")
    var includeRefused = false

    func run() async throws {
        let sprite = try Context(global).sprite()
        var policy = try await sprite.suggestedNetworkPolicy()
        if includeRefused {
            let known = Set(policy.rules.compactMap(\.domain))
            let refused = try await sprite.networkContacts().filter { !$0.allowed && $0.reason == "unnamed" }
            policy.rules += Set(refused.map(\.target)).subtracting(known).sorted().map {
                NetworkPolicy.Rule(domain: $0, action: "allow")
            }
        }
        try printJSON(policy)
    }
}

struct PolicyContacts: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "contacts", abstract: "List what the sprite contacted and was refused since the server started.")

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Only what was refused.")
    var refused = false

    @Flag(help: "Print the contacts as JSON.")
    var json = false

    func run() async throws {
        let contacts = try await Context(global).sprite().networkContacts().filter { !refused || !$0.allowed }
        if json { return try printJSON(contacts) }
        var table = Table("TARGET", "PORT", "RESULT", "COUNT", "LAST")
        for contact in contacts {
            table.add(
                contact.target, contact.port.map(String.init) ?? "-",
                contact.allowed ? "allowed" : "refused (\(contact.reason ?? "-"))", String(contact.count),
                ago(contact.lastTime))
        }
        try table.print()
    }
}
