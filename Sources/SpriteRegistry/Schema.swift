// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDB

/// The registry's schema. A shipped migration never changes; later ones are appended.
///
/// | table | one row is |
/// |---|---|
/// | `sprites` | a sprite; `state` is `creating`, `ready` or `destroying` |
/// | `checkpoints` | a snapshot that is whole on the disk |
/// | `tasks` | what holds a sprite awake until it expires |
/// | `intents` | a change of several steps that was begun and is not done |
/// | `resumptions` | what is to be started after a sprite's last restore, and was not |
///
/// Times are nanoseconds since 1970; `environment` is a JSON object, `labels` a JSON array.
enum Schema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1 sprites, checkpoints, intents") { db in
            try db.execute(
                sql: """
                    CREATE TABLE sprites (
                        id TEXT NOT NULL PRIMARY KEY,
                        name TEXT NOT NULL UNIQUE,
                        state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'destroying')),
                        base TEXT NOT NULL,
                        memory_mib INTEGER CHECK (memory_mib > 0),
                        cpus REAL CHECK (cpus > 0),
                        pids INTEGER CHECK (pids > 0),
                        environment TEXT NOT NULL CHECK (json_valid(environment)),
                        labels TEXT NOT NULL CHECK (json_valid(labels)),
                        url_authentication TEXT NOT NULL,
                        created_at INTEGER NOT NULL,
                        updated_at INTEGER NOT NULL,
                        last_running_at INTEGER,
                        source TEXT NOT NULL,
                        next_version INTEGER NOT NULL CHECK (next_version > 0),
                        next_automatic INTEGER NOT NULL CHECK (next_automatic > 0)
                    ) STRICT;
                    CREATE TABLE checkpoints (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        id TEXT NOT NULL,
                        created_at INTEGER NOT NULL,
                        comment TEXT,
                        source TEXT,
                        flush_ns INTEGER NOT NULL CHECK (flush_ns >= 0),
                        snapshot_ns INTEGER NOT NULL CHECK (snapshot_ns >= 0),
                        PRIMARY KEY (sprite, id)
                    ) STRICT, WITHOUT ROWID;
                    CREATE TABLE intents (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        kind TEXT NOT NULL,
                        subject TEXT NOT NULL DEFAULT '',
                        object TEXT NOT NULL DEFAULT '',
                        PRIMARY KEY (sprite, kind, subject)
                    ) STRICT, WITHOUT ROWID;
                    """)
        }
        migrator.registerMigration("2 idle policy") { db in
            try db.execute(
                sql: """
                    ALTER TABLE sprites ADD COLUMN freeze_after_seconds INTEGER CHECK (freeze_after_seconds >= 0);
                    ALTER TABLE sprites ADD COLUMN stop_after_seconds INTEGER CHECK (stop_after_seconds >= 0);
                    """)
        }
        migrator.registerMigration("3 policies") { db in
            try db.execute(
                sql: """
                    CREATE TABLE policies (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        kind TEXT NOT NULL,
                        body TEXT NOT NULL CHECK (json_valid(body)),
                        PRIMARY KEY (sprite, kind)
                    ) STRICT, WITHOUT ROWID
                    """)
        }
        migrator.registerMigration("4 tasks") { db in
            try db.execute(
                sql: """
                    CREATE TABLE tasks (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        name TEXT NOT NULL,
                        started_at INTEGER NOT NULL,
                        expires_at INTEGER NOT NULL,
                        PRIMARY KEY (sprite, name)
                    ) STRICT, WITHOUT ROWID
                    """)
        }
        migrator.registerMigration("runtimes") { db in
            try db.execute(sql: "ALTER TABLE sprites ADD COLUMN runtimes TEXT")
        }
        migrator.registerMigration("reasons of checkpoints, throw-away sprites") { db in
            // What was automatic until now was what a restore replaced.
            try db.execute(
                sql: """
                    ALTER TABLE checkpoints ADD COLUMN reason TEXT NOT NULL DEFAULT 'requested';
                    ALTER TABLE checkpoints ADD COLUMN is_pinned INTEGER NOT NULL DEFAULT 0 CHECK (is_pinned IN (0, 1));
                    ALTER TABLE checkpoints ADD COLUMN path TEXT;
                    UPDATE checkpoints SET reason = 'replaced' WHERE id LIKE 'auto-%';
                    ALTER TABLE sprites
                        ADD COLUMN is_ephemeral INTEGER NOT NULL DEFAULT 0 CHECK (is_ephemeral IN (0, 1));
                    """)
        }
        migrator.registerMigration("base of checkpoints") { db in
            try db.execute(sql: "ALTER TABLE checkpoints ADD COLUMN base TEXT")
        }
        migrator.registerMigration("OCI runtime") { db in
            try db.execute(sql: "ALTER TABLE sprites ADD COLUMN oci_runtime TEXT")
        }
        migrator.registerMigration("what follows a restore") { db in
            try db.execute(
                sql: """
                    CREATE TABLE resumptions (
                        sprite TEXT NOT NULL PRIMARY KEY REFERENCES sprites(id) ON DELETE CASCADE,
                        restored TEXT NOT NULL,
                        replaced TEXT NOT NULL,
                        origin TEXT NOT NULL,
                        command TEXT,
                        user INTEGER
                    ) STRICT
                    """)
        }
        migrator.registerMigration("limits of disks, sprites that start with the host") { db in
            try db.execute(
                sql: """
                    ALTER TABLE sprites ADD COLUMN disk_mib INTEGER CHECK (disk_mib > 0);
                    ALTER TABLE sprites
                        ADD COLUMN starts_with_host INTEGER NOT NULL DEFAULT 0 CHECK (starts_with_host IN (0, 1));
                    """)
        }
        migrator.registerMigration("limits of networks") { db in
            try db.execute(
                sql: """
                    ALTER TABLE sprites ADD COLUMN bandwidth_mbit INTEGER CHECK (bandwidth_mbit > 0);
                    ALTER TABLE sprites ADD COLUMN connections INTEGER CHECK (connections > 0);
                    """)
        }
        migrator.registerMigration("secrets") { db in
            try db.execute(
                sql: """
                    CREATE TABLE secrets (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        id TEXT NOT NULL,
                        host TEXT NOT NULL,
                        header TEXT NOT NULL,
                        format TEXT NOT NULL,
                        value TEXT NOT NULL,
                        created_at INTEGER NOT NULL,
                        last_used_at INTEGER,
                        PRIMARY KEY (sprite, id),
                        UNIQUE (sprite, host, header)
                    ) STRICT, WITHOUT ROWID;
                    CREATE TABLE authorities (
                        sprite TEXT NOT NULL PRIMARY KEY REFERENCES sprites(id) ON DELETE CASCADE,
                        certificate TEXT NOT NULL,
                        private_key TEXT NOT NULL
                    ) STRICT, WITHOUT ROWID;
                    """)
        }
        return migrator
    }
}
