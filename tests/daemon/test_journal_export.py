# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Records and spans reach a collector over OTLP/HTTP, also one that was away; measures are there for Prometheus."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import shell
from support.fixtures import fresh_name
from support.wait import eventually

Json = dict[str, Any]


class Collector(ThreadingHTTPServer):
    """Takes OTLP in JSON and refuses what is not of that form."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.logs: list[Json] = []
        self.spans: list[Json] = []
        self.headers: list[str | None] = []
        self.failing = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector = self.server
        assert isinstance(collector, Collector)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if collector.failing > 0:
            collector.failing -= 1
            self.send_response(503)
        else:
            collector.headers.append(self.headers["x-tenant"])
            if self.path == "/v1/logs":
                for resource in body["resourceLogs"]:
                    assert resource["resource"]["attributes"][0]["value"]["stringValue"] == "sprited"
                    collector.logs += [one for scope in resource["scopeLogs"] for one in scope["logRecords"]]
            else:
                assert self.path == "/v1/traces"
                for resource in body["resourceSpans"]:
                    collector.spans += [one for scope in resource["scopeSpans"] for one in scope["spans"]]
            self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.shutdown()
    server.server_close()


def measures(api: Api) -> str:
    text: str = api.call("GET", "/metrics").text
    return text


def test_export(new_daemon: Callable[..., Daemon], collector: Collector, tmp_path: Path) -> None:
    collector.failing = 2
    settings = tmp_path / "settings.json"
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    settings.write_text(json.dumps({"otlp_endpoint": endpoint, "otlp_headers": "x-tenant=seven"}))
    daemon = new_daemon("--config", str(settings))
    api = daemon.api()
    name = fresh_name()
    api.create(name)
    shell(api, name, 'echo "exported \\"line\\""; seq 1 3000')
    eventually(lambda: any(one["body"]["stringValue"] == "3000" for one in collector.logs), "the last line came", 30)
    bodies = [one["body"]["stringValue"] for one in collector.logs]
    assert [body for body in bodies if body.isdigit()] == [str(number) for number in range(1, 3001)]
    line = next(one for one in collector.logs if one["body"]["stringValue"] == 'exported "line"')
    attributes = {one["key"]: one["value"]["stringValue"] for one in line["attributes"]}
    assert attributes["sprite.name"] == name and attributes["log.iostream"] == "stdout"
    assert line["severityText"] == "INFO" and int(line["timeUnixNano"]) > 1_600_000_000 * 10**9
    eventually(lambda: any(one["name"] == "http.sprites" for one in collector.spans), "the span came", 20)
    span = next(one for one in collector.spans if one["name"] == "storage.create")
    parent = next(one for one in collector.spans if one["spanId"] == span["parentSpanId"])
    assert parent["name"] == "http.sprites" and parent["traceId"] == span["traceId"] and len(span["traceId"]) == 32
    assert set(collector.headers) == {"seven"}
    before = len([body for body in bodies if body == "3000"])
    # A batch whose answer did not come any more is sent again.
    eventually(lambda: f"exported_total {len(collector.logs) + len(collector.spans)}\n" in measures(api), "all is taken")
    daemon.terminate()
    daemon.start()
    shell(api, name, "echo after the restart")
    eventually(lambda: any(one["body"]["stringValue"] == "after the restart" for one in collector.logs), "it goes on", 30)
    assert len([one for one in collector.logs if one["body"]["stringValue"] == "3000"]) == before


def test_measures(api: Api, sprite: str) -> None:
    api.checkpoint(sprite)
    pattern = r'sprited_operation_duration_seconds_count\{operation="storage\.snapshot"\} [1-9]'
    text = eventually(
        lambda: (text := api.call("GET", "/metrics").text) and re.search(pattern, text) and text, "the checkpoint counts"
    )
    assert 'sprited_sprites{state="running"}' in text and "sprited_pool_available_bytes" in text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .+|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+', line), line
    buckets = re.findall(r'operation="storage\.snapshot",le="[^"]+"\} (\d+)', text)
    assert [int(one) for one in buckets] == sorted(int(one) for one in buckets)
