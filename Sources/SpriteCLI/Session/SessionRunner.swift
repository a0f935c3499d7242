// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites

/// Connects a command in a sprite to this process's standard streams until it ends.
struct SessionRunner: Sendable {
    let sprite: String
    let command: RunningCommand

    private static let detachKey: UInt8 = 0x1C  // Ctrl+\
    private let streams = StandardStreams()

    init(sprite: String, command: RunningCommand) {
        self.sprite = sprite
        self.command = command
    }

    /// Runs to the end and ends this process with the command's exit code.
    func run() async throws -> Never {
        let code = command.isTerminal ? try await runTerminal() : try await runPipes()
        SpriteProgram.finish(code)
    }

    // MARK: Pipes

    private func runPipes() async throws -> Int32 {
        // Before any output is shown: what it says may be answered with a signal at once.
        let signals = Signals(Array(Self.forwarded.keys))
        // Nobody awaits these two: they end with the process.
        Task { await forward(signals) }
        Task { await forwardInput() }
        return try await copyOutput()
    }

    private func copyOutput() async throws -> Int32 {
        do {
            for try await chunk in command.output { try await streams.write(chunk) }
        } catch let error as OutputClosed {
            // What a local pipe would have done to it.
            try? command.signal("PIPE")
            try? await command.close()
            throw error
        }
        return try await command.exitCode()
    }

    private func forwardInput() async {
        while true {
            let bytes = await streams.read()
            if bytes.isEmpty { return command.closeInput() }
            do {
                try await command.write(bytes)
            } catch {
                return  // The command has ended; its exit code is on its way.
            }
        }
    }

    private static let forwarded: [Int32: String] = [SIGINT: "INT", SIGTERM: "TERM", SIGHUP: "HUP", SIGQUIT: "QUIT"]

    private func forward(_ signals: Signals) async {
        var interrupts = 0
        for await number in signals.received {
            if number == SIGINT {
                interrupts += 1
                // Somebody who presses it three times wants out.
                if interrupts == 3 { SpriteProgram.finish(128 + SIGINT) }
            }
            if let name = Self.forwarded[number] { try? command.signal(name) }
        }
    }

    // MARK: Terminal

    private func runTerminal() async throws -> Int32 {
        RawTerminal.enter()
        defer { RawTerminal.restore() }
        // Nobody awaits this: it ends with the process.
        Task { await followTerminal() }
        // Awaited when it leaves the session; ends with the process otherwise.
        let keys = Task { await forwardKeys() }
        do {
            return try await copyOutput()
        } catch is CancellationError {
            await keys.value
            RawTerminal.restore()
            printNote("\ndetached; `sprite attach -s \(sprite) \(command.sessionID)` comes back")
            return 0
        } catch let error as SpritesError where error.code == .connectionLost {
            RawTerminal.restore()
            throw SpritesError(
                error.code, "\(error.message); `sprite attach -s \(sprite) \(command.sessionID)` goes on with it")
        }
    }

    private func followTerminal() async {
        let signals = Signals([SIGWINCH, SIGCONT, SIGTSTP, SIGINT, SIGTERM, SIGHUP, SIGQUIT])
        for await number in signals.received {
            switch number {
            case SIGWINCH:
                if let size = RawTerminal.size() { command.resize(size) }
            case SIGTSTP:
                RawTerminal.restore()
                raise(SIGSTOP)
            case SIGCONT:
                RawTerminal.enter()
                if let size = RawTerminal.size() { command.resize(size) }
            default:
                SpriteProgram.finish(128 + number)
            }
        }
    }

    /// Returns when the session was left, or takes no more.
    private func forwardKeys() async {
        let isKeyboard = isTerminal(0)
        while true {
            let bytes = await streams.read()
            if bytes.isEmpty { return command.closeInput() }
            let end = isKeyboard ? bytes.firstIndex(of: Self.detachKey) : nil
            do {
                let typed = bytes[..<(end ?? bytes.endIndex)]
                if !typed.isEmpty { try await command.write(Array(typed)) }
            } catch {
                return
            }
            if end != nil {
                try? await command.close()
                return
            }
        }
    }
}
