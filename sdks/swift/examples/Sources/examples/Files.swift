// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import Sprites

/// Writes, reads and copies files, one by one and whole folders.
@Sendable func files() async throws {
    try await withSprite { sprite in
        let files = sprite.files
        try await files.write("notes/today.txt", Array("remember\n".utf8))
        print(String(decoding: try await files.read("notes/today.txt"), as: UTF8.self), terminator: "")
        print(try await files.list("notes").map(\.name).joined(separator: " "))
        do {
            _ = try await files.read("notes/tomorrow.txt")
        } catch let error as SpritesError {
            print(error.code.rawValue)
        }
        let folder = FileManager.default.temporaryDirectory.appending(path: exampleName())
        defer { try? FileManager.default.removeItem(at: folder) }
        try await files.download("notes", to: folder.path)
        try Data("more\n".utf8).write(to: folder.appending(path: "more.txt"))
        print("uploaded", try await files.upload(folder.path, to: "copy"))
        print(try await sprite.command("cat copy/*").output(), terminator: "")
    }
}
