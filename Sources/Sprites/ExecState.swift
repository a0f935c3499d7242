// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore
import SpriteAPI

/// What a running command's connection and its reader share: output not yet read, and how it ended.
///
/// The channel's handler puts in; one task at a time takes out. Once ``bufferedBytesMax`` wait unread, reading from
/// the socket stops until half of them are gone, and so the command is held back.
final class ExecState: Sendable {
    /// Enough for several reads from the socket, so that it never runs dry while the reader works.
    static let bufferedBytesMax = 4 << 20

    enum Ending: Sendable {
        case exited(Int32)
        case failed(any Error)
    }

    struct Greeting: Sendable {
        var sessionID: String
        var isTerminal: Bool
    }

    private struct Storage {
        var chunks: [OutputChunk] = []
        var bufferedBytes = 0
        var reader: CheckedContinuation<Void, any Error>?
        var ending: Ending?
        var endWaiters: [UInt64: CheckedContinuation<Ending, Never>] = [:]
        var nextWaiter: UInt64 = 0
        var greeting: Greeting?
        var greetingWaiter: CheckedContinuation<Greeting, any Error>?
        var discards = false
        var isPaused = false
        var resumeReading: (@Sendable () -> Void)?
        var onPort: (@Sendable (PortChange) -> Void)?
        /// Before somebody asked.
        var ports: [PortChange] = []
        var channel: (any Channel)?
        /// Where the output has come to; nil before the server said so, or if it cannot resume.
        var position: ExecPosition?
        /// Attaches again after the connection was lost.
        var resume: (@Sendable (SpritesError) -> Void)?
        var attempt = 0
        /// The connection was lost and may come back.
        var isResuming = false
        /// And was again, before whoever resumes knew that it was back.
        var isLostAgain = false
        /// Sent once it is back.
        var held: [WebSocketMessage] = []
        /// Input was written that may or may not have arrived.
        var hasWritten = false
        var inputEnded = false
        var isGivenUp = false

        /// Not if input may be lost, nor in a terminal.
        var mayResume: Bool {
            position != nil && resume != nil && greeting?.isTerminal == false && !hasWritten && !isGivenUp
                && ending == nil
        }
    }

    private let storage = NIOLockedValueBox(Storage())

    // MARK: The handler's side

    /// The command is known to exist; the first call counts.
    func started(_ greeting: Greeting) {
        let waiter = storage.withLockedValue { storage -> CheckedContinuation<Greeting, any Error>? in
            guard storage.greeting == nil else { return nil }
            storage.greeting = greeting
            defer { storage.greetingWaiter = nil }
            return storage.greetingWaiter
        }
        waiter?.resume(returning: greeting)
    }

    /// Sets what is called when there is room again after ``isPaused``.
    func onRoom(_ resume: @escaping @Sendable () -> Void) { storage.withLockedValue { $0.resumeReading = resume } }

    func append(_ chunk: OutputChunk) {
        let reader = storage.withLockedValue { storage -> CheckedContinuation<Void, any Error>? in
            storage.position?.advance(chunk.stream, by: Int64(chunk.count))
            storage.attempt = 0
            guard !storage.discards, storage.ending == nil else { return nil }
            storage.chunks.append(chunk)
            storage.bufferedBytes += chunk.count
            storage.isPaused = storage.bufferedBytes >= Self.bufferedBytesMax
            defer { storage.reader = nil }
            return storage.reader
        }
        reader?.resume()
    }

    /// The command ended or its connection did; the first call counts.
    func finish(_ ending: Ending) {
        let resumptions = storage.withLockedValue { storage -> (() -> Void)? in
            guard storage.ending == nil else { return nil }
            if case .failed(let lost as SpritesError) = ending, lost.code == .connectionLost, storage.mayResume {
                if storage.isResuming {
                    storage.isLostAgain = true
                    return nil
                }
                storage.isResuming = true
                let resume = storage.resume
                return { resume?(lost) }
            }
            var ending = ending
            // Whoever hears of a lost connection, a reader of output or who waits for the end, hears which session it was.
            if let session = storage.greeting?.sessionID, !session.isEmpty,
                case .failed(var lost as SpritesError) = ending, lost.code == .connectionLost
            {
                lost.sessionID = session
                lost.mayBeRunning = true
                ending = .failed(lost)
            }
            storage.ending = ending
            storage.isResuming = false
            storage.resume = nil
            storage.channel = nil
            storage.held = []
            let reader = storage.reader
            let waiters = storage.endWaiters.values
            let greetingWaiter = storage.greetingWaiter
            storage.reader = nil
            storage.endWaiters = [:]
            storage.greetingWaiter = nil
            storage.resumeReading = nil
            return { [ending] in
                reader?.resume()
                for waiter in waiters { waiter.resume(returning: ending) }
                greetingWaiter?.resume(throwing: Self.error(ending))
            }
        }
        resumptions?()
    }

    func portChanged(_ change: PortChange) {
        let action = storage.withLockedValue { storage in
            if storage.onPort == nil, storage.ports.count < 64 { storage.ports.append(change) }
            return storage.onPort
        }
        action?(change)
    }

    /// Sets who is told of ports, also of those that were opened before.
    func onPort(_ action: @escaping @Sendable (PortChange) -> Void) {
        let earlier = storage.withLockedValue { storage in
            storage.onPort = action
            defer { storage.ports = [] }
            return storage.ports
        }
        for change in earlier { action(change) }
    }

    /// What the server's first message told, once it is there.
    var known: Greeting? { storage.withLockedValue { $0.greeting } }
    /// Why its connection was lost, if it was.
    var lost: SpritesError? {
        guard case .failed(let error as SpritesError) = storage.withLockedValue({ $0.ending }),
            error.code == .connectionLost
        else { return nil }
        return error
    }
    var hasEnded: Bool { storage.withLockedValue { $0.ending != nil } }
    var isPaused: Bool { storage.withLockedValue { $0.isPaused } }

    // MARK: Lost connections

    /// The connection that it is on, until it ends.
    var channel: (any Channel)? { storage.withLockedValue { $0.channel } }

    func use(_ channel: any Channel, resume: @escaping @Sendable (SpritesError) -> Void) {
        storage.withLockedValue { storage in
            guard storage.ending == nil else { return }
            storage.channel = channel
            storage.resume = resume
        }
    }

    /// The server said where its output begins; false if that is not where it stopped.
    func located(_ position: ExecPosition?) -> Bool {
        storage.withLockedValue { storage in
            guard storage.position == nil || storage.position == position else { return false }
            storage.position = position
            return true
        }
    }

    /// It is not attached to again.
    func giveUp() { storage.withLockedValue { $0.isGivenUp = true } }

    /// When to try again and from where; nil if it is not to be tried any more.
    func nextAttempt() -> (wait: Duration, position: ExecPosition)? {
        storage.withLockedValue { storage in
            guard storage.mayResume, let position = storage.position,
                storage.attempt < HTTPTransport.readWaits.count
            else { return nil }
            defer { storage.attempt += 1 }
            return (HTTPTransport.readWaits[storage.attempt], position)
        }
    }

    /// It is on another connection now; false if that was lost as well.
    func resumed(on channel: any Channel) -> Bool {
        // Outside the lock: on its own event loop a channel may tell of a failed write at once.
        let messages = storage.withLockedValue { storage -> [WebSocketMessage]? in
            guard storage.ending == nil else { return [] }
            guard !storage.isLostAgain else {
                storage.isLostAgain = false
                return nil
            }
            storage.isResuming = false
            storage.channel = channel
            defer { storage.held = [] }
            let end = WebSocketMessage(opcode: .binary, data: ByteBuffer(bytes: [API.Stream.endOfInput]))
            return (storage.inputEnded ? [end] : []) + storage.held
        }
        for message in messages ?? [] { send(message, channel) }
        return messages != nil
    }

    /// It cannot be resumed.
    func abandon(_ lost: SpritesError) {
        giveUp()
        finish(.failed(lost))
    }

    /// Whether the connection is lost and may come back.
    var isResuming: Bool { storage.withLockedValue { $0.isResuming } }

    /// Sends something that may be sent later as well; what says the end of input, again.
    func send(_ message: WebSocketMessage, endsInput: Bool = false) {
        let channel = storage.withLockedValue { storage -> (any Channel)? in
            if endsInput { storage.inputEnded = true }
            guard storage.isResuming else { return storage.channel }
            if !endsInput { storage.held.append(message) }
            return nil
        }
        if let channel { send(message, channel) }
    }

    private func send(_ message: WebSocketMessage, _ channel: any Channel) {
        channel.writeAndFlush(ExecWrite(owner: self, message: message), promise: nil)
    }

    /// The connection for input, which cannot be resumed from then on; nil if it has ended.
    func channelForInput() async throws -> (any Channel)? {
        while isResuming { try await Task.sleep(for: .milliseconds(10)) }
        return storage.withLockedValue { storage in
            storage.hasWritten = true
            return storage.channel
        }
    }

    // MARK: The reader's side

    /// Waits for the server's first message.
    func greeting() async throws -> Greeting {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let result = storage.withLockedValue { storage -> Result<Greeting, any Error>? in
                    if let greeting = storage.greeting { return .success(greeting) }
                    if Task.isCancelled { return .failure(CancellationError()) }
                    if let ending = storage.ending { return .failure(Self.error(ending)) }
                    storage.greetingWaiter = continuation
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            let waiter = storage.withLockedValue { storage in
                defer { storage.greetingWaiter = nil }
                return storage.greetingWaiter
            }
            waiter?.resume(throwing: CancellationError())
        }
    }

    /// Everything that waits; empty once the command has ended and all was read.
    ///
    /// - Throws: The error the connection ended with, after all output that arrived before it.
    func takeOutput() async throws -> [OutputChunk] {
        while true {
            enum Next {
                case chunks([OutputChunk], resume: (@Sendable () -> Void)?)
                case end(Ending)
                case wait
            }
            let next = storage.withLockedValue { storage -> Next in
                if !storage.chunks.isEmpty {
                    let chunks = storage.chunks
                    storage.chunks = []
                    storage.bufferedBytes = 0
                    let resume = storage.isPaused ? storage.resumeReading : nil
                    storage.isPaused = false
                    return .chunks(chunks, resume: resume)
                }
                return storage.ending.map { .end($0) } ?? .wait
            }
            switch next {
            case .chunks(let chunks, let resume):
                resume?()
                return chunks
            case .end(.exited):
                return []
            case .end(.failed(let error)):
                // A cancelled task has closed the connection itself, and should hear of nothing else.
                throw Task.isCancelled ? CancellationError() : error
            case .wait:
                try await waitForChange()
            }
        }
    }

    private func waitForChange() async throws {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let result = storage.withLockedValue { storage -> Result<Void, any Error>? in
                    if Task.isCancelled { return .failure(CancellationError()) }
                    if !storage.chunks.isEmpty || storage.ending != nil { return .success(()) }
                    guard storage.reader == nil else {
                        return .failure(
                            SpritesError(.invalidRequest, "cannot read output: another task is reading it"))
                    }
                    storage.reader = continuation
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            let reader = storage.withLockedValue { storage in
                defer { storage.reader = nil }
                return storage.reader
            }
            reader?.resume(throwing: CancellationError())
        }
    }

    /// Throws output away from now on.
    func discard() {
        let resume = storage.withLockedValue { storage -> (@Sendable () -> Void)? in
            storage.discards = true
            storage.chunks = []
            storage.bufferedBytes = 0
            storage.isPaused = false
            return storage.resumeReading
        }
        resume?()
    }

    /// Waits for the end of the command; a cancelled wait throws `CancellationError` and changes nothing.
    func exitCode() async throws -> Int32 {
        let number = storage.withLockedValue { storage in
            storage.nextWaiter += 1
            return storage.nextWaiter
        }
        let ending = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let ending = storage.withLockedValue { storage -> Ending? in
                    if let ending = storage.ending { return ending }
                    if Task.isCancelled { return .failed(CancellationError()) }
                    storage.endWaiters[number] = continuation
                    return nil
                }
                if let ending { continuation.resume(returning: ending) }
            }
        } onCancel: {
            let waiter = storage.withLockedValue { $0.endWaiters.removeValue(forKey: number) }
            waiter?.resume(returning: .failed(CancellationError()))
        }
        switch ending {
        case .exited(let code): return code
        case .failed(let error): throw error
        }
    }

    private static func error(_ ending: Ending) -> any Error {
        switch ending {
        case .exited: SpritesError(.invalidResponse, "the command ended before its session was announced")
        case .failed(let error): error
        }
    }
}
