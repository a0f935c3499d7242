// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOWebSocket

extension ByteBuffer {
    /// Takes a client's mask off (RFC 6455 §5.3), eight bytes at a time: byte by byte, as the library does it, costs
    /// more than everything else that is done to input.
    mutating func unmask(_ key: WebSocketMaskingKey) {
        let keyBytes = Array(key)
        withUnsafeMutableReadableBytes { bytes in
            var index = 0
            let word = keyBytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
            let pair = UInt64(word) << 32 | UInt64(word)
            while index + 8 <= bytes.count {
                let value = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
                bytes.storeBytes(of: value ^ pair, toByteOffset: index, as: UInt64.self)
                index += 8
            }
            while index < bytes.count {
                bytes[index] ^= keyBytes[index & 3]
                index += 1
            }
        }
    }
}
