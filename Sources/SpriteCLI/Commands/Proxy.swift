// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Proxy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "proxy", abstract: "Forward ports of this machine to ports in a sprite.",
        usage: "sprite proxy [-s NAME] PORT... | LOCAL:REMOTE...\nsprite proxy [-s NAME] -W [HOST]:PORT",
        discussion: """
            Listens on 127.0.0.1 until it is interrupted. With -W one connection is made of standard input and output, \
            as ssh's ProxyCommand wants it.
            """)

    @OptionGroup var global: GlobalOptions

    @Option(name: [.customShort("W"), .customLong("stdio")], help: "Connect standard input and output to [HOST]:PORT.")
    var stdio: String?

    @Argument(help: "PORT, or LOCAL:REMOTE.")
    var ports: [String] = []

    func validate() throws {
        guard (stdio == nil) == ports.isEmpty else { return }
        throw ValidationError(stdio == nil ? "give at least one port, such as 8080 or 3001:3000" : "give ports or -W")
    }

    func run() async throws {
        let sprite = try Context(global).sprite()
        if let stdio { return try await connect(sprite, try Self.target(stdio)) }
        let pairs = try ports.map(Self.pair)
        var forwards: [PortForward] = []
        for (local, remote) in pairs {
            let forward = try await sprite.forward(localPort: local, remotePort: remote) { error in
                printNote("sprite: port \(remote): \((error as? SpritesError)?.message ?? "\(error)")")
            }
            printNote("forwarding 127.0.0.1:\(forward.localPort) to port \(remote) of \(sprite.name)")
            forwards.append(forward)
        }
        await forwards.first?.waitUntilClosed()
        withExtendedLifetime(forwards) {}
    }

    private func connect(_ sprite: Sprite, _ target: (host: String, port: Int)) async throws {
        let connection = try await sprite.connect(port: target.port, host: target.host)
        let streams = StandardStreams()
        // Ends with the process.
        Task {
            while true {
                let bytes = await streams.read()
                guard !bytes.isEmpty else { break }
                do {
                    try await connection.write(bytes)
                } catch {
                    return
                }
            }
            // The other side may still have something to say to what was the last.
            try? await Task.sleep(for: .seconds(1))
            connection.close()
        }
        for try await chunk in connection.output { try await streams.write(chunk) }
    }

    static func pair(_ text: String) throws -> (local: Int, remote: Int) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { UInt16($0).map(Int.init) }
        guard parts.count <= 2, let local = parts.first ?? nil, let remote = parts.last ?? nil, remote > 0 else {
            throw UsageError("'\(text)' is no port; use a number such as 8080, or LOCAL:REMOTE such as 3001:3000")
        }
        return (local, remote)
    }

    static func target(_ text: String) throws -> (host: String, port: Int) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
            throw UsageError("'\(text)' is no target; use [HOST]:PORT, such as :5432")
        }
        let host = text[..<colon]
        return (host.isEmpty ? "localhost" : String(host), Int(port))
    }
}
