// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
import SpriteSystem

/// Whether a loop device passes on that everything has to be written out, as btrfs asks at the end of every commit.
///
/// It does if its `queue/write_cache` says `write back`, as it does at first. With `write through` the kernel answers
/// such a request by itself: what was acknowledged may be in the volatile cache of the disk below, and a power cut takes
/// it. The setting belongs to the number of the device and stays when another file is shown, so whoever had the number
/// before may have left it.
enum LoopFlushes {
    private static let wanted = "write back"

    private static func path(_ number: Int32) -> String { "/sys/block/loop\(number)/queue/write_cache" }

    /// What the device says; nil if that cannot be read.
    static func setting(of number: Int32) -> String? {
        guard let text = try? readSmallFile(path(number), bytesMax: 64) else { return nil }
        return String(text.prefix { $0 != "\n" })
    }

    static func arePassedOn(_ setting: String?) -> Bool { setting == wanted }

    /// Sets the device back if it keeps them to itself. What cannot be set is an operator's to know and stops nothing.
    static func ensure(_ number: Int32, logger: Logger) {
        let before = setting(of: number)
        guard !arePassedOn(before) else { return }
        let metadata: Logger.Metadata = [
            "pool.device": "/dev/loop\(number)", "pool.write_cache": "\(before ?? "unknown")",
        ]
        try? writeSmallFile(path(number), wanted)
        if arePassedOn(setting(of: number)) {
            logger.warning("loop device of the pool did not pass flushes on; set to write back", metadata: metadata)
        } else {
            logger.error(
                "loop device of the pool does not pass flushes on: a power cut may take what was acknowledged",
                metadata: metadata)
        }
    }
}
