// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc

/// `~/.sprites/sprites.json`, which holds servers, organizations and tokens; mode 0600.
///
/// ```json
/// {"version": "1", "current_selection": {"url": "http://127.0.0.1:7780", "org": "local"},
///  "urls": {"http://127.0.0.1:7780": {"url": "http://127.0.0.1:7780", "orgs": {
///      "local": {"name": "local", "use_keyring": false, "token": "…"}}}},
///  "url_aliases": {"home": "http://127.0.0.1:7780"}}
/// ```
///
/// Keys that are not known here are kept as they are.
struct ConfigurationFile {
    var path: String
    private var root: JSONValue

    /// Where it lies for this user.
    static func standardPath() throws -> String {
        guard let home = environmentVariable("HOME") else { throw CommandFailure("HOME is not set") }
        return "\(home)/.sprites/sprites.json"
    }

    init(path: String) throws {
        self.path = path
        guard let bytes = try readFile(path), !bytes.isEmpty else {
            root = .object(["version": .text("1")])
            return
        }
        do {
            root = try JSONDecoder().decode(JSONValue.self, from: Data(bytes))
        } catch {
            // Never overwritten: it may hold the only copy of a token.
            throw CommandFailure("cannot read \(path): it is not JSON; repair it, or move it away and log in again")
        }
    }

    func save() throws {
        let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        if mkdir(folder, 0o700) != 0, errno != EEXIST {
            throw CommandFailure("cannot make \(folder): \(errnoText(errno))")
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try replaceFile(path, with: Array(try encoder.encode(root)) + [0x0A], mode: 0o600)
    }

    struct Selection: Equatable {
        var url: String
        var organization: String?
    }

    var selection: Selection? {
        get {
            guard let url = root["current_selection"]?["url"]?.text, !url.isEmpty else { return nil }
            return Selection(url: url, organization: root["current_selection"]?["org"]?.text)
        }
        set {
            guard let newValue else { return root["current_selection"] = nil }
            var value = JSONValue.object(["url": .text(newValue.url)])
            if let organization = newValue.organization { value["org"] = .text(organization) }
            root["current_selection"] = value
        }
    }

    /// The server an alias stands for.
    func url(alias: String) -> String? { root["url_aliases"]?[alias]?.text }

    /// Servers and their organizations, in order.
    var organizations: [Selection] {
        (root["urls"]?.object ?? [:]).sorted { $0.key < $1.key }.flatMap { url, server in
            (server["orgs"]?.object ?? [:]).keys.sorted().map { Selection(url: url, organization: $0) }
        }
    }

    func token(url: String, organization: String) -> String? {
        root["urls"]?[url]?["orgs"]?[organization]?["token"]?.text
    }

    mutating func setToken(_ token: String, url: String, organization: String) {
        var urls = root["urls"] ?? .object([:])
        var server = urls[url] ?? .object(["url": .text(url)])
        var all = server["orgs"] ?? .object([:])
        var one = all[organization] ?? .object(["name": .text(organization)])
        one["token"] = .text(token)
        one["use_keyring"] = .bool(false)
        all[organization] = one
        server["orgs"] = all
        urls[url] = server
        root["urls"] = urls
    }

    mutating func disableKeyring() { root["disable_keyring"] = .bool(true) }

    mutating func remove(_ entry: Selection) {
        guard let organization = entry.organization, var urls = root["urls"], var server = urls[entry.url],
            var all = server["orgs"]
        else { return }
        all[organization] = nil
        server["orgs"] = all
        urls[entry.url] = all.object?.isEmpty == false ? server : nil
        root["urls"] = urls
        if selection?.url == entry.url, selection?.organization == organization { selection = nil }
    }
}
