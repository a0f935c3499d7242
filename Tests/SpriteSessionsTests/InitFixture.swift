// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
import NIOCore
import SpriteDomain
import SpriteSessions
import SpriteSystem
import Testing

/// PID 1 in a pid namespace of its own, on the host's files, and an engine that talks to it.
final class InitFixture: @unchecked Sendable {
    static let binary = getenv("SPRITE_ENV_BINARY").map { String(cString: $0) } ?? ".build-static/release/sprite-env"
    /// Root and the static program; required where a skip would hide.
    static var isAvailable: Bool {
        let required = getenv("SPRITE_REQUIRE").map { String(cString: $0) } ?? ""
        return required.contains("sandbox") || (getuid() == 0 && access(binary, X_OK) == 0)
    }
    static let setup = AgentSetup(hostname: "test", nameServers: [], environment: ["FROM_SPRITE": "1", "LANG": "C"])

    let directory: String
    let sprite = SpriteID.random()
    /// One test, one task at a time.
    private(set) var engine: SessionEngine
    private let child: Child

    init() async throws {
        directory = "/dev/shm/sprite-sessions-test-\(UInt32.random(in: 0 ... .max))"
        engine = try SessionEngine(runDirectory: directory, logger: Logger(label: "test"))
        let socket = Descriptor(owning: try engine.listen(sprite))
        let null = try Descriptor.open("/dev/null", O_RDWR)
        child = try spawn(
            SpawnRequest(
                paths: ["/usr/bin/unshare"],
                arguments: ["unshare", "-pmf", "--mount-proc", "--kill-child", InitFixture.binary, "init"],
                environment: ["PATH=/usr/bin:/bin"],
                descriptors: [null.number, STDOUT_FILENO, STDERR_FILENO, socket.number]))
        try await engine.connect(sprite, setup: InitFixture.setup)
    }

    deinit {
        kill()
        for folder in ["agents", "sessions"] { rmdir("\(directory)/\(folder)") }
        rmdir(directory)
    }

    func kill() {
        clinux_pidfd_send_signal(child.pidfd.number, SIGKILL)
        _ = try? child.wait()
    }

    func end() async {
        kill()
        await engine.disconnect(sprite)
        await engine.stop()
    }

    /// Lets go of every descriptor without a word, and begins anew: what a killed and restarted daemon does.
    func restart() async throws {
        await engine.stop()
        engine = try SessionEngine(runDirectory: directory, logger: Logger(label: "test"))
        try await engine.connect(sprite, setup: InitFixture.setup)
    }

    func exec(_ request: ExecRequest) async throws -> any ExecSession { try await engine.exec(sprite, request) }
    func shell(_ script: String) -> ExecRequest { ExecRequest(arguments: ["sh", "-c", script]) }
    func run(_ request: ExecRequest) async throws -> Run { try await collect(exec(request).attach()) }
    func run(_ script: String) async throws -> Run { try await run(shell(script)) }
}

struct Run: Equatable {
    var output = ""
    var errors = ""
    var status: SpriteDomain.ExitStatus?
}

func collect(_ reader: any SessionReader) async throws -> Run {
    var output = ByteBuffer()
    var errors = ByteBuffer()
    var status: SpriteDomain.ExitStatus?
    while let event = try await reader.next() {
        switch event {
        case .output(.stdout, var buffer): output.writeBuffer(&buffer)
        case .output(.stderr, var buffer): errors.writeBuffer(&buffer)
        case .exited(let ending): status = ending
        }
    }
    reader.detach()
    return Run(output: String(buffer: output), errors: String(buffer: errors), status: status)
}
