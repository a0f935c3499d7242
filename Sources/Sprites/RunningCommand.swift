// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import SpriteAPI

/// A command that was started or attached to.
///
/// Read ``output`` to its end and then ask for ``exitCode()``; a command whose output is not read is held back once
/// 4 MiB wait, as with a full pipe. ``discardOutput()`` is for those who do not want it.
///
/// When the last reference goes, the connection is closed.
public final class RunningCommand: Sendable {
    /// Largest piece of standard input sent as one message.
    private static let inputMessageBytesMax = 128 << 10

    /// Kept so that the event loop of the channel lives as long as this does.
    private let client: SpritesClient
    private let state: ExecState
    private let wantsTerminal: Bool
    /// The server's id for it, to attach to it later or to kill it.
    public var sessionID: String { state.known?.sessionID ?? "" }
    /// Whether it has a terminal.
    public var isTerminal: Bool { state.known?.isTerminal ?? wantsTerminal }

    private init(_ sprite: Sprite, _ channel: any Channel, _ state: ExecState, wantsTerminal: Bool) {
        client = sprite.client
        self.state = state
        self.wantsTerminal = wantsTerminal
        // Ends within seconds, at once when the command is given up.
        state.use(channel) { lost in Task { await Self.resume(state, in: sprite, lost) } }
    }

    /// Attaches again where the output stopped, with back-off.
    private static func resume(_ state: ExecState, in sprite: Sprite, _ lost: SpritesError) async {
        let session = state.known?.sessionID ?? ""
        while let (wait, position) = state.nextAttempt() {
            try? await Task.sleep(for: wait)
            if state.hasEnded { return }
            let path = sprite.path + "/exec/" + API.PercentCoding.encode(session) + "?" + position.query.encoded
            do {
                let channel = try await connect(path, on: sprite.client, state, isTerminal: false)
                guard state.resumed(on: channel) else { continue }
                // It was given up meanwhile, or has ended, and then this means nothing.
                if state.hasEnded { channel.triggerUserOutboundEvent(ExecRequest.leave(state), promise: nil) }
                return
            } catch let error as SpritesError
                where [.connectionLost, .cannotConnect, .unavailable].contains(error.code)
            {
                continue
            } catch {
                break  // It has ended and was forgotten, or the output is not kept any more.
            }
        }
        state.abandon(lost)
    }

    deinit { disconnect() }

    /// Starts a command: on a control connection if it has pipes and ends with its client, else on one of its own.
    ///
    /// Whoever does not wait for ``greeted()`` may get ``CommandNotSent`` instead of output, and can start it again.
    static func start(_ query: API.ExecQuery, in sprite: Sprite) async throws -> RunningCommand {
        let client = sprite.client
        guard !query.tty, !query.detachable, client.options.usesControl,
            let channel = try await client.pool.control(sprite)
        else {
            return try await open(sprite.path + "/exec?" + query.query.encoded, in: sprite, isTerminal: query.tty)
        }
        // From here to the request nothing may throw: the connection would be lost to the pool.
        let state = ExecState()
        let request = ExecRequest.begin(state, query.query) { [pool = client.pool, name = sprite.name] keep in
            pool.giveBack(channel, of: name, keep: keep)
        }
        let running = RunningCommand(sprite, channel, state, wantsTerminal: false)
        channel.triggerUserOutboundEvent(request, promise: nil)
        return running
    }

    /// Starts or attaches on a connection of its own.
    static func open(_ path: String, in sprite: Sprite, isTerminal: Bool) async throws -> RunningCommand {
        let state = ExecState()
        let channel = try await connect(path, on: sprite.client, state, isTerminal: isTerminal)
        return RunningCommand(sprite, channel, state, wantsTerminal: isTerminal)
    }

    private static func connect(
        _ path: String, on client: SpritesClient, _ state: ExecState, isTerminal: Bool
    ) async throws -> any Channel {
        let (place, timeout) = (client.baseURL, client.options.requestTimeout)
        return try await client.pool.direct(path) { release in
            ExecChannelHandler(
                .exec(isTerminal: isTerminal), state: state, place: place, answerTimeout: timeout, release: release)
        }
    }

    /// Waits until the server told the session.
    func greeted() async throws -> RunningCommand {
        do {
            _ = try await state.greeting()
            return self
        } catch {
            disconnect()
            throw named(error)
        }
    }

    // MARK: Output

    /// What it prints, as it comes, to be read by one task.
    ///
    /// Ends when the command has ended and everything was read. Throws ``SpritesError`` with `.connectionLost` if the
    /// connection ended first.
    public var output: Output { Output(state: state) }

    /// The pieces of a command's output.
    public struct Output: AsyncSequence, Sendable {
        /// Some bytes of one stream.
        public typealias Element = OutputChunk

        let state: ExecState

        /// Reads from where the last reader stopped.
        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(state: state) }

        /// Takes what waits in one go, so that a chunk costs next to nothing.
        public struct AsyncIterator: AsyncIteratorProtocol {
            let state: ExecState
            private var batch: [OutputChunk] = []
            private var position = 0

            init(state: ExecState) { self.state = state }

            /// The next chunk, or nil at the end.
            public mutating func next() async throws -> OutputChunk? {
                if position == batch.count {
                    batch = try await state.takeOutput()
                    position = 0
                    if batch.isEmpty { return nil }
                }
                defer { position += 1 }
                return batch[position]
            }
        }
    }

    /// Throws away what was not read yet and all that comes.
    public func discardOutput() { state.discard() }

    /// Waits for its end: the exit code, 128 + n when signal n ended it.
    ///
    /// - Throws: ``SpritesError`` with `.connectionLost` if the connection ended first.
    public func exitCode() async throws -> Int32 {
        do {
            return try await state.exitCode()
        } catch {
            throw named(error)
        }
    }

    /// A lost connection says which session it was.
    func named(_ error: any Error) -> any Error {
        guard var lost = error as? SpritesError, lost.code == .connectionLost else { return error }
        lost.sessionID = sessionID.isEmpty ? nil : sessionID
        lost.mayBeRunning = true
        return lost
    }

    // MARK: Ports

    /// Sets who is told when its processes begin or cease to listen on TCP ports, also of those that already do.
    public func onPort(_ action: @escaping @Sendable (PortChange) -> Void) { state.onPort(action) }

    // MARK: Input

    /// Writes to its standard input; suspends while the connection takes no more.
    ///
    /// - Throws: ``SpritesError`` with `.commandEnded` if it has ended, `.connectionLost` if that is not known.
    public func write(_ bytes: [UInt8]) async throws {
        for start in stride(from: 0, to: bytes.count, by: Self.inputMessageBytesMax) {
            try await write(bytes[start..<min(start + Self.inputMessageBytesMax, bytes.count)])
        }
    }

    /// Writes text to its standard input.
    public func write(_ text: String) async throws { try await write(Array(text.utf8)) }

    private func write(_ bytes: ArraySlice<UInt8>) async throws {
        guard !state.hasEnded, let channel = try await state.channelForInput() else { throw ended }
        var message = channel.allocator.buffer(capacity: bytes.count + 1)
        if !isTerminal { message.writeInteger(API.Stream.stdin) }
        message.writeBytes(bytes)
        do {
            try await channel.writeAndFlush(
                ExecWrite(owner: state, message: WebSocketMessage(opcode: .binary, data: message)))
        } catch {
            throw ended
        }
    }

    private var ended: SpritesError {
        state.lost ?? SpritesError(.commandEnded, "cannot write input: the command has ended")
    }

    /// Ends its standard input; with a terminal sends what Ctrl-D does.
    public func closeInput() {
        let message = WebSocketMessage(opcode: .binary, data: ByteBuffer(bytes: [API.Stream.endOfInput]))
        state.send(message, endsInput: !isTerminal)
    }

    // MARK: Control

    /// Tells it the new size of its terminal.
    public func resize(_ size: TerminalSize) {
        send(.text, ByteBuffer(string: #"{"type":"resize","cols":\#(size.columns),"rows":\#(size.rows)}"#))
    }

    /// Signals its process group, or with a terminal the one in the foreground.
    ///
    /// - Parameter name: Such as `INT` or `TERM`.
    /// - Throws: ``SpritesError`` with `.commandEnded` if it has ended, `.invalidRequest` for what is no name.
    public func signal(_ name: String) throws {
        guard name.utf8.allSatisfy({ ($0 >= 0x41 && $0 <= 0x5A) || ($0 >= 0x30 && $0 <= 0x39) }) else {
            throw SpritesError(.invalidRequest, "cannot signal: '\(name)' is no signal; use a name such as TERM")
        }
        guard !state.hasEnded else {
            throw state.lost ?? SpritesError(.commandEnded, "cannot signal: the command has ended")
        }
        send(.text, ByteBuffer(string: #"{"type":"signal","signal":"\#(name)"}"#))
    }

    /// Ends the connection without waiting; the command goes on for as long as its session allows.
    public func disconnect() {
        let channel = state.channel
        guard !state.hasEnded else { return }
        state.finish(.failed(CancellationError()))
        channel?.triggerUserOutboundEvent(ExecRequest.leave(state), promise: nil)
    }

    /// Ends the connection, after everything that was sent before has arrived.
    public func close() async throws {
        guard !state.hasEnded, let channel = state.channel else { return }
        disconnect()
        try? await channel.closeFuture.get()
    }

    private func send(_ opcode: WebSocketOpcode, _ data: ByteBuffer) {
        state.send(WebSocketMessage(opcode: opcode, data: data))
    }
}
