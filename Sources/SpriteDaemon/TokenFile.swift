// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

/// The bearer token of a data directory: `local/local/ID/SECRET`, in a file only root can read.
struct TokenFile: Sendable, CustomStringConvertible {
    let token: String

    /// Reads the token, or makes one at the first start.
    init(path: String) throws {
        if access(path, F_OK) != 0 {
            let text = "local/local/\(randomDigits(1))/\(randomDigits(4))\n"
            // Linked into place whole, so that a crash never leaves half a token.
            let temporary = "\(path).\(getpid())"
            try writeSmallFile(temporary, text, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
            // On the disk before it has its name: an empty one, after a power cut, would keep the daemon from starting.
            try TokenStore.sync(temporary, O_RDONLY)
            if link(temporary, path) != 0, errno != EEXIST {
                let number = errno
                unlink(temporary)
                throw SystemError(number, "create \(path)")
            }
            unlink(temporary)
            let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
            try TokenStore.sync(folder, O_RDONLY | O_DIRECTORY)
        }
        let text = try readSmallFile(path, bytesMax: 4096)
        token = String(text.filter { !$0.isWhitespace })
        guard token.utf8.count >= 16 else {
            throw SpriteError(
                .internalError,
                "cannot use \(path): the token in it is shorter than 16 bytes; delete it to get a new one")
        }
    }

    /// What records say instead of the token; no secret.
    var id: String {
        let parts = token.split(separator: "/", omittingEmptySubsequences: false)
        return parts.count == 4 ? String(parts[2]) : "first"
    }

    /// Compares in time that does not depend on where the difference is.
    func matches(_ candidate: String) -> Bool {
        let a = Array(token.utf8)
        let b = Array(candidate.utf8)
        var difference = a.count ^ b.count
        for index in a.indices { difference |= Int(a[index] ^ (index < b.count ? b[index] : 0)) }
        return difference == 0
    }

    /// Never the token.
    var description: String { "token (hidden)" }
}

/// So many random numbers of 64 bits, in hexadecimal digits.
func randomDigits(_ count: Int) -> String {
    (0..<count).map { _ in hexadecimal(UInt64.random(in: .min ... .max)) }.joined()
}

private func hexadecimal(_ number: UInt64) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 16 - digits.utf8.count) + digits
}
