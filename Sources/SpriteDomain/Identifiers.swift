// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// The identity of a sprite for its whole life; unlike its name it is never used again.
///
/// Sixteen lower-case hexadecimal digits, so it is safe in paths, cgroup names and OCI container ids.
package struct SpriteID: RawRepresentable, Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: String

    /// Accepts exactly sixteen digits of `0-9a-f`; anything else came from a damaged disk or registry.
    package init?(rawValue: String) {
        guard rawValue.utf8.count == 16,
            rawValue.utf8.allSatisfy({ ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) })
        else { return nil }
        self.rawValue = rawValue
    }

    private init(unchecked: String) { rawValue = unchecked }

    package static func random() -> SpriteID {
        let digits = String(UInt64.random(in: .min ... .max), radix: 16)
        return SpriteID(unchecked: String(repeating: "0", count: 16 - digits.utf8.count) + digits)
    }

    package var description: String { rawValue }
    package static func < (a: SpriteID, b: SpriteID) -> Bool { a.rawValue < b.rawValue }
}

/// A sprite's name: a DNS label, since it becomes part of a host name.
package struct SpriteName: Hashable, Sendable, CustomStringConvertible {
    package let rawValue: String

    /// - Throws: ``SpriteError`` with `.invalidRequest`, naming the rule that is broken and its limit.
    package init(_ text: String) throws {
        let bytes = Array(text.utf8)
        guard !bytes.isEmpty else {
            throw SpriteError(.invalidRequest, "invalid sprite name: it is empty; use 1 to 63 of a-z, 0-9 and '-'")
        }
        guard bytes.count <= Limits.spriteNameBytesMax else {
            throw SpriteError(
                .invalidRequest,
                "invalid sprite name: it is \(bytes.count) bytes, the limit is \(Limits.spriteNameBytesMax)")
        }
        let allowed = bytes.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A) || $0 == 0x2D
        }
        guard allowed else {
            throw SpriteError(.invalidRequest, "invalid sprite name: only a-z, 0-9 and '-' are allowed")
        }
        guard bytes.first != 0x2D, bytes.last != 0x2D else {
            throw SpriteError(.invalidRequest, "invalid sprite name: it must not begin or end with '-'")
        }
        rawValue = text
    }

    package var description: String { rawValue }
}

/// A checkpoint's id within its sprite: `v0`, `v1`, … counting up and never reused, or `auto-N` for automatic ones.
package struct CheckpointID: Hashable, Sendable, CustomStringConvertible {
    package let rawValue: String

    /// Accepts `v` or `auto-` and a decimal number without leading zeros; nil for anything else.
    package init?(_ text: String) {
        let digits: Substring
        if text.hasPrefix("v") {
            digits = text.dropFirst(1)
        } else if text.hasPrefix("auto-") {
            digits = text.dropFirst(5)
        } else {
            return nil
        }
        guard let number = UInt32(digits), String(number) == digits else { return nil }
        rawValue = text
    }

    private init(unchecked: String) { rawValue = unchecked }

    package static let initial = CheckpointID(unchecked: "v0")
    package static func version(_ number: UInt32) -> CheckpointID { CheckpointID(unchecked: "v\(number)") }
    package static func automatic(_ number: UInt32) -> CheckpointID { CheckpointID(unchecked: "auto-\(number)") }

    package var isAutomatic: Bool { rawValue.hasPrefix("auto-") }
    package var description: String { rawValue }
}

/// The name of an imported base, such as `debian-bookworm`, or one version of it, such as `debian-bookworm@2`; also a
/// directory name in the pool.
///
/// The first version has the bare name there. A bare name that somebody asks for means the newest version.
package struct BaseName: Hashable, Sendable, CustomStringConvertible {
    package let rawValue: String

    package init(_ text: String) throws {
        let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        let bytes = Array((parts.first ?? "").utf8)
        let allowed = bytes.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
        }
        guard (1...Limits.baseNameBytesMax).contains(bytes.count), allowed, bytes[0] != 0x2E, bytes[0] != 0x2D else {
            throw SpriteError(
                .invalidRequest,
                "invalid base name: use 1 to \(Limits.baseNameBytesMax) of a-z, 0-9, '.', '_' and '-', "
                    + "not beginning with '.' or '-'")
        }
        if parts.count == 2 {
            guard let version = UInt32(parts[1]), version > 0, String(version) == parts[1] else {
                throw SpriteError(
                    .invalidRequest,
                    "invalid base name: after '@' stands the number of a version, such as \(parts[0])@2")
            }
        }
        rawValue = text
    }

    private init(unchecked: String) { rawValue = unchecked }

    /// One version, under the name that it has in the pool.
    package init(family: BaseName, version: UInt32) {
        let bare = family.bare
        self.init(unchecked: version == 1 ? bare : "\(bare)@\(version)")
    }

    private var bare: String { String(rawValue.prefix { $0 != "@" }) }
    /// All versions of this base.
    package var family: BaseName { BaseName(unchecked: bare) }
    /// Whether it names a version in so many words.
    package var isVersion: Bool { rawValue.contains("@") }
    package var version: UInt32 { UInt32(rawValue.drop { $0 != "@" }.dropFirst()) ?? 1 }
    package var description: String { rawValue }
}

extension Sequence<BaseName> {
    /// The base that somebody means by this name: that version, or the newest; nil if there is none.
    package func resolve(_ wanted: BaseName) -> BaseName? {
        let family = filter { $0.family == wanted.family }
        guard wanted.isVersion else { return family.max { $0.version < $1.version } }
        return family.first { $0.version == wanted.version }
    }
}
