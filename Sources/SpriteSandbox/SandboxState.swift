// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// The state of a running sandbox: RUN/state/<sprite id>.json, mode 0600, written once PID 1 runs.
//
// | field       | meaning                                                              |
// |-------------|----------------------------------------------------------------------|
// | version     | 1                                                                    |
// | processID   | PID 1 of the sandbox, as the host sees it                            |
// | startTime   | of that process, in clock ticks since the host's start               |
// | address     | IPv4 address of the sandbox                                          |
// | initSystem  | what PID 1 is; absent: sprite                                        |
//
// It lies on tmpfs: a reboot ends all sandboxes and takes it away. A sandbox without it was half started.

import FoundationEssentials
package import SpriteDomain
import SpriteSystem

/// What a restarted daemon must know of a sandbox to take it over.
package struct SandboxState: Sendable, Hashable {
    package var process: ProcessIdentity
    package var address: String
    package var initSystem: InitSystem

    package init(process: ProcessIdentity, address: String, initSystem: InitSystem = .sprite) {
        self.process = process
        self.address = address
        self.initSystem = initSystem
    }

    /// Nil for a file that is not there, damaged, or of a version this program does not know.
    package static func read(_ path: String) -> SandboxState? {
        guard let text = try? readSmallFile(path, bytesMax: 64 << 10),
            let stored = try? JSONDecoder().decode(Stored.self, from: Data(text.utf8)), stored.version == 1,
            stored.processID > 1
        else { return nil }
        return SandboxState(
            process: ProcessIdentity(processID: stored.processID, startTime: stored.startTime), address: stored.address,
            initSystem: stored.initSystem ?? .sprite)
    }

    package func write(_ path: String) throws {
        let stored = Stored(
            version: 1, processID: process.processID, startTime: process.startTime, address: address,
            initSystem: initSystem)
        try writeFileAtomically(path, String(decoding: JSONEncoder().encode(stored), as: UTF8.self))
    }

    private struct Stored: Codable {
        var version: Int
        var processID: Int32
        var startTime: UInt64
        var address: String
        var initSystem: InitSystem?
    }
}
