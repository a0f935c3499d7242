# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""An S3 server that lists whatever names it was given, also those that lead out of where they are copied to."""

import hashlib
import http.server
import posixpath
import threading
import urllib.parse

HEADERS = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Content-Type": "application/xml"}
LOCATION = '<?xml version="1.0"?><LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'


class HostileStore:
    """Serves `objects`, by their keys in a bucket of any name, for reading."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.asked: list[str] = []
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                status, headers, body = store.answer(self.path, self.headers.get("Range"))
                self.send_response(status)
                for name, value in {**HEADERS, **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, address: str, part: str | None) -> tuple[int, dict[str, str], bytes]:
        url = urllib.parse.urlsplit(address)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        key = urllib.parse.unquote(url.path).lstrip("/").partition("/")[2]
        if not key:
            return 200, {}, (LOCATION if "location" in query else self.listing(query)).encode()
        self.asked.append(key)
        # Some clients send the shortest form of a path.
        known = {posixpath.normpath(name): content for name, content in self.objects.items()}
        content = self.objects.get(key, known.get(posixpath.normpath(key)))
        if content is None:
            return 404, {}, b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>'
        headers = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
        if part is None:
            return 200, headers, content
        first, last = part.removeprefix("bytes=").split("-")
        end = min(int(last or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
        return 206, headers, content[int(first) : end + 1]

    def listing(self, query: dict[str, str]) -> str:
        after = query.get("start-after", query.get("marker", ""))
        names = sorted(name for name in self.objects if name.startswith(query.get("prefix", "")) and name > after)
        entries = "".join(
            f"<Contents><Key>{urllib.parse.quote(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"{hashlib.md5(self.objects[name]).hexdigest()}"</ETag><Size>{len(self.objects[name])}</Size>'
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for name in names
        )
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType><KeyCount>{len(names)}</KeyCount>"
            f"{entries}</ListBucketResult>"
        )

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
