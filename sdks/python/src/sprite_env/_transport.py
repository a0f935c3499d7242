# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""HTTP requests, NDJSON streams and WebSocket dials, with errors told as `SpriteError`."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Union
from urllib.parse import quote, urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidProxy, InvalidStatus, InvalidURI, ProxyError

from . import errors

VERSION = "0.1.0"
Query = Iterable["tuple[str, str]"]
#: How long to wait before a read whose connection was lost is tried again, each time: nine seconds in all.
READ_WAITS = (0.1, 0.2, 0.4, 0.8, 1.5, 2, 2, 2)
Content = Union[bytes, Iterable[bytes], AsyncIterable[bytes]]


@dataclass(frozen=True)
class Options:
    """How a client behaves. Every duration is in seconds."""

    #: How long a request may take that is no stream; creating a sprite may have to wait for its start.
    request_timeout: float = 120
    #: How long making a connection may take.
    connect_timeout: float = 10
    #: Commands that run at once over connections of their own; more wait for a free one.
    connections_max: int = 1024
    #: Control connections that are kept for the next command, for each sprite.
    idle_connections_max: int = 16
    #: How long a control connection is kept without use.
    idle_timeout: float = 60
    #: Whether commands use kept control connections; False opens one for each command.
    control: bool = True
    #: A proxy's URL; None takes HTTP_PROXY, HTTPS_PROXY and NO_PROXY from the environment, False uses none.
    proxy: str | bool | None = None
    #: A file with certificates to trust instead of the system's.
    ca_file: str | None = None
    user_agent: str = f"sprite-env-python/{VERSION}"


def segment(text: str) -> str:
    return quote(text, safe="")


class Transport:
    """One server: its address, token and connections."""

    def __init__(self, base_url: str | None, token: str | None, options: Options) -> None:
        self.base_url = (base_url or os.environ.get("SPRITES_API_URL") or "http://127.0.0.1:7780").rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise errors.InvalidRequest(
                f"invalid base URL '{self.base_url}': it begins with neither http:// nor https://"
            )
        token = token if token is not None else os.environ.get("SPRITE_TOKEN", "")
        if not token:
            raise errors.Unauthorized("no token was given")
        self.options = options
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": options.user_agent}
        self._ssl = ssl.create_default_context(cafile=options.ca_file) if self.base_url.startswith("https") else None
        self._http = httpx.AsyncClient(
            headers=self._headers,
            verify=self._ssl or False,
            timeout=httpx.Timeout(options.request_timeout, connect=options.connect_timeout),
            limits=httpx.Limits(
                max_connections=64, max_keepalive_connections=16, keepalive_expiry=options.idle_timeout
            ),
            trust_env=options.proxy is None,
            proxy=options.proxy if isinstance(options.proxy, str) else None,
        )

    async def close(self) -> None:
        await self._http.aclose()

    def _url(self, path: str, query: Query = ()) -> str:
        text = urlencode(list(query))
        return self.base_url + path + ("?" + text if text else "")

    @asynccontextmanager
    async def open(
        self, method: str, path: str, query: Query = (), *,
        json_body: Any = None, content: Content | None = None, headers: Mapping[str, str] | None = None,
        timeout: float | None = None, stream: bool = False,
    ) -> AsyncIterator[httpx.Response]:  # fmt: skip
        """A successful answer whose body is still to be read."""
        sent = dict(headers or {})
        if json_body is not None:
            content = json.dumps(json_body).encode()
            sent["Content-Type"] = "application/json"
        limits = httpx.Timeout(
            None if stream else timeout or self.options.request_timeout, connect=self.options.connect_timeout
        )
        if isinstance(content, Iterable) and not isinstance(content, (bytes, AsyncIterable)):
            content = _threaded(content)
        request = self._http.build_request(
            method, self._url(path, query), content=content, headers=sent, timeout=limits
        )
        with told(method, path):
            response = await self._http.send(request, stream=True)
        try:
            if response.status_code >= 400 or response.status_code < 200:
                with told(method, path):
                    body = await response.aread()
                raise errors.from_response(response.status_code, response.headers, body)
            with told(method, path):
                yield response
        finally:
            await response.aclose()

    async def request(self, method: str, path: str, query: Query = (), **how: Any) -> bytes:
        """The body of a successful answer. A read whose connection was lost is tried again for some seconds."""
        waits, was_lost = iter(READ_WAITS), False
        while True:
            try:
                async with self.open(method, path, query, **how) as response:
                    return await response.aread()
            except (errors.ConnectionLost, errors.CannotConnect, errors.Unavailable) as error:
                # A server that was never there is told at once.
                was_lost = was_lost or isinstance(error, errors.ConnectionLost)
                wait = next(waits, None)
                if method != "GET" or not was_lost or wait is None:
                    raise
            await asyncio.sleep(wait)

    async def json(self, method: str, path: str, query: Query = (), **how: Any) -> Any:
        body = await self.request(method, path, query, **how)
        try:
            return json.loads(body) if body else None
        except ValueError:
            raise errors.InvalidResponse(f"the answer of {method} {path} is not JSON") from None

    async def lines(self, method: str, path: str, query: Query = (), **how: Any) -> AsyncIterator[dict[str, Any]]:
        """The objects of an NDJSON stream; a line of type `error` is raised."""
        async with self.open(method, path, query, stream=True, **how) as response:
            async for line in response.aiter_lines():
                if not line.strip():
                    continue
                try:
                    event = json.loads(line)
                except ValueError:
                    raise errors.InvalidResponse(f"a line of {method} {path} is not JSON") from None
                yield event

    async def dial(self, path: str, query: Query = ()) -> ClientConnection:
        """An open WebSocket."""
        try:
            return await connect(
                "ws" + self._url(path, query)[4:],
                additional_headers={"Authorization": self._headers["Authorization"]},
                user_agent_header=self.options.user_agent,
                compression=None,
                open_timeout=self.options.request_timeout,
                ping_interval=15,
                ping_timeout=45,
                close_timeout=2,
                max_size=64 << 20,
                max_queue=64,
                ssl=self._ssl,
                proxy=self.options.proxy
                if isinstance(self.options.proxy, str)
                else self.options.proxy is None or None,
            )
        except InvalidStatus as refused:
            response = refused.response
            raise errors.from_response(response.status_code, response.headers, bytes(response.body or b"")) from None
        except TimeoutError:
            raise errors.Timeout(f"cannot connect to {self.base_url}: it did not answer in time") from None
        except (OSError, InvalidHandshake, InvalidURI, InvalidProxy, ProxyError, EOFError) as failure:
            raise errors.CannotConnect(f"cannot connect to {self.base_url}: {_why(failure)}") from failure


async def _threaded(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Chunks of an iterable that may block, such as an open file."""
    iterator = iter(chunks)
    loop = asyncio.get_running_loop()
    while True:
        chunk = await loop.run_in_executor(None, next, iterator, None)
        if chunk is None:
            return
        yield chunk


def _why(failure: BaseException) -> str:
    return str(failure) or type(failure).__name__


class told:
    """Turns failures of the HTTP library into ours."""

    def __init__(self, method: str, path: str) -> None:
        self.what = f"{method} {path}"
        #: A read has changed nothing, whatever became of it.
        self.may_be_running = method != "GET"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, failure: BaseException | None, trace: Any) -> None:
        if isinstance(failure, (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol)):
            raise errors.CannotConnect(f"cannot connect for {self.what}: {_why(failure)}") from failure
        if isinstance(failure, (httpx.ConnectTimeout, httpx.PoolTimeout)):
            raise errors.CannotConnect(f"cannot connect for {self.what}: it took too long") from failure
        if isinstance(failure, httpx.TimeoutException):
            raise errors.Timeout(f"{self.what} took too long; it may go on at the server") from failure
        if isinstance(failure, httpx.HTTPError):
            lost = errors.ConnectionLost(f"the connection ended during {self.what}: {_why(failure)}")
            lost.may_be_running = self.may_be_running
            raise lost from failure
