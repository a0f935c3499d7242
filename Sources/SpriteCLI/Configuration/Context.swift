// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites
import Synchronization

/// Where the token of this run came from, for the message when it is refused.
enum TokenSource {
    private static let value = Mutex<String?>(nil)
    static var used: String? { value.withLock { $0 } }
    static func set(_ source: String) { value.withLock { $0 = source } }
}

/// Which server, organization and sprite a command means.
///
/// | what | from, the first that is there |
/// | --- | --- |
/// | server | `-o ALIAS:ORG`, `SPRITE_URL`, `SPRITES_API_URL`, `current_selection` of the file, the local default |
/// | organization | `-o`, `SPRITE_ORG`, `.sprite`, `current_selection`, the only one known for the server |
/// | token | the file, `SPRITE_TOKEN`, the local daemon's token file if it can be read |
/// | sprite | an argument, `-s`, `SPRITE_URL`, `.sprite` here or above |
struct Context {
    static let localURL = "http://127.0.0.1:7780"
    static let localTokenPath = "/var/lib/sprited/token"

    var url: String
    var organization: String?
    var file: ConfigurationFile
    private let options: GlobalOptions
    private let project: ProjectFile?
    private let directSprite: String?

    init(_ options: GlobalOptions) throws {
        self.options = options
        file = try ConfigurationFile(path: try ConfigurationFile.standardPath())
        project = try ProjectFile.find()?.content

        let direct = try environmentVariable("SPRITE_URL").map(Self.directSprite)
        directSprite = direct?.name
        var organization = options.organization
        var aliasURL: String?
        if let text = organization, let colon = text.firstIndex(of: ":") {
            let alias = String(text[..<colon])
            guard let found = file.url(alias: alias) else {
                throw UsageError("unknown alias '\(alias)'; `sprite org list` shows what there is")
            }
            aliasURL = found
            organization = String(text[text.index(after: colon)...])
        }
        let selection = file.selection
        url = Self.trimmed(
            aliasURL ?? direct?.base ?? environmentVariable("SPRITES_API_URL") ?? selection?.url ?? Self.localURL)
        let known = file.organizations.filter { [url] in $0.url == url }
        self.organization =
            organization ?? environmentVariable("SPRITE_ORG") ?? project?.organization
            ?? (selection?.url == url ? selection?.organization : nil)
            ?? (known.count == 1 ? known.first?.organization : nil)
    }

    static func trimmed(_ url: String) -> String {
        var url = url[...]
        while url.hasSuffix("/") { url = url.dropLast() }
        return String(url)
    }

    /// Takes `BASE/v1/sprites/NAME` apart.
    private static func directSprite(_ text: String) throws -> (base: String, name: String) {
        let parts = trimmed(text).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count >= 6, parts[parts.count - 2] == "sprites", parts[parts.count - 3] == "v1",
            let name = parts.last, !name.isEmpty
        else { throw UsageError("SPRITE_URL is '\(text)'; it has the form \(localURL)/v1/sprites/NAME") }
        return (parts.dropLast(3).joined(separator: "/"), String(name))
    }

    /// What `-o` says, without an alias in front.
    var requestedOrganization: String? {
        options.organization.map { text in
            text.firstIndex(of: ":").map { String(text[text.index(after: $0)...]) } ?? text
        }
    }

    // MARK: Token

    /// - Throws: ``CommandFailure`` if there is none.
    func token() throws -> String {
        if let organization, let token = file.token(url: url, organization: organization) {
            TokenSource.set(file.path)
            return token
        }
        // An organization that was not chosen by anyone does not stand in the way.
        let known = file.organizations.filter { $0.url == url }
        if options.organization == nil, known.count == 1, let only = known.first?.organization,
            let token = file.token(url: url, organization: only)
        {
            TokenSource.set(file.path)
            return token
        }
        if let token = environmentVariable("SPRITE_TOKEN") {
            TokenSource.set("SPRITE_TOKEN")
            return token
        }
        if let token = Self.localToken(url) { return token }
        throw CommandFailure("not logged in to \(url); run `sprite login`, or set SPRITE_TOKEN")
    }

    /// The daemon's own token, when it runs on this machine and we may read it.
    static func localToken(_ url: String) -> String? {
        guard url == localURL || url == "http://localhost:7780", let bytes = try? readFile(localTokenPath) else {
            return nil
        }
        let token = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).first
        if token != nil { TokenSource.set(localTokenPath) }
        return token.map(String.init)
    }

    // MARK: Client and sprite

    func client() throws -> SpritesClient {
        var clientOptions = SpritesClient.Options()
        clientOptions.userAgent = "sprite/\(programVersion)"
        clientOptions.certificateAuthorityPath = options.certificateAuthority ?? environmentVariable("SPRITES_CA_FILE")
        if options.debug { clientOptions.onRequest = { printNote("sprite: \($0)") } }
        return try SpritesClient(baseURL: url, token: try token(), options: clientOptions)
    }

    /// The sprite's name: the argument if there is one, else the surroundings.
    func spriteName(_ argument: String? = nil) throws -> String {
        if let argument, let option = options.sprite, argument != option {
            throw UsageError("two sprites are named, '\(argument)' and -s '\(option)'")
        }
        guard let name = spriteNameIfAny(argument) else {
            throw UsageError("no sprite is chosen; give -s NAME, or run `sprite use NAME` in this directory")
        }
        return name
    }

    func spriteNameIfAny(_ argument: String? = nil) -> String? {
        argument ?? options.sprite ?? directSprite ?? project?.sprite
    }

    func sprite(_ argument: String? = nil) throws -> Sprite {
        let name = try spriteName(argument)
        return try client().sprite(name)
    }
}
