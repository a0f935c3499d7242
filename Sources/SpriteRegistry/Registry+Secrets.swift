// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDB
package import SpriteDomain

extension Registry {
    package func secrets(_ sprite: SpriteID) async throws -> [BrokeredSecret] {
        try await read { db in
            try Row.fetchAll(
                db, sql: "SELECT * FROM secrets WHERE sprite = ? ORDER BY id", arguments: [sprite.rawValue]
            ).map { row in
                BrokeredSecret(
                    id: row["id"], host: row["host"], header: row["header"], format: row["format"],
                    value: row["value"], createdAt: Timestamp(nanoseconds: row["created_at"]),
                    lastUsedAt: (row["last_used_at"] as Int64?).map { Timestamp(nanoseconds: $0) })
            }
        }
    }

    package func setSecret(_ sprite: SpriteID, _ secret: BrokeredSecret) async throws {
        try await write { db in
            try db.execute(
                sql: """
                    INSERT OR REPLACE INTO secrets (sprite, id, host, header, format, value, created_at)
                    VALUES (?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    sprite.rawValue, secret.id, secret.host, secret.header, secret.format, secret.value,
                    secret.createdAt.nanoseconds,
                ])
        }
    }

    package func removeSecret(_ sprite: SpriteID, _ id: String) async throws -> Bool {
        try await write { db in
            try db.execute(
                sql: "DELETE FROM secrets WHERE sprite = ? AND id = ?", arguments: [sprite.rawValue, id])
            return db.changesCount > 0
        }
    }

    package func noteUse(_ sprite: SpriteID, secret: String, at time: Timestamp) async throws {
        try await write { db in
            try db.execute(
                sql: "UPDATE secrets SET last_used_at = ? WHERE sprite = ? AND id = ?",
                arguments: [time.nanoseconds, sprite.rawValue, secret])
        }
    }

    package func authority(_ sprite: SpriteID) async throws -> SpriteAuthority? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM authorities WHERE sprite = ?", arguments: [sprite.rawValue])
                .map { SpriteAuthority(certificate: $0["certificate"], key: $0["private_key"]) }
        }
    }

    package func setAuthority(_ sprite: SpriteID, _ authority: SpriteAuthority) async throws {
        try await write { db in
            try db.execute(
                sql: "INSERT OR REPLACE INTO authorities (sprite, certificate, private_key) VALUES (?, ?, ?)",
                arguments: [sprite.rawValue, authority.certificate, authority.key])
        }
    }
}
