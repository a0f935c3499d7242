// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc

/// All of standard input, whatever it is: a file, a pipe, a terminal.
func readStandardInput(bytesMax: Int = 1 << 20) throws -> Data {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
        let count = Glibc.read(STDIN_FILENO, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else {
            throw CommandFailure("cannot read standard input: \(String(cString: strerror(errno)))")
        }
        guard count > 0 else { return Data(bytes) }
        bytes += buffer[..<count]
        guard bytes.count <= bytesMax else {
            throw CommandFailure("standard input is too long: the limit is \(bytesMax) bytes")
        }
    }
}
