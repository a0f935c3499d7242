// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
import SpriteDomain
import SpriteSystem

/// Opens the database for writing. Sprites need the daemon more than the daemon needs its journal: a full disk or a
/// damaged file keeps nobody from starting.
struct JournalOpening: Sendable {
    private static let pauseMicroseconds: UInt32 = 500_000

    let path: String
    /// In memory, or on another disk: how many records a daemon had that it could not write.
    let unwrittenPath: String?
    let shared: JournalShared
    let mailbox: JournalMailbox
    let retention: JournalRetention
    let intake: JournalIntake
    let logger: Logger
    let now: @Sendable () -> Timestamp

    /// - Returns: Nil if the disk is full; ``openLater()`` tries again.
    func open() throws -> JournalWriter? {
        do {
            return try makeIfThereIsRoom()
        } catch let error as SQLiteError where error.isDamage {
            putAside(error)
            return try makeIfThereIsRoom()
        }
    }

    private func makeIfThereIsRoom() throws -> JournalWriter? {
        do {
            return try make()
        } catch let error as SQLiteError where error.isOfFullDisk {
            logger.error("the journal cannot be written", metadata: ["error": "\(error)"])
            return nil
        }
    }

    /// Tries until there is room; nil if the daemon stops first. Blocks.
    func openLater() -> JournalWriter? {
        let since = ContinuousClock.now
        shared.setBehind(0, records: 0, isWritable: false)
        while !mailbox.isStopped {
            usleep(Self.pauseMicroseconds)
            guard let writer = try? make() else { continue }
            writer.failingSince = since
            return writer
        }
        return nil
    }

    private func make() throws -> JournalWriter {
        // Output may hold secrets; SQLite gives its other files the same mode.
        let file = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if file >= 0 { close(file) }
        prepareWALIndex(ofDatabase: path)
        return try JournalWriter(
            path: path, unwrittenPath: unwrittenPath, shared: shared, mailbox: mailbox, retention: retention,
            intake: intake, logger: logger, now: now)
    }

    /// What a damaged file still holds may be worth a repair: it is put aside.
    private func putAside(_ error: SQLiteError) {
        let aside = "\(path).damaged-\(Timestamp.now().nanoseconds / 1_000_000_000)"
        for end in ["", "-wal", "-shm"] { rename(path + end, aside + end) }
        logger.error(
            "the journal is damaged; it was put aside and a new one begun",
            metadata: ["error": "\(error)", "file": "\(aside)"])
        let text = "the journal was damaged (\(error.message)); what it held is in \(aside)"
        mailbox.leave(.record(JournalRecord("journal.damaged", level: .error, text, trace: nil)))
    }
}
