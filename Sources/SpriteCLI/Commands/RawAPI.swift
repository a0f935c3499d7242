// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Glibc
import Sprites

struct RawAPI: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "api", abstract: "Call the API with curl, with the token added.",
        usage: "sprite api [-s NAME] PATH [-- CURL-OPTIONS...]",
        discussion: """
            A PATH that begins with /v1/ or is /health is the server's. Any other is below the sprite if one is \
            chosen by -s or .sprite, as in `sprite api -s demo /checkpoints`, else below /v1. The token does not show \
            in the list of processes.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The path.")
    var path: String

    @Argument(parsing: .postTerminator, help: "Options for curl.")
    var curlOptions: [String] = []

    func run() async throws {
        let context = try Context(global)
        guard path.hasPrefix("/") || !path.contains("://") else {
            throw UsageError("'\(path)' is a URL; give a path, and choose the server with SPRITES_API_URL")
        }
        let url = context.url + Self.fullPath(path, sprite: context.spriteNameIfAny())
        try Self.execute(url, token: try context.token(), options: curlOptions)
    }

    static func fullPath(_ path: String, sprite: String?) -> String {
        let path = path.hasPrefix("/") ? path : "/\(path)"
        if path == "/v1" || path.hasPrefix("/v1/") || path == "/health" { return path }
        guard let sprite else { return "/v1\(path)" }
        return "/v1/sprites/\(API.PercentCoding.encode(sprite))\(path == "/" ? "" : path)"
    }

    /// Becomes curl, which reads the header with the token from a pipe.
    private static func execute(_ url: String, token: String, options: [String]) throws -> Never {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw CommandFailure("cannot make a pipe: \(errnoText(errno))") }
        // A pipe takes 64 KiB at once; a token is far below that.
        guard token.utf8.count < 32 << 10, writeAll(ends[1], "Authorization: Bearer \(token)\n") == 0 else {
            throw CommandFailure("cannot hand the token to curl")
        }
        close(ends[1])
        let arguments = ["curl", "-sS", "--header", "@/dev/fd/\(ends[0])"] + options + ["--", url]
        // Threads of this runtime block most signals, and what is ignored stays so: curl must get neither.
        var none = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, nil)
        signal(SIGPIPE, SIG_DFL)
        let pointers = arguments.map { strdup($0) } + [nil]
        execvp("curl", pointers)
        let reason = errno == ENOENT ? "it is not installed" : errnoText(errno)
        throw CommandFailure("cannot run curl: \(reason)")
    }
}
