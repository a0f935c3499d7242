// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import SpriteDomain
import SpriteSystem
import Synchronization

/// A token of a data directory besides the first; `DIR/tokens/ID.json`, mode 0600, holds one as JSON.
///
/// The token itself is `local/local/ID/SECRET` and lies nowhere: its secret is 256 random bits, which nobody finds from
/// the hash, so that a hash made to be slow would only slow every request down.
struct StoredToken: Codable, Sendable {
    var id: String
    /// For people.
    var name: String
    /// As ``AccessScope`` is written.
    var scope: String
    /// SHA-256 of the whole token, in hexadecimal digits.
    var sha256: String
    /// Seconds since 1970.
    var createdAt: Int64
    /// Absent: never.
    var expiresAt: Int64?

    func isExpired(at now: Int64) -> Bool { expiresAt.map { $0 <= now } ?? false }

    static func hash(_ token: String) -> [UInt8] { SHA256.hash(Array(token.utf8)) }
}

/// The tokens of a data directory. What is written by one process counts at once in every other: each use looks at the
/// token's file.
final class TokenStore: Sendable {
    static let nameBytesMax = 200
    /// The time of last use is written no more often than this.
    private static let useInterval: Int64 = 60

    /// What tells two versions of a file apart.
    private struct Mark: Hashable {
        var inode: UInt64
        var seconds: Int
        var nanoseconds: Int
    }

    private struct Known {
        var mark: Mark
        var token: StoredToken
        var hash: [UInt8]
        var scope: AccessScope
        var usedAt: Int64 = 0
    }

    let folder: String
    private let first: TokenFile
    private let known = Mutex<[String: Known]>([:])

    init(folder: String, first: TokenFile) {
        self.folder = folder
        self.first = first
    }

    /// What a token that was presented is good for.
    func grant(_ candidate: String) -> AccessGrant? {
        if first.matches(candidate) { return AccessGrant(tokenID: first.id, scope: .all) }
        let parts = candidate.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 4, let found = find(String(parts[2])) else { return nil }
        let now = Self.now()
        guard sameBytes(found.hash, StoredToken.hash(candidate)), !found.token.isExpired(at: now) else { return nil }
        noteUse(found, at: now)
        return AccessGrant(tokenID: found.token.id, scope: found.scope)
    }

    /// Whether a token that was good still is.
    func isGood(_ id: String) -> Bool {
        if id == first.id { return true }
        guard let found = find(id) else { return false }
        return !found.token.isExpired(at: Self.now())
    }

    /// The file of a token as it is now; nil if there is none.
    private func find(_ id: String) -> Known? {
        guard Self.isID(id) else { return nil }
        var status = stat()
        guard stat("\(folder)/\(id).json", &status) == 0 else {
            known.withLock { $0[id] = nil }
            return nil
        }
        let mark = Mark(
            inode: UInt64(status.st_ino), seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec)
        if let found = known.withLock({ $0[id] }), found.mark == mark { return found }
        // A file that cannot be read is no token.
        guard let token = try? Self.read("\(folder)/\(id).json"), token.id == id, let hash = bytes(token.sha256),
            let scope = try? AccessScope(token.scope)
        else { return nil }
        let found = Known(mark: mark, token: token, hash: hash, scope: scope)
        known.withLock { $0[id] = found }
        return found
    }

    private func noteUse(_ found: Known, at now: Int64) {
        let isDue = known.withLock { known in
            guard let usedAt = known[found.token.id]?.usedAt, now - usedAt >= Self.useInterval else { return false }
            known[found.token.id]?.usedAt = now
            return true
        }
        guard isDue else { return }
        // The time of an empty file: nothing to write, nothing that a crash could leave in halves.
        try? writeSmallFile(Self.usePath(folder, found.token.id), "", flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        utimensat(AT_FDCWD, Self.usePath(folder, found.token.id), nil, 0)
    }

    // MARK: The operator's side

    /// Makes a token and stores its hash.
    ///
    /// - Returns: The token, which nothing can tell again.
    static func create(
        in folder: String, name: String, scope: AccessScope, lifetime: Int64?
    ) throws -> (token: String, stored: StoredToken) {
        let id = randomDigits(1)
        let token = "local/local/\(id)/\(randomDigits(4))"
        let now = Self.now()
        let stored = StoredToken(
            id: id, name: name, scope: "\(scope)", sha256: digits(StoredToken.hash(token)), createdAt: now,
            expiresAt: lifetime.map { now + $0 })
        guard mkdir(folder, 0o700) == 0 || errno == EEXIST else { throw SystemError(errno, "create \(folder)") }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let path = "\(folder)/\(id).json"
        let text = String(decoding: try encoder.encode(stored), as: UTF8.self) + "\n"
        try writeSmallFile(path + ".new", text, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        // On the disk before anybody is told the token.
        try sync(path + ".new", O_RDONLY)
        try system("rename \(path)") { rename(path + ".new", path) }
        try note("created", stored, in: folder)
        try sync(folder, O_RDONLY | O_DIRECTORY)
        return (token, stored)
    }

    /// All of them, oldest first, each with the time of its last use.
    static func list(in folder: String) throws -> [(token: StoredToken, usedAt: Int64?)] {
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else { return [] }
        return try names.filter { $0.hasSuffix(".json") }.map { name in
            let token = try read("\(folder)/\(name)")
            var status = stat()
            let isUsed = stat(usePath(folder, token.id), &status) == 0
            return (token, isUsed ? Int64(status.st_mtim.tv_sec) : nil)
        }.sorted { ($0.token.createdAt, $0.token.id) < ($1.token.createdAt, $1.token.id) }
    }

    /// Throws `.notFound` if there is no such token.
    static func revoke(_ id: String, in folder: String) throws {
        let stored = isID(id) ? try? read("\(folder)/\(id).json") : nil
        guard isID(id), unlink("\(folder)/\(id).json") == 0 else {
            throw SpriteError(
                .notFound, "cannot revoke '\(id)': there is no such token; `sprited token list` shows what there is")
        }
        unlink(usePath(folder, id))
        if let stored { try note("revoked", stored, in: folder) }
        try sync(folder, O_RDONLY | O_DIRECTORY)
    }

    // MARK: What the daemon has to record

    /// Left for the daemon, which alone writes the journal, also if it does not run now.
    private static func note(_ event: String, _ token: StoredToken, in folder: String) throws {
        try writeSmallFile(
            "\(folder)/\(token.id).\(event)", token.scope, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
    }

    struct Note: Sendable {
        var id: String
        var event: String
        var scope: String
        var time: Timestamp
        var path: String
    }

    /// What was noted; each goes by ``forget(_:)`` once it is recorded.
    static func notes(in folder: String) -> [Note] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.compactMap { name -> Note? in
            let parts = name.split(separator: ".")
            let path = "\(folder)/\(name)"
            var status = stat()
            guard parts.count == 2, parts[1] == "created" || parts[1] == "revoked", isID(String(parts[0])),
                stat(path, &status) == 0, let scope = try? readSmallFile(path, bytesMax: 4096)
            else { return nil }
            let time = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
            return Note(
                id: String(parts[0]), event: String(parts[1]), scope: scope, time: Timestamp(nanoseconds: time),
                path: path)
        }.sorted { $0.time.nanoseconds < $1.time.nanoseconds }
    }

    static func forget(_ note: Note) { unlink(note.path) }

    // MARK: Files

    private static func read(_ path: String) throws -> StoredToken {
        do {
            return try JSONDecoder().decode(StoredToken.self, from: Data(readSmallFile(path, bytesMax: 16 << 10).utf8))
        } catch {
            throw SpriteError(.internalError, "cannot read the token in \(path)", cause: error)
        }
    }

    static func sync(_ path: String, _ flags: Int32) throws {
        let file = try Descriptor.open(path, flags)
        try system("flush \(path)") { fsync(file.number) }
    }

    private static func usePath(_ folder: String, _ id: String) -> String { "\(folder)/\(id).used" }

    /// Ids become parts of paths.
    private static func isID(_ text: String) -> Bool {
        text.utf8.count == 16 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    static func now() -> Int64 { Timestamp.now().nanoseconds / 1_000_000_000 }
}

/// Compares in time that does not depend on where the difference is.
private func sameBytes(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    var difference = a.count ^ b.count
    for index in a.indices { difference |= Int(a[index] ^ (index < b.count ? b[index] : 0)) }
    return difference == 0
}

private func digits(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

private func bytes(_ digits: String) -> [UInt8]? {
    let characters = Array(digits)
    guard characters.count == 64 else { return nil }
    let bytes = stride(from: 0, to: 64, by: 2).compactMap { UInt8(String(characters[$0...$0 + 1]), radix: 16) }
    return bytes.count == 32 ? bytes : nil
}
