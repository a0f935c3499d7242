// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore

/// What the kernel still holds of what was written to a TCP connection.
enum SendQueue {
    /// `struct tcp_info` of linux/tcp.h up to `tcpi_notsent_bytes` (Linux 4.6): twenty 8-byte words.
    private typealias TCPInfo = (
        UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64,
        UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64
    )
    private static let unackedOffset = 24
    private static let notSentOffset = 144
    private static let tcpInfo: CInt = 11  // TCP_INFO

    /// Whether everything has reached the peer's machine; true where that cannot be told, as on a unix socket.
    static func isEmpty(_ channel: any Channel) -> EventLoopFuture<Bool> {
        guard let provider = channel as? any SocketOptionProvider else {
            return channel.eventLoop.makeSucceededFuture(true)
        }
        let info: EventLoopFuture<TCPInfo> = provider.unsafeGetSocketOption(
            level: .init(rawValue: 6), name: .init(rawValue: tcpInfo))  // 6 is IPPROTO_TCP.
        return info.map { info in
            withUnsafeBytes(of: info) { bytes in
                bytes.loadUnaligned(fromByteOffset: unackedOffset, as: UInt32.self) == 0
                    && bytes.loadUnaligned(fromByteOffset: notSentOffset, as: UInt32.self) == 0
            }
        }.recover { _ in true }
    }
}
