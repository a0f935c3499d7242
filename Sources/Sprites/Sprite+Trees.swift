// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import NIOPosix

extension SpriteFiles {
    /// Copies a local folder, with everything in it, to a folder of the sprite in one stream.
    ///
    /// - Returns: How many files, folders and links were made.
    /// - Throws: ``SpritesError``; the code is the name of a POSIX error if it was a file, here or there.
    @discardableResult
    public func upload(_ local: String, to path: String) async throws -> Int {
        struct Answer: Decodable { var count: Int }
        let answer = try await sprite.http.upload(
            self.path("archive", path), TreePacking(folder: local), type: "application/x-tar",
            timeout: sprite.client.options.operationTimeout)
        return try sprite.http.decoded(answer, as: Answer.self).count
    }

    /// Copies a folder of the sprite, with everything in it, to a local folder in one stream.
    ///
    /// Nothing is written outside that folder, whatever the sprite sends: a link that leads out is refused.
    public func download(_ path: String, to local: String) async throws {
        let unpacker = try await NIOThreadPool.singleton.runIfActive { try TreeUnpacker(local) }
        try await sprite.http.download(
            self.path("archive", path), timeout: sprite.client.options.operationTimeout
        ) { piece in
            try await NIOThreadPool.singleton.runIfActive { try unpacker.add(piece) }
        }
        try unpacker.finish()
    }
}
