// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import SpriteDomain

extension Lifecycle {
    /// Runs a command of an operation to its end; what still runs when this is cancelled or too late is killed.
    ///
    /// - Throws: ``SpriteError`` with `.timeout`; what `onOutput` throws.
    func run(
        _ machine: Machine, _ request: ExecRequest, timeout: Duration,
        onOutput: @escaping @Sendable (OutputStream, ByteBuffer) async throws -> Void
    ) async throws -> ExitStatus {
        var request = request
        // Detaching ends it: nobody can come back to it.
        request.maxRunAfterDisconnect = .zero
        await machine.beginUse()
        let result: Result<ExitStatus, any Error>
        do {
            let session = try await execAwake(machine, request)
            result = .success(try await follow(session, timeout, onOutput))
        } catch {
            result = .failure(error)
        }
        await machine.endUse()
        return try result.get()
    }

    private func follow(
        _ session: any ExecSession, _ timeout: Duration,
        _ onOutput: @escaping @Sendable (OutputStream, ByteBuffer) async throws -> Void
    ) async throws -> ExitStatus {
        let reader = session.attach()
        defer { reader.detach() }
        do {
            return try await withThrowingTaskGroup(of: ExitStatus.self) { group in
                group.addTask {
                    while let event = try await reader.next() {
                        switch event {
                        case .output(let stream, let bytes): try await onOutput(stream, bytes)
                        case .exited(let status): return status
                        }
                    }
                    return .lost
                }
                group.addTask {
                    try await Task.sleep(for: timeout)
                    throw SpriteError(
                        .timeout, "the command did not end within \(timeout.components.seconds) s and was killed")
                }
                defer { group.cancelAll() }
                guard let status = try await group.next() else { return .lost }
                return status
            }
        } catch {
            session.signal(9)
            throw error
        }
    }
}

extension ExecRequest {
    /// For labels: the command line, cut to a readable length.
    var label: String {
        let text = arguments.joined(separator: " ").split(whereSeparator: \.isNewline).joined(separator: " ")
        return text.count > 200 ? "\(text.prefix(200))…" : text
    }
}
