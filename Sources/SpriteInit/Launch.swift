// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteAgentWire
import SpriteSystem

/// A command that runs, or has ended and is not collected yet, with the copies of its descriptors.
struct KeptSession {
    var process: Int32
    var isTerminal: Bool
    /// Pipes: standard output and error, read ends. Terminal: master, relay read end, relay write end.
    var output: [Descriptor]
    /// The write end of standard input.
    var input: Descriptor?
    var ending: AgentEnding?
}

/// Why a command was not started, for the daemon.
struct LaunchFailure: Error {
    var stage: UInt8
    var number: Int32
    var text: String
}

/// Starts one command: who, where, which file.
struct Launch {
    static let defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    /// Commands get what programs expect (select(2) fails above it); the hard limit lets them raise it.
    static let childFilesMax: UInt64 = 1024

    let request: AgentSpawn
    let account: Account
    let directory: String
    let environment: [String]
    let name: String
    let candidates: [String]

    init(_ request: AgentSpawn) throws {
        self.request = request
        let user = request.user.isEmpty ? "sprite" : request.user
        guard let account = Accounts().find(user) else {
            throw LaunchFailure(stage: AgentStage.user, number: ENOENT, text: "\(user): there is no such user")
        }
        self.account = account
        if request.directory.isEmpty {
            directory = isDirectory(account.home) ? account.home : "/"
        } else if request.directory.hasPrefix("/") {
            directory = request.directory
        } else {
            directory = (account.home == "/" ? "" : account.home) + "/" + request.directory
        }
        var environment = request.environment
        for (variable, value) in [
            ("HOME", account.home), ("USER", account.name), ("LOGNAME", account.name), ("SHELL", account.shell),
        ] where !environment.contains(where: { $0.hasPrefix("\(variable)=") }) {
            environment.append("\(variable)=\(value)")
        }
        // What a login would take from there, such as proxies; what the request says wins.
        for line in SystemEnvironment.lines()
        where !environment.contains(where: { $0.hasPrefix(line.prefix { $0 != "=" } + "=") }) {
            environment.append(line)
        }
        // Where a login of the base's own would have its sockets, such as that of `systemctl --user`.
        let runtime = "/run/user/\(account.user)"
        if !environment.contains(where: { $0.hasPrefix("XDG_RUNTIME_DIR=") }), isDirectory(runtime, of: account.user) {
            environment.append("XDG_RUNTIME_DIR=\(runtime)")
        }
        self.environment = environment
        let name = request.path.isEmpty ? request.arguments[0] : request.path
        self.name = name
        if name.contains("/") || name.isEmpty {
            candidates = [name]
        } else {
            let path = environment.last { $0.hasPrefix("PATH=") }?.dropFirst(5) ?? Substring(Launch.defaultPath)
            let folders = path.split(separator: ":", omittingEmptySubsequences: false).prefix(256)
            candidates = folders.map { $0.isEmpty ? "./\(name)" : "\($0)/\(name)" }
        }
    }

    /// The file that runs, as far as PID 1 can tell.
    var resolvedPath: String {
        let found = candidates.first { isProgram($0.hasPrefix("/") ? $0 : "\(directory)/\($0)") }
        return found ?? candidates.first ?? name
    }

    /// - Parameter descriptors: As the table of the wire says for `spawn`.
    func start(_ descriptors: [Descriptor]) throws -> KeptSession {
        guard descriptors.count == request.descriptorCount else {
            throw LaunchFailure(stage: AgentStage.prepare, number: EINVAL, text: "descriptors are missing")
        }
        if request.isTerminal { return try startOnTerminal(relay: descriptors) }
        let input: Descriptor
        if request.takesInput {
            input = descriptors[4]
        } else {
            input = try emptyInput()
        }
        let process = try run([input, descriptors[1], descriptors[3]])
        return KeptSession(
            process: process, isTerminal: false, output: [descriptors[0], descriptors[2]],
            input: request.takesInput ? descriptors[5] : nil)
    }

    private func startOnTerminal(relay: [Descriptor]) throws -> KeptSession {
        var masterNumber: Int32 = -1
        var slaveNumber: Int32 = -1
        let result = clinux_open_terminal(&masterNumber, &slaveNumber, request.rows, request.columns)
        guard result == 0 else {
            throw LaunchFailure(
                stage: AgentStage.prepare, number: -result, text: "cannot open a terminal: \(errnoText(-result))")
        }
        let master = Descriptor(owning: masterNumber)
        let slave = Descriptor(owning: slaveNumber)
        // Programs such as screen and gpg open their terminal by its name.
        _ = fchown(slave.number, account.user, gid_t.max)
        let process = try run([slave, slave, slave])
        return KeptSession(process: process, isTerminal: true, output: [master] + relay)
    }

    /// `/dev/null`, or a pipe that is at its end if somebody took that away.
    private func emptyInput() throws -> Descriptor {
        let number = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        if number >= 0 {
            let file = Descriptor(owning: number)
            var facts = stat()
            if fstat(number, &facts) == 0, facts.st_mode & S_IFMT == S_IFCHR { return file }
        }
        var ends: [Int32] = [-1, -1]
        let result = clinux_pipe(&ends, 0)
        guard result == 0 else {
            throw LaunchFailure(stage: AgentStage.prepare, number: -result, text: errnoText(-result))
        }
        close(ends[1])
        return Descriptor(owning: ends[0])
    }

    private func run(_ descriptors: [Descriptor]) throws -> Int32 {
        var paths = candidates
        var arguments = request.arguments
        for _ in 0..<2 {
            var spawnRequest = SpawnRequest(
                paths: paths, arguments: arguments, environment: environment, directory: directory,
                descriptors: descriptors.map(\.number))
            spawnRequest.newSession = true
            spawnRequest.controllingTerminal = request.isTerminal
            spawnRequest.credentials = account.credentials
            spawnRequest.softFileLimit = Launch.childFilesMax
            do {
                return try withExtendedLifetime(descriptors) { try spawn(spawnRequest).processID }
            } catch let failure as SpawnFailure {
                // A script without `#!` is the shell's, as everywhere since the first Unix.
                if failure.stage == .exec, failure.number == ENOEXEC, paths != ["/bin/sh"] {
                    arguments = ["sh", resolvedPath] + arguments.dropFirst()
                    paths = ["/bin/sh"]
                    continue
                }
                throw LaunchFailure(
                    stage: UInt8(clamping: failure.stage.rawValue), number: failure.number, text: text(for: failure))
            } catch let failure as SystemError {
                throw LaunchFailure(stage: AgentStage.prepare, number: failure.number, text: "\(failure)")
            }
        }
        throw LaunchFailure(stage: AgentStage.prepare, number: ENOEXEC, text: "\(name): \(errnoText(ENOEXEC))")
    }

    private func text(for failure: SpawnFailure) -> String {
        switch failure.stage {
        case .directory: return "cannot enter \(directory): \(errnoText(failure.number))"
        case .exec where failure.number == ENOENT:
            if isProgram(resolvedPath) { return "\(name): the interpreter it names does not exist" }
            return name.contains("/") ? "\(name): \(errnoText(ENOENT))" : "\(name): command not found"
        case .exec: return "\(name): \(errnoText(failure.number))"
        default: return "cannot start \(name): \(errnoText(failure.number))"
        }
    }
}
