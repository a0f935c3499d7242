// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI

/// How far the output of a command has come, counted from its start, so that a lost connection can be resumed.
struct ExecPosition: Sendable, Hashable {
    /// Tells the session from others of its id.
    let instance: String
    private var stdout: Int64
    private var stderr: Int64

    /// Nil if the server did not say.
    init?(_ message: API.TextMessage) {
        guard let instance = message.instance, let stdout = message.stdoutOffset else { return nil }
        self.instance = instance
        self.stdout = stdout
        stderr = message.stderrOffset ?? 0
    }

    mutating func advance(_ stream: OutputStream, by count: Int64) {
        switch stream {
        case .stdout: stdout += count
        case .stderr: stderr += count
        }
    }

    /// What attaches there.
    var query: API.Query {
        API.Query([
            .init("instance", instance), .init("stdout_offset", "\(stdout)"), .init("stderr_offset", "\(stderr)"),
        ])
    }
}
