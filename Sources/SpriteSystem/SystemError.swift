// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// A system call that failed, and what it was done to.
package struct SystemError: Error, Sendable, CustomStringConvertible {
    /// The positive number of errno(3).
    package var number: Int32
    /// What was tried, such as `mount overlay on /run/x`.
    package var operation: String

    package init(_ number: Int32, _ operation: String) {
        self.number = number < 0 ? -number : number
        self.operation = operation
    }

    package var description: String { "\(operation): \(errnoText(number))" }
}

/// strerror(3) without its shared buffer.
package func errnoText(_ number: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 128)
    guard strerror_r(number, &buffer, buffer.count) == 0 else { return "error \(number)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// Runs a call that returns -1 and sets errno, again after EINTR.
@discardableResult
package func system(_ operation: @autoclosure () -> String, _ call: () -> Int32) throws -> Int32 {
    while true {
        let result = call()
        if result >= 0 { return result }
        let number = errno
        if number != EINTR { throw SystemError(number, operation()) }
    }
}

/// Checks the result of one of the `clinux_` functions, which return -errno.
@discardableResult
package func checked(_ result: Int32, _ operation: @autoclosure () -> String) throws -> Int32 {
    guard result >= 0 else { throw SystemError(-result, operation()) }
    return result
}
