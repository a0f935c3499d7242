# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""SQL over the journal reads, within limits, and can do nothing else."""

import time
from pathlib import Path

import pytest

from support.api import Api, ApiError
from support.daemon import Daemon
from support.exec import shell
from support.logs import Json, wait_for


def ask(api: Api, sql: str, **options: object) -> Json:
    answer: Json = api.call("POST", "/v1/logs/query", json={"sql": sql, **options}).json()
    return answer


def test_questions(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo needle-in-sql; exit 0")
    wait_for(api, sprite, "exit 0", event="exec.ended")
    answer = ask(api, f"SELECT text, stream, kind FROM log WHERE sprite = '{sprite}' AND stream = 'stdout'")
    assert answer == {
        "columns": ["text", "stream", "kind"], "rows": [["needle-in-sql", "stdout", "process"]], "truncated": False,
    }  # fmt: skip
    ran = ask(api, f"SELECT exit_code, stdout_bytes FROM command WHERE sprite = '{sprite}'")
    assert ran["rows"] == [[0, 14]]
    assert ask(api, "SELECT count(*) FROM span")["rows"][0][0] > 0
    assert ask(api, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50) SELECT i FROM n", limit=10)[
        "truncated"
    ]
    assert ask(api, "SELECT NULL, 1.5, x'00ff', 'a' || char(10)")["rows"] == [[None, 1.5, "AP8=", "a\n"]]
    ask(api, "SELECT count(*) FROM words WHERE words MATCH 'needle'")


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM records", "UPDATE sprites SET name = 'x'", "INSERT INTO state VALUES ('a', 1)", "DROP TABLE records",
        "CREATE TABLE t (a)", "CREATE TEMP TABLE t (a)", "ATTACH '/etc/passwd' AS p", "ATTACH ':memory:' AS p",
        "PRAGMA journal_mode = DELETE", "PRAGMA table_info(records)", "SELECT * FROM pragma_database_list",
        "SELECT load_extension('/tmp/x.so')", "SELECT readfile('/etc/passwd')", "VACUUM INTO '/tmp/stolen'",
        "BEGIN", "SELECT 1; SELECT 2", "", "SELECT", "INSERT INTO words (words) VALUES ('optimize')",
        "SELECT zeroblob(1000000000)", "REINDEX", "ANALYZE", "DETACH main", "SAVEPOINT x", "EXPLAIN SELECT nothing",
        "SELECT writefile('/tmp/x', 'y')", "SELECT fts3_tokenizer('simple')",
    ],
)  # fmt: skip
def test_what_does_not_read_is_refused(api: Api, daemon: Daemon, sql: str) -> None:
    with pytest.raises(ApiError) as refused:
        ask(api, sql)
    assert refused.value.status == 400, refused.value
    assert not Path("/tmp/stolen").exists()


def test_endless_questions_end(api: Api) -> None:
    start = time.monotonic()
    with pytest.raises(ApiError) as refused:
        ask(api, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
    assert refused.value.status == 504 and time.monotonic() - start < 9
    query = {"sql": "SELECT hex(printf('%.*c', 2000000000, 'x'))"}
    assert len(api.call("POST", "/v1/logs/query", (200, 400), json=query).content) < 10_000_000
    assert ask(api, "SELECT 1")["rows"] == [[1]]
