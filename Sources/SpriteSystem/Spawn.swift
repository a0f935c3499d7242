// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc

/// What to start; see `clinux_spawn_options` for the exact meaning of each field.
package struct SpawnRequest: Sendable {
    package var paths: [String]
    package var arguments: [String]
    package var environment: [String]
    package var directory: String?
    /// Element i becomes descriptor i of the child.
    package var descriptors: [Int32]
    package var newSession = false
    package var controllingTerminal = false
    /// How many files it may have open unless it raises the limit; 0 means as many as this process.
    package var softFileLimit: UInt64 = 0
    package var credentials: Credentials?
    package var namespaces: [Int32]

    package init(
        paths: [String], arguments: [String], environment: [String], directory: String? = nil, descriptors: [Int32],
        namespaces: [Int32] = []
    ) {
        self.paths = paths
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.descriptors = descriptors
        self.namespaces = namespaces
    }
}

package struct Credentials: Sendable, Hashable {
    package var user: UInt32
    package var group: UInt32
    package var supplementaryGroups: [UInt32]
    package init(user: UInt32, group: UInt32, supplementaryGroups: [UInt32] = []) {
        self.user = user
        self.group = group
        self.supplementaryGroups = supplementaryGroups
    }
}

/// A child could not be started; says at which stage.
package struct SpawnFailure: Error, Sendable, CustomStringConvertible {
    package enum Stage: Int32, Sendable {
        case none, clone, namespace, terminal, credentials, directory, descriptors, exec
    }
    package var stage: Stage
    package var number: Int32
    package var description: String { "cannot start: \(stage): \(errnoText(number))" }
}

package enum Ending: Sendable, Hashable {
    case exited(Int32)
    case signaled(Int32)
}

/// A child process, held by a pidfd.
package struct Child: Sendable {
    package let processID: Int32
    package let pidfd: Descriptor

    /// Blocks until it has ended, and reaps it.
    package func wait() throws -> Ending {
        var signaled: Int32 = 0
        let status = try checked(clinux_wait(pidfd.number, &signaled), "wait for \(processID)")
        return signaled != 0 ? .signaled(status) : .exited(status)
    }
}

package func spawn(_ request: SpawnRequest) throws -> Child {
    // dup2 in the child goes upwards from 0: a source below the count could be overwritten before it is used.
    var kept: [Descriptor] = []
    let sources = try request.descriptors.map { number -> Int32 in
        guard number < request.descriptors.count else { return number }
        let copy = try system("duplicate descriptor") { fcntl(number, F_DUPFD_CLOEXEC, Int32(64)) }
        kept.append(Descriptor(owning: copy))
        return copy
    }
    let child = try withExtendedLifetime(kept) {
        try withCStrings(request.paths) { paths in
            try withCStrings(request.arguments) { arguments in
                try withCStrings(request.environment) { environment in
                    try withOptionalCString(request.directory) { directory in
                        try start(request, sources, paths, arguments, environment, directory)
                    }
                }
            }
        }
    }
    return child
}

private func start(
    _ request: SpawnRequest, _ sources: [Int32], _ paths: UnsafePointer<UnsafePointer<CChar>?>,
    _ arguments: UnsafePointer<UnsafePointer<CChar>?>, _ environment: UnsafePointer<UnsafePointer<CChar>?>,
    _ directory: UnsafePointer<CChar>?
) throws -> Child {
    try sources.withUnsafeBufferPointer { descriptors in
        try (request.credentials?.supplementaryGroups ?? []).withUnsafeBufferPointer { groups in
            try request.namespaces.withUnsafeBufferPointer { namespaces in
                var options = clinux_spawn_options()
                options.paths = paths
                options.argv = arguments
                options.envp = environment
                options.directory = directory
                options.descriptors = descriptors.baseAddress
                options.descriptor_count = Int32(descriptors.count)
                options.new_session = request.newSession ? 1 : 0
                options.controlling_terminal = request.controllingTerminal ? 1 : 0
                options.soft_file_limit = request.softFileLimit
                if let credentials = request.credentials {
                    options.set_credentials = 1
                    options.uid = credentials.user
                    options.gid = credentials.group
                }
                options.groups = groups.baseAddress
                options.group_count = Int32(groups.count)
                options.namespaces = namespaces.baseAddress
                options.namespace_count = Int32(namespaces.count)
                var pidfd: Int32 = -1
                var stage: Int32 = 0
                let pid = clinux_spawn(&options, &pidfd, &stage)
                guard pid > 0 else {
                    throw SpawnFailure(stage: SpawnFailure.Stage(rawValue: stage) ?? .none, number: -pid)
                }
                return Child(processID: pid, pidfd: Descriptor(owning: pidfd))
            }
        }
    }
}

private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) throws -> Result
) rethrows -> Result {
    let copies = strings.map { strdup($0) }
    defer { copies.forEach { free($0) } }
    let pointers = copies.map { UnsafePointer($0) } + [nil]
    return try pointers.withUnsafeBufferPointer { buffer in
        guard let base = buffer.baseAddress else { preconditionFailure("the list has at least its terminator") }
        return try body(base)
    }
}

private func withOptionalCString<Result>(
    _ text: String?, _ body: (UnsafePointer<CChar>?) throws -> Result
) rethrows -> Result {
    guard let text else { return try body(nil) }
    return try text.withCString { try body($0) }
}
