// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Sends a file, or a range of it.
///
/// Line before the body: `{"size":S,"offset":O,"length":L,"mode":"0644","partial":false}`. A length of -1 means up to
/// the end, where the file does not know its size (/proc). A range outside of the file is told by `"unsatisfiable"`.
struct FileReading {
    private let path: String
    private let first: Int64?
    private let last: Int64?
    private let suffix: Int64?

    init(_ request: FileRequest) throws {
        path = try request.path()
        first = try request.number("first")
        last = try request.number("last")
        suffix = try request.number("suffix")
    }

    func run(_ output: FileOutput) throws {
        let (file, facts) = try FileReading.open(path)
        let size = Int64(facts.st_size)
        var offset: Int64 = 0
        var length: Int64 = size == 0 ? -1 : size
        var isPartial = false
        // Nothing is known of the size of files such as those of /proc, so they are always sent whole.
        if size > 0, first != nil || suffix != nil {
            isPartial = true
            if let suffix {
                offset = max(0, size - suffix)
                length = size - offset
            } else {
                offset = first ?? 0
                length = min(last ?? .max, size - 1) - offset + 1
            }
            if length <= 0 || offset >= size {
                return try output.line(
                    .object([("size", .number(size)), ("unsatisfiable", .bool(true))]))
            }
        }
        try output.beginBody(
            .object([
                ("size", .number(size)), ("offset", .number(offset)), ("length", .number(length)),
                ("mode", .text(octal(facts.permissions))), ("partial", .bool(isPartial)),
            ]))
        try send(file, offset, length)
    }

    private func send(_ file: Descriptor, _ offset: Int64, _ length: Int64) throws {
        if offset > 0 { guard lseek(file.number, off_t(offset), SEEK_SET) >= 0 else { throw FileFailure(errno, path) } }
        var rest = length < 0 ? Int64.max : length
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        while rest > 0 {
            let count = read(file.number, &buffer, Int(min(Int64(buffer.count), rest)))
            if count < 0 {
                if errno == EINTR { continue }
                throw FileFailure(errno, path)
            }
            if count == 0 {
                // It became shorter: the exit code tells that the body is not whole.
                if length >= 0 { throw FileFailure(EIO, path) }
                return
            }
            try buffer.withUnsafeBytes {
                try writeAll(STDOUT_FILENO, UnsafeRawBufferPointer(rebasing: $0[..<count]), path)
            }
            rest -= Int64(count)
        }
    }

    /// Opens a regular file, following links; never waits for one that is none, such as a pipe without a writer.
    static func open(_ path: String) throws -> (Descriptor, stat) {
        var facts = stat()
        try attempt(path) { stat(path, &facts) }
        try check(facts, path)
        let file = Descriptor(
            owning: try attempt(path) { Glibc.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) })
        facts = try FileTree.facts(file.number, path)
        try check(facts, path)
        return (file, facts)
    }

    static func check(_ facts: stat, _ path: String) throws {
        if facts.isDirectory { throw FileFailure(EISDIR, path) }
        guard facts.isRegular else { throw FileFailure(EINVAL, path, "invalid argument: not a regular file") }
    }
}
