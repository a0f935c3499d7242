// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Glibc
import Sprites

struct Use: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "use", abstract: "Choose the sprite for this directory and those below it.",
        discussion: "Writes the file .sprite. Without a name it says which sprite is chosen.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
    var name: String?

    @Flag(help: "Remove the file .sprite of this directory.")
    var unset = false

    func validate() throws {
        if unset, name != nil { throw ValidationError("--unset takes no name") }
    }

    func run() async throws {
        if unset {
            let path = "\(try currentDirectory())/\(ProjectFile.name)"
            if unlink(path) != 0, errno != ENOENT {
                throw CommandFailure("cannot remove \(path): \(errnoText(errno))")
            }
            return
        }
        let context = try Context(global)
        guard let name = name ?? global.sprite else {
            return try printLine(try context.spriteName())
        }
        let sprite = try await context.client().get(name)
        let organization = context.organization ?? sprite.info.map(\.organization)
        let path = try ProjectFile(organization: organization, sprite: name).save()
        printNote("\(path) now says \(name)")
    }
}
