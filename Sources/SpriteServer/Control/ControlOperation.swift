// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOConcurrencyHelpers
import NIOCore
import SpriteAPI
import SpriteDomain

/// One command on a control connection.
final class ControlOperation: ControlTask {
    /// An end this soon after a signal may be about a command its client has already given up.
    private static let signalWindow: Duration = .seconds(1)
    private static let exitHoldBack: Duration = .milliseconds(100)

    private let service: APIService
    private let id: String?
    private let session: any ExecSession
    private let reader: any SessionReader
    private let lastSignal = NIOLockedValueBox<ContinuousClock.Instant?>(nil)
    private let output = NIOLockedValueBox<Task<Void, Never>?>(nil)
    private let ended = NIOLockedValueBox(false)

    init(_ session: any ExecSession, at point: ResumePoint?, id: String?, service: APIService) throws {
        self.session = session
        self.id = id
        self.service = service
        reader = try session.attach(at: point, mayResume: true)
    }

    /// Whether its result was sent, or it was given up.
    var hasEnded: Bool { ended.withLockedValue { $0 } }

    /// Begins to send output; the result comes after all of it.
    func start(_ sprite: SpriteName, _ outbound: WebSocketOutbound) {
        // Awaited by `abandon`, which every operation ends in.
        let task = Task {
            await self.copyOutput(sprite, outbound)
            self.ended.withLockedValue { $0 = true }
            self.reader.lose()
        }
        output.withLockedValue { $0 = task }
    }

    /// Where its output begins.
    var offsets: [Int64] { reader.offsets }

    func abandon(isLost: Bool) async {
        let task = output.withLockedValue { $0 }
        if isLost { reader.lose() }
        task?.cancel()
        await task?.value
        if !isLost { reader.detach() }
    }

    /// Returns when its result was sent.
    func waitForEnd() async { await output.withLockedValue({ $0 })?.value }

    private func copyOutput(_ sprite: SpriteName, _ outbound: WebSocketOutbound) async {
        do {
            let status = try await service.copyOutput(session, reader, of: sprite, outbound)
            let signalled = lastSignal.withLockedValue { $0 }
            if let signalled, ContinuousClock.now - signalled < Self.signalWindow {
                // One client kills a command that took too long and at once starts the next, whose result this would
                // then seem to be.
                try await Task.sleep(for: Self.exitHoldBack)
            }
            try Task.checkCancellation()
            let complete = try ControlSocket.text(.complete(status.code, id: id))
            let exit: WebSocketOutput =
                session.info.isTerminal
                ? .text(try JSONBody.encode(API.TextMessage.exit(status.code)))
                : .stream(API.Stream.exit, ByteBuffer(integer: status.code))
            try await outbound.write(contentsOf: [exit, complete, .keepalive(.ping)])
        } catch is CancellationError {
            // Given up.
        } catch {
            service.logger.debug("operation ended", metadata: ["error": "\(error)"])
            if let message = try? ControlSocket.text(.failed("internal", "the output cannot be read", id: id)) {
                try? await outbound.write(message)
            }
        }
    }

    // MARK: Input

    func obey(_ bytes: ByteBuffer) -> Bool {
        service.obey(bytes, session, reader) { lastSignal.withLockedValue { $0 = .now } }
    }

    /// Takes the input of every client: with a stream byte in front or without, and control messages in binary frames.
    func take(_ bytes: ByteBuffer) async throws {
        var bytes = bytes
        // Nothing but these messages begins so and ends so, unless somebody types exactly one of them.
        if bytes.readableBytes < 256, bytes.readableBytesView.first == UInt8(ascii: "{"), obey(bytes) { return }
        if !session.info.isTerminal {
            if bytes.readableBytes == 1, bytes.readableBytesView.first == API.Stream.endOfInput {
                return session.closeInput()
            }
            if bytes.readableBytesView.first == API.Stream.stdin { bytes.moveReaderIndex(forwardBy: 1) }
        }
        try await service.writeInput(bytes, session)
    }
}
