// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc

/// A run of an external program that ended with something other than success.
package struct ToolFailure: Error, Sendable, CustomStringConvertible {
    package var program: String
    package var arguments: [String]
    /// Exit status, or nil if a signal ended it.
    package var status: Int32?
    /// The last lines of its standard error.
    package var standardError: String

    package var description: String {
        let ending = status.map { "exit status \($0)" } ?? "a signal"
        return "\(program) \(arguments.joined(separator: " ")): \(ending): \(standardError)"
    }
}

/// What a program printed.
package struct ToolOutput: Sendable {
    package var standardOutput: String
    package var standardError: String
}

/// Finds a program in PATH and the usual system folders; nil if it is not installed.
package func findProgram(_ name: String) -> String? {
    if name.contains("/") { return access(name, X_OK) == 0 ? name : nil }
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    for folder in path.split(separator: ":").map(String.init) + ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        let candidate = "\(folder)/\(name)"
        if access(candidate, X_OK) == 0 { return candidate }
    }
    return nil
}

/// Runs a program to its end and collects what it prints; blocks, so call it inside ``blocking(_:)``.
///
/// - Parameters:
///   - input: Given as its standard input (up to a pipe's capacity of 64 KiB is written before it runs).
///   - descriptors: Become descriptors 3, 4, … of the child.
///   - namespaces: Namespace descriptors entered with setns(2) first.
///   - onLine: Called for every line of standard error as it comes, for progress.
/// - Throws: ``ToolFailure`` for an unsuccessful end, ``SystemError`` if it cannot be started.
@discardableResult
package func runTool(
    _ program: String, _ arguments: [String], input: String? = nil, environment: [String]? = nil,
    directory: String? = nil, descriptors: [Int32] = [], namespaces: [Int32] = [], outputBytesMax: Int = 16 << 20,
    onLine: ((String) -> Void)? = nil
) throws -> ToolOutput {
    try traced("command.\(program.split(separator: "/").last ?? "")", arguments.joined(separator: " ")) {
        try run(
            program, arguments, input: input, environment: environment, directory: directory,
            descriptors: descriptors, namespaces: namespaces, outputBytesMax: outputBytesMax, onLine: onLine)
    }
}

private func run(
    _ program: String, _ arguments: [String], input: String?, environment: [String]?, directory: String?,
    descriptors: [Int32], namespaces: [Int32], outputBytesMax: Int, onLine: ((String) -> Void)?
) throws -> ToolOutput {
    guard let path = findProgram(program) else { throw SystemError(ENOENT, "run \(program)") }
    var ends: [Int32] = [-1, -1]
    try checked(clinux_pipe(&ends, 0), "pipe")
    let outputRead = Descriptor(owning: ends[0])
    var outputWrite: Descriptor? = Descriptor(owning: ends[1])
    try checked(clinux_pipe(&ends, 0), "pipe")
    let errorRead = Descriptor(owning: ends[0])
    var errorWrite: Descriptor? = Descriptor(owning: ends[1])
    let inputSource: Descriptor
    if var input {
        try checked(clinux_pipe(&ends, 64 << 10), "pipe")
        inputSource = Descriptor(owning: ends[0])
        let writer = Descriptor(owning: ends[1])
        try input.withUTF8 { bytes in
            guard bytes.count <= 64 << 10, write(writer.number, bytes.baseAddress, bytes.count) == bytes.count else {
                throw SystemError(EMSGSIZE, "give \(program) its input")
            }
        }
    } else {
        inputSource = try Descriptor.open("/dev/null", O_RDONLY)
    }
    let environment = environment ?? ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]
    let child = try spawn(
        SpawnRequest(
            paths: [path], arguments: [program] + arguments, environment: environment, directory: directory,
            descriptors: [inputSource.number, outputWrite?.number ?? -1, errorWrite?.number ?? -1] + descriptors,
            namespaces: namespaces))
    outputWrite = nil
    errorWrite = nil

    var collected: [[UInt8]] = [[], []]
    var line: [UInt8] = []
    var polled = [
        pollfd(fd: outputRead.number, events: Int16(POLLIN), revents: 0),
        pollfd(fd: errorRead.number, events: Int16(POLLIN), revents: 0),
    ]
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while polled.contains(where: { $0.fd >= 0 }) {
        if poll(&polled, 2, -1) < 0 { continue }
        for index in 0..<2 where polled[index].fd >= 0 && polled[index].revents != 0 {
            let count = read(polled[index].fd, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                polled[index].fd = -1
                continue
            }
            if collected[index].count < outputBytesMax { collected[index].append(contentsOf: buffer[..<count]) }
            guard index == 1, let onLine else { continue }
            for byte in buffer[..<count] {
                if byte == 0x0A || byte == 0x0D {
                    if !line.isEmpty { onLine(String(decoding: line, as: UTF8.self)) }
                    line.removeAll()
                } else if line.count < 4096 {
                    line.append(byte)
                }
            }
        }
    }
    let ending = try child.wait()
    let output = String(decoding: collected[0], as: UTF8.self)
    let errors = String(decoding: collected[1], as: UTF8.self)
    guard ending == .exited(0) else {
        var status: Int32?
        if case .exited(let code) = ending { status = code }
        let tail = errors.split(separator: "\n").suffix(12).joined(separator: "\n")
        throw ToolFailure(program: program, arguments: arguments, status: status, standardError: tail)
    }
    return ToolOutput(standardOutput: output, standardError: errors)
}
