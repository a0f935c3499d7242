// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import SpriteAPI

extension Sprite {
    /// Describes a file, or lists a directory.
    public func list(_ path: String) async throws -> [FileEntry] {
        struct Listing: Decodable { var entries: [FileEntry] }
        return try await http.get(
            file("list", path), as: Listing.self, timeout: requestTimeout
        ).entries
    }

    /// Writes a file, in whole or not at all; missing directories are made.
    ///
    /// - Parameters:
    ///   - mode: Permissions of a new file, in octal.
    ///   - content: Sent as it comes, so that a file of any size takes little memory.
    public func write<Content: AsyncSequence & Sendable>(
        _ path: String, mode: String = "0644", _ content: Content
    ) async throws where Content.Element == [UInt8] {
        try await http.upload(
            file("write", path, [.init("mode", mode)]), content, type: "application/octet-stream",
            timeout: client.options.operationTimeout)
    }

    /// Unpacks a tar stream below a directory, which is made if it is missing.
    public func unpack<Content: AsyncSequence & Sendable>(
        _ path: String, _ content: Content
    ) async throws where Content.Element == [UInt8] {
        try await http.upload(
            file("archive", path), content, type: "application/x-tar", timeout: client.options.operationTimeout)
    }

    /// Reads a file piece by piece.
    public func read(_ path: String, onPiece: ([UInt8]) async throws -> Void) async throws {
        try await http.download(file("read", path), timeout: client.options.operationTimeout, onPiece: onPiece)
    }

    /// Reads a whole directory as one tar stream.
    public func pack(_ path: String, onPiece: ([UInt8]) async throws -> Void) async throws {
        try await http.download(file("archive", path), timeout: client.options.operationTimeout, onPiece: onPiece)
    }

    private func file(_ operation: String, _ path: String, _ others: [API.Query.Item] = []) -> String {
        let query = API.Query([.init("path", path), .init("workingDir", "/home/sprite")] + others)
        return "\(self.path)/fs/\(operation)?\(query.encoded)"
    }
}

extension HTTPTransport {
    @discardableResult
    func upload<Content: AsyncSequence & Sendable>(
        _ path: String, _ content: Content, type: String, timeout: Duration
    ) async throws -> ByteBuffer where Content.Element == [UInt8] {
        try await mapped(.PUT, path) {
            var request = request(.PUT, path, nil)
            request.headers.add(name: "Content-Type", value: type)
            request.body = .stream(content.map { ByteBuffer(bytes: $0) }, length: .unknown)
            let response = try await client.execute(request, deadline: deadline(timeout))
            let buffer = try await response.body.collect(upTo: Self.answerBytesMax)
            let status = Int(response.status.code)
            guard status < 400 else { throw serverError(status: status, headers: response.headers, body: buffer) }
            return buffer
        }
    }

    func download(_ path: String, timeout: Duration, onPiece: ([UInt8]) async throws -> Void) async throws {
        try await mapped(.GET, path) {
            let response = try await client.execute(request(.GET, path, nil), deadline: deadline(timeout))
            let status = Int(response.status.code)
            guard status < 400 else {
                let buffer = try await response.body.collect(upTo: Self.answerBytesMax)
                throw serverError(status: status, headers: response.headers, body: buffer)
            }
            for try await piece in response.body { try await onPiece(Array(piece.readableBytesView)) }
        }
    }
}
