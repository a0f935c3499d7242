# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The filesystem section of the API."""

from typing import Any

import httpx

from support.api import Api

HOME = "/home/sprite"


def new_client(api: Api) -> httpx.Client:
    return httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {api.token}"}, trust_env=False, timeout=60)


class Files:
    """The file operations of one sprite."""

    def __init__(self, api: Api, sprite: str) -> None:
        self.api = api
        self.url = f"/v1/sprites/{sprite}/fs"

    def get(
        self, operation: str, expect: int = 200, headers: dict[str, str] | None = None, **query: Any
    ) -> httpx.Response:
        return self.api.call("GET", f"{self.url}/{operation}", expect, params=query, headers=headers)

    def read(self, path: str, **query: Any) -> bytes:
        return self.get("read", path=path, **query).content

    def entries(self, path: str, **query: Any) -> list[dict[str, Any]]:
        body = self.get("list", path=path, **query).json()
        assert body["count"] == len(body["entries"])
        entries: list[dict[str, Any]] = body["entries"]
        return entries

    def names(self, path: str, **query: Any) -> list[str]:
        return [entry["name"] for entry in self.entries(path, **query)]

    def write(self, path: str, content: Any = b"x", **query: Any) -> dict[str, Any]:
        answer = self.api.call("PUT", f"{self.url}/write", params={"path": path, **query}, content=content)
        body: dict[str, Any] = answer.json()
        return body

    def delete(self, path: str, **query: Any) -> dict[str, Any]:
        body: dict[str, Any] = self.api.call("DELETE", f"{self.url}/delete", params={"path": path, **query}).json()
        return body

    def post(self, operation: str, **body: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.call("POST", f"{self.url}/{operation}", json=body).json()
        return answer

    def fails(
        self, code: str, status: int, method: str, operation: str, body: Any = None, content: Any = None, **query: Any
    ) -> str:
        """An operation that must fail with this error; its sentence."""
        options: dict[str, Any] = {"json": body} if body is not None else {"content": content}
        answer = self.api.call(method, f"{self.url}/{operation}", status, params=query, **options).json()
        assert answer["code"] == code and isinstance(answer["error"], str) and isinstance(answer["path"], str), answer
        return str(answer["error"])
