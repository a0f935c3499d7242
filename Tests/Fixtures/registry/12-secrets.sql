-- SPDX-License-Identifier: Apache-2.0
-- Part of sprite-env: the registry as a daemon of this schema wrote it. Never changed.
BEGIN TRANSACTION;
CREATE TABLE checkpoints (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        id TEXT NOT NULL,
                        created_at INTEGER NOT NULL,
                        comment TEXT,
                        source TEXT,
                        flush_ns INTEGER NOT NULL CHECK (flush_ns >= 0),
                        snapshot_ns INTEGER NOT NULL CHECK (snapshot_ns >= 0), reason TEXT NOT NULL DEFAULT 'requested', is_pinned INTEGER NOT NULL DEFAULT 0 CHECK (is_pinned IN (0, 1)), path TEXT, base TEXT,
                        PRIMARY KEY (sprite, id)
                    ) STRICT, WITHOUT ROWID;
INSERT INTO "checkpoints" VALUES('00000000000000a1','auto-1',1200,'replaced by restoring v1','v1',0,0,'replaced',0,NULL,NULL);
INSERT INTO "checkpoints" VALUES('00000000000000a1','v0',1000,NULL,NULL,0,0,'requested',0,NULL,NULL);
INSERT INTO "checkpoints" VALUES('00000000000000a1','v1',1100,'kept','v0',5,6,'requested',1,NULL,NULL);
INSERT INTO "checkpoints" VALUES('00000000000000a1','v2',1300,NULL,'v1',7,8,'requested',0,NULL,NULL);
INSERT INTO "checkpoints" VALUES('00000000000000b2','v0',1000,NULL,NULL,0,0,'requested',0,NULL,NULL);
CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY);
INSERT INTO "grdb_migrations" VALUES('1 sprites, checkpoints, intents');
INSERT INTO "grdb_migrations" VALUES('2 idle policy');
INSERT INTO "grdb_migrations" VALUES('3 policies');
INSERT INTO "grdb_migrations" VALUES('4 tasks');
INSERT INTO "grdb_migrations" VALUES('runtimes');
INSERT INTO "grdb_migrations" VALUES('reasons of checkpoints, throw-away sprites');
INSERT INTO "grdb_migrations" VALUES('base of checkpoints');
INSERT INTO "grdb_migrations" VALUES('OCI runtime');
INSERT INTO "grdb_migrations" VALUES('what follows a restore');
INSERT INTO "grdb_migrations" VALUES('limits of disks, sprites that start with the host');
INSERT INTO "grdb_migrations" VALUES('limits of networks');
INSERT INTO "grdb_migrations" VALUES('secrets');
CREATE TABLE authorities (
    sprite TEXT NOT NULL PRIMARY KEY REFERENCES sprites(id) ON DELETE CASCADE,
    certificate TEXT NOT NULL,
    private_key TEXT NOT NULL
) STRICT, WITHOUT ROWID;
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
CREATE TABLE intents (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        kind TEXT NOT NULL,
                        subject TEXT NOT NULL DEFAULT '',
                        object TEXT NOT NULL DEFAULT '',
                        PRIMARY KEY (sprite, kind, subject)
                    ) STRICT, WITHOUT ROWID;
INSERT INTO "intents" VALUES('00000000000000a1','checkpoint','v3','');
INSERT INTO "intents" VALUES('00000000000000c3','create','','checkpoint 00000000000000a1 v1');
CREATE TABLE policies (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        kind TEXT NOT NULL,
                        body TEXT NOT NULL CHECK (json_valid(body)),
                        PRIMARY KEY (sprite, kind)
                    ) STRICT, WITHOUT ROWID
                    ;
INSERT INTO "policies" VALUES('00000000000000a1','network','{"rules":[]}');
CREATE TABLE resumptions (
                        sprite TEXT NOT NULL PRIMARY KEY REFERENCES sprites(id) ON DELETE CASCADE,
                        restored TEXT NOT NULL,
                        replaced TEXT NOT NULL,
                        origin TEXT NOT NULL,
                        command TEXT,
                        user INTEGER
                    ) STRICT
                    ;
INSERT INTO "resumptions" VALUES('00000000000000a1','v1','auto-1','api','make',1000);
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
                    , freeze_after_seconds INTEGER CHECK (freeze_after_seconds >= 0), stop_after_seconds INTEGER CHECK (stop_after_seconds >= 0), runtimes TEXT, is_ephemeral INTEGER NOT NULL DEFAULT 0 CHECK (is_ephemeral IN (0, 1)), oci_runtime TEXT, disk_mib INTEGER CHECK (disk_mib > 0), starts_with_host INTEGER NOT NULL DEFAULT 0 CHECK (starts_with_host IN (0, 1)), bandwidth_mbit INTEGER CHECK (bandwidth_mbit > 0), connections INTEGER CHECK (connections > 0)) STRICT;
INSERT INTO "sprites" VALUES('00000000000000a1','first','ready','debian',512,1.5,100,'{"KEY":"value"}','["a","b"]','public',1000,2000,3000,'v2',3,2,60,0,'default@0123456789ab',0,'runc',1024,1,100,50);
INSERT INTO "sprites" VALUES('00000000000000b2','second','ready','debian',NULL,NULL,NULL,'{}','[]','sprite',1000,2000,NULL,'v0',1,1,NULL,NULL,NULL,0,NULL,NULL,0,NULL,NULL);
INSERT INTO "sprites" VALUES('00000000000000c3','half-made','creating','debian',NULL,NULL,NULL,'{}','[]','sprite',1000,2000,NULL,'v0',1,1,NULL,NULL,NULL,0,NULL,NULL,0,NULL,NULL);
CREATE TABLE tasks (
                        sprite TEXT NOT NULL REFERENCES sprites(id) ON DELETE CASCADE,
                        name TEXT NOT NULL,
                        started_at INTEGER NOT NULL,
                        expires_at INTEGER NOT NULL,
                        PRIMARY KEY (sprite, name)
                    ) STRICT, WITHOUT ROWID
                    ;
INSERT INTO "tasks" VALUES('00000000000000a1','build',1,2);
COMMIT;
