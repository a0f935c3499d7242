// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc

/// Nobody reads our standard output any more.
struct OutputClosed: Error {
    /// What a program that dies of SIGPIPE is seen to end with.
    var code: Int32 { 128 + SIGPIPE }
}

/// Writes everything, waiting where the descriptor does not block by itself.
///
/// - Returns: 0, or the number of the error.
func writeAll(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int32 {
    var rest = bytes
    while !rest.isEmpty {
        let count = write(descriptor, rest.baseAddress, rest.count)
        if count >= 0 {
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        } else if errno == EAGAIN {
            var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            _ = Glibc.poll(&poll, 1, -1)
        } else if errno != EINTR {
            return errno
        }
    }
    return 0
}

func writeAll(_ descriptor: Int32, _ text: String) -> Int32 {
    var text = text
    return text.withUTF8 { writeAll(descriptor, UnsafeRawBufferPointer($0)) }
}

/// Prints a line of data to standard output.
func printLine(_ text: String) throws {
    let number = writeAll(1, text + "\n")
    if number == EPIPE { throw OutputClosed() }
    if number != 0 { throw CommandFailure("cannot write to standard output: \(errnoText(number))") }
}

/// Prints a line that is not data, such as how long something took, to standard error.
func printNote(_ text: String) { _ = writeAll(2, text + "\n") }

/// Prints a value as JSON, with keys in a fixed order.
func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try printLine(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// Prints a value as JSON on one line.
func printJSONLine(_ value: some Encodable) throws { try printLine(compactJSON(value)) }

/// A value as JSON on one line.
func compactJSON(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}

func errnoText(_ number: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 128)
    guard strerror_r(number, &buffer, buffer.count) == 0 else { return "error \(number)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// Whether a descriptor is a terminal.
func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

/// Asks a question on the terminal; anything but yes is no.
func confirm(_ question: String) -> Bool {
    _ = writeAll(2, question + " [y/N] ")
    let answer = readLine(strippingNewline: true)?.lowercased() ?? ""
    return answer == "y" || answer == "yes"
}
