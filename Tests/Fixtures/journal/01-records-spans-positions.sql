-- SPDX-License-Identifier: Apache-2.0
-- Part of sprite-env: the journal as a daemon of this schema wrote it. Never changed.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
CREATE TABLE sprites (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX sprites_names ON sprites(name);
CREATE TABLE sources (
    key INTEGER PRIMARY KEY,
    sprite INTEGER,
    stream TEXT,
    session TEXT,
    service TEXT,
    command TEXT,
    checkpoint TEXT,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
CREATE INDEX sources_sprites ON sources(sprite, session);
CREATE INDEX sources_last ON sources(last);
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    sprite INTEGER,
    kind INTEGER NOT NULL,
    level INTEGER NOT NULL,
    source INTEGER,
    flags INTEGER NOT NULL,
    trace BLOB,
    event TEXT,
    text TEXT NOT NULL,
    fields TEXT
) STRICT;
CREATE INDEX records_sprites ON records(sprite, id);
CREATE INDEX records_events ON records(id) WHERE event IS NOT NULL;
CREATE INDEX records_sprite_events ON records(sprite, id) WHERE event IS NOT NULL;
CREATE INDEX records_traces ON records(trace, id) WHERE trace IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5(
    text, content='records', content_rowid='id', detail=none, columnsize=0,
    tokenize='unicode61 remove_diacritics 0');
CREATE TABLE marks (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    earliest INTEGER NOT NULL,
    latest INTEGER NOT NULL
) STRICT;
CREATE TABLE spans (
    key INTEGER PRIMARY KEY,
    trace BLOB NOT NULL,
    id INTEGER NOT NULL,
    parent INTEGER,
    sprite INTEGER,
    name TEXT NOT NULL,
    start INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    error TEXT,
    attributes TEXT
) STRICT;
CREATE INDEX spans_traces ON spans(trace);
CREATE TABLE positions (
    sprite TEXT NOT NULL,
    session TEXT NOT NULL,
    created INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    position INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sprite, session, created, stream)
) STRICT, WITHOUT ROWID;
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE VIEW log AS
    SELECT r.id, r.time, s.id AS sprite_id, s.name AS sprite,
        CASE r.kind WHEN 1 THEN 'process' WHEN 2 THEN 'api' WHEN 3 THEN 'checkpoint' ELSE 'system' END AS kind,
        CASE r.level WHEN 1 THEN 'debug' WHEN 2 THEN 'info' WHEN 3 THEN 'warn' ELSE 'error' END AS level,
        r.event, o.stream, o.session, o.service, o.command, o.checkpoint, lower(hex(r.trace)) AS trace_id,
        r.text, r.fields
    FROM records r LEFT JOIN sprites s ON s.key = r.sprite LEFT JOIN sources o ON o.key = r.source;
CREATE VIEW span AS
    SELECT lower(hex(p.trace)) AS trace_id, printf('%016x', p.id) AS span_id,
        CASE WHEN p.parent IS NOT NULL THEN printf('%016x', p.parent) END AS parent_id,
        s.id AS sprite_id, s.name AS sprite, p.name, p.start, p.duration, p.error, p.attributes
    FROM spans p LEFT JOIN sprites s ON s.key = p.sprite;
CREATE VIEW command AS
    SELECT e.id, e.time - coalesce(e.fields ->> 'duration_ns', 0) AS start, e.time AS ended,
        s.id AS sprite_id, s.name AS sprite, o.session, o.service, o.command, o.checkpoint,
        e.fields ->> 'exit_code' AS exit_code, e.fields ->> 'signal' AS signal,
        e.fields ->> 'stdout_bytes' AS stdout_bytes, e.fields ->> 'stderr_bytes' AS stderr_bytes
    FROM records e LEFT JOIN sprites s ON s.key = e.sprite LEFT JOIN sources o ON o.key = e.source
    WHERE e.event = 'exec.ended';
INSERT INTO sprites VALUES (1, '00000000000000a1', 'first', 100);
INSERT INTO sources VALUES (1, 1, 'stdout', '7', NULL, '/bin/echo hello', 'v2', 5, 6);
INSERT INTO records VALUES (5, 1000, 1, 1, 2, 1, 0, NULL, NULL, 'hello from before', NULL);
INSERT INTO records VALUES (6, 1001, 1, 1, 2, 1, 2, NULL, NULL, 'two
lines', NULL);
INSERT INTO records VALUES (7, 1002, 1, 3, 2, NULL, 0, x'0102030405060708090a0b0c0d0e0f10', 'checkpoint.created', 'made v1', '{"checkpoint":"v1"}');
INSERT INTO marks VALUES (5, 7, 1000, 1002);
INSERT INTO words (rowid, text) VALUES (5, 'hello from before');
INSERT INTO state VALUES ('indexed', 5);
PRAGMA user_version = 1;
