// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What the holder of a token may do.
///
/// Written `all`; `read` for looking at everything; `sprite:NAME` or `sprite:PREFIX*` for some sprites;
/// `sprite:NAME,read` for looking at those.
package struct AccessScope: Sendable, Hashable, CustomStringConvertible {
    package enum Sprites: Sendable, Hashable {
        case all
        case named(String)
        /// Every name that begins so, also of sprites that do not exist yet.
        case prefixed(String)
    }

    package var sprites: Sprites
    package var isReadOnly: Bool

    package static let all = AccessScope(sprites: .all, isReadOnly: false)

    package init(sprites: Sprites, isReadOnly: Bool) {
        self.sprites = sprites
        self.isReadOnly = isReadOnly
    }

    /// Reads the written form. Throws ``SpriteError`` with `.invalidRequest`.
    package init(_ text: String) throws {
        func invalid(_ why: String) -> SpriteError {
            SpriteError(
                .invalidRequest,
                "invalid scope '\(text)': \(why); write all, read, sprite:NAME, sprite:PREFIX* or sprite:NAME,read")
        }
        self = AccessScope(sprites: .all, isReadOnly: false)
        var seen: Set<Substring> = []
        for word in text.split(separator: ",", omittingEmptySubsequences: false) {
            let kind = word.prefix { $0 != ":" }
            guard seen.insert(kind).inserted else { throw invalid("'\(kind)' is given twice") }
            switch kind {
            case "all" where word == "all": break
            case "read" where word == "read": isReadOnly = true
            case "sprite":
                let name = word.dropFirst("sprite:".count)
                if name.hasSuffix("*") {
                    let prefix = String(name.dropLast())
                    // A prefix is the beginning of some name; what could be none is a slip.
                    guard (try? SpriteName(prefix + "x")) != nil, !prefix.isEmpty else {
                        throw invalid("'\(prefix)' is the beginning of no name")
                    }
                    sprites = .prefixed(prefix)
                } else {
                    sprites = .named(try SpriteName(String(name)).rawValue)
                }
            default: throw invalid("'\(word)' is none")
            }
        }
        guard !seen.contains("all") || seen.count == 1 else { throw invalid("'all' stands alone") }
    }

    package func includes(_ name: String) -> Bool {
        switch sprites {
        case .all: true
        case .named(let own): own == name
        case .prefixed(let prefix): name.hasPrefix(prefix)
        }
    }

    package var description: String {
        let word: String? =
            switch sprites {
            case .all: nil
            case .named(let name): "sprite:\(name)"
            case .prefixed(let prefix): "sprite:\(prefix)*"
            }
        return [word, isReadOnly ? "read" : nil].compactMap { $0 }.joined(separator: ",").ifEmpty("all")
    }
}

/// A token that was presented and is good.
package struct AccessGrant: Sendable, Hashable {
    /// Of the token; no secret.
    package var tokenID: String
    package var scope: AccessScope

    package init(tokenID: String, scope: AccessScope) {
        self.tokenID = tokenID
        self.scope = scope
    }

    /// Throws `.forbidden` unless the scope has this sprite, and writing if it is needed.
    ///
    /// Says nothing about whether the sprite exists.
    package func require(_ name: String, toWrite: Bool) throws {
        guard scope.includes(name) else {
            throw SpriteError(
                .forbidden, "cannot use sprite '\(name.prefix(Limits.spriteNameBytesMax))': the token is for \(scope)")
        }
        try requireWrite(toWrite)
    }

    /// Throws `.forbidden` unless the token is for every sprite.
    package func requireAllSprites(toWrite: Bool) throws {
        guard case .all = scope.sprites else {
            throw SpriteError(
                .forbidden, "cannot answer: this path tells about every sprite, and the token is for \(scope)")
        }
        try requireWrite(toWrite)
    }

    /// Throws `.forbidden` if the token is for reading only.
    package func requireWrite(_ isNeeded: Bool = true) throws {
        guard !isNeeded || !scope.isReadOnly else {
            throw SpriteError(.forbidden, "cannot change anything: the token is for reading only (\(scope))")
        }
    }
}

extension SpriteControl {
    /// The same as without a scope, as if there were no other sprites than those in it.
    package func list(
        prefix: String, after: String?, limit: Int, in scope: AccessScope
    ) async throws -> SpritePage {
        let own: String
        switch scope.sprites {
        case .all: return try await list(prefix: prefix, after: after, limit: limit)
        case .named(let name): own = name
        case .prefixed(let text): own = text
        }
        let visible = try await list(prefix: own, after: nil, limit: .max).sprites.filter {
            scope.includes($0.sprite.name.rawValue)
        }
        let wanted = visible.filter { view in
            let name = view.sprite.name.rawValue
            return name.hasPrefix(prefix) && name > after ?? ""
        }
        let page = Array(wanted.prefix(max(1, limit)))
        var counts: [SpriteStatus: Int] = [:]
        for view in visible { counts[view.status, default: 0] += 1 }
        return SpritePage(
            sprites: page, next: page.count < wanted.count ? page.last?.sprite.name.rawValue : nil, counts: counts)
    }
}

extension SpriteError.Code {
    /// Somebody who is known, and may not. HTTP 403.
    package static let forbidden = SpriteError.Code(rawValue: "forbidden")
}

extension String {
    fileprivate func ifEmpty(_ other: String) -> String { isEmpty ? other : self }
}
