// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

/// What waits in memory while the disk is full would be gone without a word if the daemon were killed: how much it is
/// stands in a file elsewhere, `COUNT SINCE`.
extension JournalWriter {
    private static let noteLength = 48

    func noteUnwritten() {
        guard let unwrittenPath, !pending.items.isEmpty || lost != nil else { return }
        let since = lost?.since ?? .now()
        if unwrittenSince == nil { unwrittenSince = since }
        let count = pending.items.count + (lost?.count ?? 0)
        // Written over in one call and always as long: a kill in between must not find it empty.
        let text = "\(count) \((unwrittenSince ?? since).nanoseconds)"
        let padding = String(repeating: " ", count: max(0, Self.noteLength - text.utf8.count))
        try? writeSmallFile(unwrittenPath, text + padding, flags: O_WRONLY | O_CREAT, mode: 0o600)
    }

    func forgetUnwritten() {
        guard let unwrittenPath, unwrittenSince != nil else { return }
        unlink(unwrittenPath)
        unwrittenSince = nil
    }

    /// What a daemon before this one could not write.
    func unwrittenOfBefore() -> (count: Int, since: Timestamp)? {
        guard let unwrittenPath, let text = try? readSmallFile(unwrittenPath) else { return nil }
        let numbers = text.split(separator: " ").compactMap { Int64($0) }
        guard numbers.count == 2, numbers[0] > 0 else { return nil }
        let since = Timestamp(nanoseconds: numbers[1])
        unwrittenSince = since
        return (Int(numbers[0]), since)
    }
}
