// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// Reads a small file; nil if there is none.
///
/// - Throws: ``CommandFailure`` if it is there and cannot be read.
func readFile(_ path: String) throws -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
        if errno == ENOENT || errno == ENOTDIR { return nil }
        throw CommandFailure("cannot read \(path): \(errnoText(errno))")
    }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    // Configuration is a few KB; a limit keeps a wrong path from filling memory.
    while bytes.count < 4 << 20 {
        let count = read(descriptor, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw CommandFailure("cannot read \(path): \(errnoText(errno))") }
        if count == 0 { break }
        bytes.append(contentsOf: buffer[..<count])
    }
    return bytes
}

/// Replaces a file in one step, so that no reader sees half of it and a crash leaves the old one.
func replaceFile(_ path: String, with bytes: [UInt8], mode: mode_t) throws {
    // Next to the file, so that the rename stays within one file system.
    let temporary = "\(path).\(getpid()).tmp"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw CommandFailure("cannot write \(temporary): \(errnoText(errno))") }
    let number = bytes.withUnsafeBytes { writeAll(descriptor, $0) }
    let closed = close(descriptor)
    guard number == 0, closed == 0, rename(temporary, path) == 0 else {
        let number = number == 0 ? errno : number
        unlink(temporary)
        throw CommandFailure("cannot write \(path): \(errnoText(number))")
    }
}

/// A variable of the environment; nil when it is empty.
func environmentVariable(_ name: String) -> String? {
    guard let value = getenv(name) else { return nil }
    let text = String(cString: value)
    return text.isEmpty ? nil : text
}

/// The working directory.
func currentDirectory() throws -> String {
    guard let pointer = getcwd(nil, 0) else { throw CommandFailure("cannot find this directory: \(errnoText(errno))") }
    defer { free(pointer) }
    return String(cString: pointer)
}
