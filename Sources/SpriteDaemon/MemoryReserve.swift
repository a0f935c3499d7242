// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain

/// How much of the host's memory should stay free.
enum MemoryReserve: Sendable, Hashable {
    case off
    case bytes(UInt64)
    case percent(UInt64)

    /// Reads `2G`, `5%` or `off`.
    init(_ text: String) throws {
        if text == "off" {
            self = .off
        } else if text.hasSuffix("%") {
            guard let percent = UInt64(text.dropLast()), percent <= 100 else {
                throw SpriteError(
                    .invalidRequest, "cannot read '\(text)': write a size such as 2G, a part such as 5%, or off")
            }
            self = .percent(percent)
        } else {
            self = .bytes(try byteCount(text))
        }
    }

    /// Whether the kernel could give out less than this without swapping.
    var isMissing: Bool {
        if self == .off { return false }
        guard let memory = HostMemory.now() else { return false }
        switch self {
        case .off: return false
        case .bytes(let bytes): return memory.available < bytes
        case .percent(let percent): return memory.available < memory.total / 100 * percent
        }
    }
}

/// What /proc/meminfo says, in bytes.
struct HostMemory: Sendable, Hashable {
    var total: UInt64
    var available: UInt64

    static func now() -> HostMemory? {
        guard let file = fopen("/proc/meminfo", "re") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = fread(&bytes, 1, bytes.count, file)
        return HostMemory(String(decoding: bytes.prefix(count), as: UTF8.self))
    }

    init?(_ text: String) {
        var values: [Substring: UInt64] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count >= 2 { values[words[0]] = UInt64(words[1]) }
        }
        guard let total = values["MemTotal:"], let available = values["MemAvailable:"] else { return nil }
        self.total = total << 10
        self.available = available << 10
    }
}
