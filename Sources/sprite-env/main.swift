// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteEnvKit
import SpriteInit

func say(_ text: String, to descriptor: Int32) {
    var text = text
    _ = text.withUTF8 { write(descriptor, $0.baseAddress, $0.count) }
}

switch CommandLine.arguments.dropFirst().first {
case "init":
    do {
        try InitProcess().run()
    } catch {
        say("sprite-env: cannot run as PID 1: \(error)\n", to: STDERR_FILENO)
        exit(1)
    }
case "boot":
    guard let kind = CommandLine.arguments.dropFirst(2).first.flatMap(ForeignInit.init) else {
        say("sprite-env: name the init system: \(ForeignInit.allCases.map(\.rawValue))\n", to: STDERR_FILENO)
        exit(2)
    }
    Boot.run(kind)
case "console": Boot.copyConsole()
case "journald": JournaldReader.run()
case "fs": exit(FileCommand.run(Array(CommandLine.arguments.dropFirst(2))))
case "--version": say("sprite-env \(Help.version)\n", to: STDOUT_FILENO)
case "--help", "help", "-h", nil: say(Help.text, to: STDOUT_FILENO)
case .some(let name) where ClientCommand.names.contains(name):
    exit(ClientCommand.run(Array(CommandLine.arguments.dropFirst())))
case .some(let name):
    say(Help.unknownCommand(name), to: STDERR_FILENO)
    exit(2)
}
