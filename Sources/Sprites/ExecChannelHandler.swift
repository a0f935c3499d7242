// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import NIOWebSocket
import SpriteAPI

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
/// With a terminal binary messages are its bytes as they are, and a text message `{"type":"exit"}` comes last.
final class ExecChannelHandler: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    private static let pingInterval: TimeAmount = .seconds(15)
    /// Three pings without any sign of life.
    private static let silenceMax: TimeAmount = .seconds(45)
    /// How long the server may take to answer a Close before the connection is dropped.
    private static let closeTimeout: TimeAmount = .seconds(2)

    private let state: ExecState
    private let place: String
    private var isTerminal: Bool
    /// The bytes are those of a TCP connection: the first text says that it is there, and Close 1000 ends it.
    private let isProxy: Bool
    private var readIsHeld = false
    private var closeWasSent = false
    private var lastSign: NIODeadline = .now()
    private var pings: RepeatedTask?
    private var context: ChannelHandlerContext?

    /// - Parameter place: The server's base URL, for messages.
    init(state: ExecState, isTerminal: Bool, isProxy: Bool = false, place: String) {
        self.isProxy = isProxy
        self.state = state
        self.isTerminal = isTerminal
        self.place = place
    }

    // MARK: Life of the connection

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        guard context.channel.isActive else {
            // It ended before it got here, and nobody will tell us again.
            return state.finish(.failed(lost("it was closed before the command ended")))
        }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let reader = NIOLoopBound(self, eventLoop: context.eventLoop)
        state.onRoom { [eventLoop = context.eventLoop] in
            eventLoop.execute { reader.value.resumeReading() }
        }
        pings = context.eventLoop.scheduleRepeatedTask(initialDelay: Self.pingInterval, delay: Self.pingInterval) { _ in
            let (handler, context) = bound.value
            handler.ping(context)
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        pings?.cancel()
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        pings?.cancel()
        state.finish(.failed(lost("it was closed before the command ended")))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        state.finish(.failed(lost(error is NIOWebSocketError ? "the server broke the protocol" : "\(error)")))
        context.close(promise: nil)
    }

    private func lost(_ why: String) -> SpritesError {
        SpritesError(.connectionLost, "the connection to \(place) was lost: \(why)")
    }

    private func ping(_ context: ChannelHandlerContext) {
        // Nothing is read while the reader is behind, so silence means nothing then.
        if state.isPaused || readIsHeld { lastSign = .now() }
        guard .now() - lastSign <= Self.silenceMax else {
            state.finish(.failed(lost("no sign of life for 45 s")))
            return context.close(promise: nil)
        }
        send(.ping, ByteBuffer(), context)
    }

    // MARK: Reading

    func read(context: ChannelHandlerContext) {
        if state.isPaused {
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
        let frame = Self.unwrapInboundIn(data)
        lastSign = .now()
        switch frame.opcode {
        case .binary:
            readBinary(frame.unmaskedData, context)
        case .text:
            readText(frame.unmaskedData, context)
        case .ping:
            send(.pong, frame.unmaskedData, context)
        case .connectionClose:
            var data = frame.unmaskedData
            let code = data.readInteger(as: UInt16.self)
            let reason = String(buffer: data)
            if isProxy {
                let lost = SpritesError(.connectionLost, reason.isEmpty ? "the connection was closed" : reason)
                state.finish(code == 1000 ? .exited(0) : .failed(lost))
                return close(context, answering: true)
            }
            let why = code == 1001 ? "the server is stopping" : "the server closed it with \(code ?? 1005) \(reason)"
            state.finish(.failed(lost(why.trimmedEnd)))
            close(context, answering: true)
        default:
            break
        }
    }

    private func readBinary(_ data: ByteBuffer, _ context: ChannelHandlerContext) {
        var data = data
        // A command that cannot be started has an exit code and a line of explanation, but no session.
        state.started(ExecState.Greeting(sessionID: "", isTerminal: isTerminal))
        guard !isTerminal else { return deliver(.stdout, data, context) }
        switch data.readInteger(as: UInt8.self) {
        case API.Stream.stdout:
            deliver(.stdout, data, context)
        case API.Stream.stderr:
            deliver(.stderr, data, context)
        case API.Stream.exit:
            guard let code = data.readInteger(as: UInt8.self) else {
                state.finish(.failed(SpritesError(.invalidResponse, "the exit message holds no code")))
                return close(context, answering: false)
            }
            state.finish(.exited(Int32(code)))
            close(context, answering: false)
        default:
            break  // A stream of a newer server.
        }
    }

    private func deliver(_ stream: OutputStream, _ data: ByteBuffer, _ context: ChannelHandlerContext) {
        guard data.readableBytes > 0 else { return }
        state.append(OutputChunk(stream: stream, buffer: data))
    }

    private func readText(_ data: ByteBuffer, _ context: ChannelHandlerContext) {
        if isProxy { return state.started(ExecState.Greeting(sessionID: "", isTerminal: true)) }
        guard let message = try? JSONDecoder().decode(API.TextMessage.self, from: Data(data.readableBytesView)) else {
            return
        }
        switch message.type {
        case "session_info":
            if let tty = message.tty { isTerminal = tty }
            state.started(ExecState.Greeting(sessionID: message.sessionID ?? "", isTerminal: isTerminal))
        case "exit" where isTerminal:
            guard let code = message.exitCode else {
                return state.finish(.failed(SpritesError(.invalidResponse, "the exit message holds no code")))
            }
            state.started(ExecState.Greeting(sessionID: "", isTerminal: isTerminal))
            state.finish(.exited(Int32(truncatingIfNeeded: code)))
            // The server closes next; if it does not, we do.
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.eventLoop.scheduleTask(in: Self.closeTimeout) {
                let (handler, context) = bound.value
                handler.close(context, answering: false)
            }
        case "port_opened", "port_closed":
            guard let port = message.port, (1...65535).contains(port) else { return }
            state.portChanged(
                PortChange(isOpen: message.type == "port_opened", port: port, address: message.address ?? "localhost"))
        default:
            break  // Keepalives, and what newer servers say.
        }
    }

    // MARK: Writing

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !closeWasSent else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        context.write(data, promise: promise)
    }

    private func send(_ opcode: WebSocketOpcode, _ data: ByteBuffer, _ context: ChannelHandlerContext) {
        guard !closeWasSent else { return }
        context.writeAndFlush(Self.wrapOutboundOut(.client(opcode, data)), promise: nil)
    }

    private func close(_ context: ChannelHandlerContext, answering: Bool) {
        if !closeWasSent {
            send(.connectionClose, ByteBuffer(bytes: [0x03, 0xE8]), context)
            closeWasSent = true
        }
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        if answering {
            // The server closes TCP after our Close; the flush above comes first either way.
            context.close(promise: nil)
        } else {
            context.eventLoop.scheduleTask(in: Self.closeTimeout) { bound.value.close(promise: nil) }
        }
    }
}

extension WebSocketFrame {
    /// A whole message from a client, which has to be masked.
    static func client(_ opcode: WebSocketOpcode, _ data: ByteBuffer) -> WebSocketFrame {
        WebSocketFrame(fin: true, opcode: opcode, maskKey: .random(), data: data)
    }
}

extension String {
    fileprivate var trimmedEnd: String {
        var text = self[...]
        while text.last == " " { text = text.dropLast() }
        return String(text)
    }
}
