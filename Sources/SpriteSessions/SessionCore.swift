// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain
import SpriteSystem

/// Everything the event thread owns. Not Sendable: a job that is posted to the thread is the only way to it.
final class SessionCore {
    let loop: EventLoop
    let thread: EventThread
    let runDirectory: String
    let logger: Logger
    /// Nil: nothing is recorded.
    let aside: AsideFolder?
    /// By ``Session/token``; also those that have ended and are not yet let go by their descendants.
    var live: [UInt64: LiveSession] = [:]
    var agents: [SpriteID: Agent] = [:]
    private var nextToken: UInt64 = 1

    init(loop: EventLoop, thread: EventThread, runDirectory: String, aside: AsideFolder?, logger: Logger) {
        self.aside = aside
        self.loop = loop
        self.thread = thread
        self.runDirectory = runDirectory
        self.logger = logger
    }

    func sessionsDirectory(_ sprite: SpriteID) -> String { "\(runDirectory)/sessions/\(sprite)" }

    /// Makes both sides of a session and enters it.
    func makeSession(
        _ number: UInt64, of sprite: SpriteID, record: SessionRecord, outputs: [Descriptor], files: SessionFiles?
    ) -> LiveSession {
        let token = nextToken
        nextToken += 1
        let session = Session(
            token: token, sprite: sprite, info: record.info, files: outputs, thread: thread, asideFolder: aside?.path)
        let live = LiveSession(loop: loop, number: number, session: session, files: files, record: record)
        live.onReleased = { [weak self] in self?.live[token] = nil }
        live.recorder = aside?.recorder
        live.backlogMax = { [weak self] in
            let share = Limits.journalBacklogBytesInAllMax / max(1, self?.live.count ?? 1)
            return max(Limits.scrollbackBytesMax, min(Limits.journalBacklogBytesMax, share))
        }
        self.live[token] = live
        return live
    }

    func remove(_ live: LiveSession) {
        live.removeFiles()
        self.live[live.session.token] = nil
    }

    /// Closes everything at once and leaves it to PID 1 and the files, as if the daemon had been killed.
    func drop() {
        for session in live.values { session.drop() }
        for agent in agents.values { agent.drop() }
        live = [:]
        agents = [:]
    }
}
