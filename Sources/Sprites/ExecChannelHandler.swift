// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import SpriteAPI

/// A message of the command that `owner` is; dropped with an error once the connection serves another.
struct ExecWrite: Sendable {
    var owner: ExecState
    var message: WebSocketMessage
}

/// What is asked of a connection's handler, as an outbound event.
enum ExecRequest: Sendable {
    /// Starts a command on a control connection; `release` is told once, whether the connection can be used again.
    case begin(ExecState, API.Query, release: @Sendable (Bool) -> Void)
    /// Gives a command up, and the connection with it; nothing if the connection serves another by now.
    case leave(ExecState)
    /// Ends the connection, whatever it does.
    case hangUp
}

/// The connection was closed before the command was sent, so that it can be sent on another one.
struct CommandNotSent: Error {}

/// Speaks the exec protocol on one WebSocket.
///
/// Without a terminal every binary message begins with a byte for the stream:
///
/// | byte | direction | rest |
/// | --- | --- | --- |
/// | `00` | to the server | standard input |
/// | `01`, `02` | from the server | standard output, standard error |
/// | `03` | from the server | one byte: the exit code; last |
/// | `04` | to the server | nothing: the end of standard input |
///
/// With a terminal binary messages are its bytes as they are, and a text message `{"type":"exit"}` comes last. On a
/// control connection one command comes after another, between `control:{"type":"op.start",…}` and `op.complete`.
final class ExecChannelHandler: ChannelDuplexHandler {
    typealias InboundIn = WebSocketPart
    typealias OutboundIn = ExecWrite
    typealias OutboundOut = WebSocketMessage

    enum Kind: Sendable {
        /// One command, or attachment to one.
        case exec(isTerminal: Bool)
        /// The bytes are those of a TCP connection: the first text says that it is there, and Close 1000 ends it.
        case proxy
        /// Commands with pipes, one at a time.
        case control
    }

    private static let pingInterval: TimeAmount = .seconds(15)
    /// Three pings without any sign of life.
    private static let silenceMax: TimeAmount = .seconds(45)
    /// How long the server may take to answer a Close before the connection is dropped.
    private static let closeTimeout: TimeAmount = .seconds(2)

    private struct Current {
        let state: ExecState
        let release: @Sendable (Bool) -> Void
    }

    private let kind: Kind
    private let place: String
    private let answerTimeout: TimeAmount
    private var current: Current?
    private var isTerminal: Bool
    /// The stream of the binary message that is coming in; nil before its first byte.
    private var stream: UInt8?
    /// On a control connection `op.complete` comes behind it.
    private var exitCode: UInt8?
    private var readIsHeld = false
    private var closeWasSent = false
    private var lastSign: NIODeadline = .now()
    private var pings: RepeatedTask?
    private var answerLimit: Scheduled<Void>?
    private var context: ChannelHandlerContext?

    /// - Parameters:
    ///   - state: The command of the connection; nil for a control connection, where they begin later.
    ///   - place: The server's base URL, for messages.
    ///   - answerTimeout: A server that accepts and then says nothing is not waited for without end.
    ///   - release: Called once, when the command needs the connection no more.
    init(
        _ kind: Kind, state: ExecState?, place: String, answerTimeout: Duration,
        release: @escaping @Sendable (Bool) -> Void = { _ in }
    ) {
        self.kind = kind
        self.place = place
        self.answerTimeout = TimeAmount(answerTimeout)
        current = state.map { Current(state: $0, release: release) }
        isTerminal = if case .exec(let isTerminal) = kind { isTerminal } else { false }
    }

    private var isControl: Bool { if case .control = kind { true } else { false } }
    private var isProxy: Bool { if case .proxy = kind { true } else { false } }

    // MARK: Life of the connection

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        guard context.channel.isActive else {
            // It ended before it got here, and nobody will tell us again.
            return settle(lostEnding("it was closed before the command ended"))
        }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        watch(context)
        pings = context.eventLoop.scheduleRepeatedTask(initialDelay: Self.pingInterval, delay: Self.pingInterval) { _ in
            let (handler, context) = bound.value
            handler.ping(context)
        }
    }

    /// What is to be done for a command that begins.
    private func watch(_ context: ChannelHandlerContext) {
        guard let state = current?.state else { return }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        state.onRoom { [eventLoop = context.eventLoop] in
            eventLoop.execute { bound.value.0.resumeReading() }
        }
        answerLimit = context.eventLoop.scheduleTask(in: answerTimeout) {
            let (handler, context) = bound.value
            guard handler.current?.state === state else { return }
            var error = SpritesError(.timeout, "no answer from \(handler.place) in time")
            error.mayBeRunning = !handler.isProxy
            handler.settle(.failed(error))
            handler.hangUp(context, answering: false)
        }
    }

    /// The command is known to exist.
    private func started(_ state: ExecState, _ greeting: ExecState.Greeting) {
        answerLimit?.cancel()
        answerLimit = nil
        state.started(greeting)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        pings?.cancel()
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        pings?.cancel()
        settle(lostEnding("it was closed before the command ended"))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let why = (error as? WebSocketProblem).map { "the server broke the protocol: \($0)" } ?? "\(error)"
        settle(lostEnding(why))
        context.close(promise: nil)
    }

    /// The command ended, or this way to it; a connection that is not kept is closed by whoever says so.
    private func settle(_ ending: ExecState.Ending, keep: Bool = false) {
        guard let current else { return }
        self.current = nil
        answerLimit?.cancel()
        answerLimit = nil
        // First, so that whoever hears of the end finds the connection free.
        current.release(keep)
        current.state.finish(ending)
        // What it did not read holds back nobody else.
        if readIsHeld { resumeReading() }
    }

    /// An exit code that is there comes after all output.
    private func lostEnding(_ why: String) -> ExecState.Ending {
        exitCode.map { .exited(Int32($0)) } ?? .failed(lost(why))
    }

    private func lost(_ why: String) -> SpritesError {
        SpritesError(.connectionLost, "the connection to \(place) was lost: \(why)")
    }

    private func ping(_ context: ChannelHandlerContext) {
        // Nothing is read while the reader is behind, so silence means nothing then.
        if isPaused || readIsHeld { lastSign = .now() }
        guard .now() - lastSign <= Self.silenceMax else {
            settle(lostEnding("no sign of life for 45 s"))
            return context.close(promise: nil)
        }
        send(.ping, ByteBuffer(), context)
    }

    // MARK: Reading

    private var isPaused: Bool { current?.state.isPaused ?? false }

    func read(context: ChannelHandlerContext) {
        if isPaused {
            readIsHeld = true
        } else {
            context.read()
        }
    }

    private func resumeReading() {
        guard readIsHeld, let context else { return }
        readIsHeld = false
        lastSign = .now()
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = Self.unwrapInboundIn(data)
        lastSign = .now()
        switch part.opcode {
        case .binary:
            readBinary(part, context)
        case .text:
            readText(part.data, context)
        case .ping:
            send(.pong, part.data, context)
        case .close:
            readClose(part.data)
            hangUp(context, answering: true)
        case .pong, .continuation:
            break
        }
    }

    private func readClose(_ data: ByteBuffer) {
        var data = data
        let code = data.readInteger(as: UInt16.self)
        let reason = String(buffer: data)
        if isProxy {
            let lost = SpritesError(.connectionLost, reason.isEmpty ? "the connection was closed" : reason)
            return settle(code == 1000 ? .exited(0) : .failed(lost))
        }
        let why = code == 1001 ? "the server is stopping" : "the server closed it with \(code ?? 1005)"
        settle(lostEnding(code == 1001 || reason.isEmpty ? why : "\(why) \(reason)"))
    }

    private func readBinary(_ part: WebSocketPart, _ context: ChannelHandlerContext) {
        guard let state = current?.state else { return }
        var data = part.data
        // A command that cannot be started has an exit code and a line of explanation, but no session.
        started(state, ExecState.Greeting(sessionID: "", isTerminal: isTerminal))
        guard !isTerminal, !isProxy else { return deliver(.stdout, data, state) }
        if part.isFirst { stream = nil }
        if stream == nil { stream = data.readInteger() }
        switch stream {
        case API.Stream.stdout:
            deliver(.stdout, data, state)
        case API.Stream.stderr:
            deliver(.stderr, data, state)
        case API.Stream.exit:
            exitCode = data.readInteger() ?? exitCode
            guard part.isLast else { return }
            guard let exitCode else {
                settle(.failed(SpritesError(.invalidResponse, "the exit message holds no code")))
                return hangUp(context, answering: false)
            }
            if isControl { return }
            settle(.exited(Int32(exitCode)))
            hangUp(context, answering: false)
        default:
            break  // A stream of a newer server.
        }
    }

    private func deliver(_ stream: OutputStream, _ data: ByteBuffer, _ state: ExecState) {
        guard data.readableBytes > 0 else { return }
        state.append(OutputChunk(stream: stream, buffer: data))
    }

    private func readText(_ data: ByteBuffer, _ context: ChannelHandlerContext) {
        guard let state = current?.state else { return }
        if isProxy { return started(state, ExecState.Greeting(sessionID: "", isTerminal: true)) }
        if isControl, data.readableBytesView.starts(with: API.ControlMessage.prefix.utf8) {
            return readOutcome(data, context)
        }
        guard let message = try? JSONDecoder().decode(API.TextMessage.self, from: Data(data.readableBytesView)) else {
            return
        }
        switch message.type {
        case "session_info":
            if let tty = message.tty, !isControl { isTerminal = tty }
            guard state.located(ExecPosition(message)) else {
                state.giveUp()
                settle(.failed(lost("the server does not resume the command")))
                return hangUp(context, answering: false)
            }
            started(state, ExecState.Greeting(sessionID: message.sessionID ?? "", isTerminal: isTerminal))
        case "exit" where isTerminal:
            guard let code = message.exitCode else {
                return settle(.failed(SpritesError(.invalidResponse, "the exit message holds no code")))
            }
            started(state, ExecState.Greeting(sessionID: "", isTerminal: isTerminal))
            settle(.exited(Int32(truncatingIfNeeded: code)))
            // The server closes next; if it does not, we do.
            hangUp(context, answering: nil)
        case "port_opened", "port_closed":
            guard let port = message.port, (1...65535).contains(port) else { return }
            state.portChanged(
                PortChange(isOpen: message.type == "port_opened", port: port, address: message.address ?? "localhost"))
        default:
            break  // Keepalives, and what newer servers say.
        }
    }

    /// What a control connection says about the command as a whole.
    private func readOutcome(_ data: ByteBuffer, _ context: ChannelHandlerContext) {
        let text = data.readableBytesView.dropFirst(API.ControlMessage.prefix.utf8.count)
        guard let message = try? JSONDecoder().decode(API.ControlMessage.self, from: Data(text)) else { return }
        switch message.type {
        case "op.complete":
            guard let code = message.outcome?.exitCode ?? exitCode.map(Int.init) else {
                settle(.failed(SpritesError(.invalidResponse, "the command's end came without an exit code")))
                return hangUp(context, answering: false)
            }
            if let state = current?.state { started(state, ExecState.Greeting(sessionID: "", isTerminal: false)) }
            settle(.exited(Int32(truncatingIfNeeded: code)), keep: true)
        case "op.error":
            let code = SpritesError.Code(rawValue: message.outcome?.code ?? "internal")
            settle(.failed(SpritesError(code, message.outcome?.error ?? "the command could not be started")))
            hangUp(context, answering: false)
        default:
            break  // What newer servers say.
        }
    }

    // MARK: Writing

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let write = Self.unwrapOutboundIn(data)
        guard !closeWasSent, write.owner === current?.state else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        context.write(Self.wrapOutboundOut(write.message), promise: promise)
    }

    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard let request = event as? ExecRequest else {
            return context.triggerUserOutboundEvent(event, promise: promise)
        }
        switch request {
        case .begin(let state, let query, let release):
            guard context.channel.isActive, !closeWasSent else {
                release(false)
                state.finish(.failed(CommandNotSent()))
                break
            }
            current = Current(state: state, release: release)
            (stream, exitCode) = (nil, nil)
            watch(context)
            do {
                let message = try JSONEncoder().encode(API.ControlMessage.start("exec", query))
                var start = ByteBuffer(string: API.ControlMessage.prefix)
                start.writeBytes(message)
                send(.text, start, context)
            } catch {
                settle(.failed(SpritesError(.invalidRequest, "cannot send the command: \(error)")), keep: true)
            }
            resumeReading()
        case .leave(let state):
            guard current?.state === state else { break }
            settle(.failed(CancellationError()))
            hangUp(context, answering: false)
        case .hangUp:
            current?.state.giveUp()
            settle(.failed(lost("the client was closed")))
            hangUp(context, answering: false)
        }
        promise?.succeed()
    }

    private func send(_ opcode: WebSocketOpcode, _ data: ByteBuffer, _ context: ChannelHandlerContext) {
        guard !closeWasSent else { return }
        context.writeAndFlush(Self.wrapOutboundOut(WebSocketMessage(opcode: opcode, data: data)), promise: nil)
    }

    /// Says goodbye. What comes until the server's own goodbye is dropped: closing with something unread would make the
    /// kernel drop what was sent last.
    ///
    /// - Parameter answering: Whether the server said it first; nil if it is about to.
    private func hangUp(_ context: ChannelHandlerContext, answering: Bool?) {
        if !closeWasSent, answering != nil {
            let closing = WebSocketMessage.closing
            send(closing.opcode, closing.data, context)
            closeWasSent = true
        }
        // The server closes TCP after our Close; the flush above comes first either way.
        if answering == true { return context.close(promise: nil) }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: Self.closeTimeout) {
            let (handler, context) = bound.value
            if handler.closeWasSent { context.close(promise: nil) } else { handler.hangUp(context, answering: false) }
        }
    }
}
