// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import ArgumentParser
import Glibc
import SpriteDomain

/// The version every program of this package reports.
package let programVersion = "0.1.0"

/// `sprited`: the daemon and its operator's commands.
package struct SpritedCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "sprited",
        abstract: "Persistent, checkpointable Linux computers on this machine.",
        version: programVersion,
        subcommands: [
            ServeCommand.self, BaseCommand.self, PoolCommand.self, RuntimesCommand.self, TokenCommand.self,
            DoctorCommand.self,
            CleanupCommand.self,
        ])

    package init() {}

    /// Runs what the command line says and exits: 1 for a failure, 2 for wrong usage.
    package static func run() async -> Never {
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            Glibc.exit(0)
        } catch let error as SpriteError {
            complain("sprited: \(error.message)")
            if let cause = error.cause { complain("  because: \(cause)") }
            Glibc.exit(1)
        } catch {
            // Help and version are not failures; every other refusal of the command line is wrong usage.
            let isUsage = exitCode(for: error) != .success
            let text = fullMessage(for: error)
            if isUsage { complain(text) } else { say(text) }
            Glibc.exit(isUsage ? (exitCode(for: error) == .validationFailure ? 2 : 1) : 0)
        }
    }
}

/// What every command takes.
struct DataOptions: ParsableArguments {
    @Option(name: .customLong("data-dir"), help: "Directory of the registry, the token and the pool.")
    var dataDirectory = "/var/lib/sprited"

    /// Makes the directory if it is not there.
    func names() throws -> HostNames {
        guard geteuid() == 0 else {
            throw SpriteError(.invalidRequest, "cannot run: sprited needs root; start it with sudo")
        }
        return try HostNames(dataDirectory: dataDirectory)
    }
}

func complain(_ text: String) { put(text + "\n", STDERR_FILENO) }
func say(_ text: String) { put(text + "\n", STDOUT_FILENO) }

func put(_ text: String, _ descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
        var sent = 0
        while sent < bytes.count {
            let count = write(descriptor, bytes.baseAddress.map { $0 + sent }, bytes.count - sent)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            sent += count
        }
    }
}
