# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Files through the official SDK, sync and async."""

import asyncio

import pytest
from sprites import AsyncSpritesClient, Sprite
from sprites.exceptions import (
    DirectoryNotEmptyError,
    FileNotFoundError_,
    FilesystemError,
    IsADirectoryError_,
    PermissionError_,
)


def test_files_are_written_and_read(box: Sprite) -> None:
    files = box.filesystem("/home/sprite")
    file = files / "deep" / "file.txt"
    file.write_text("hällo\n")
    assert file.read_text() == "hällo\n"
    data = bytes(range(256)) * 65536
    (files / "large").write_bytes(data)
    assert (files / "large").read_bytes() == data
    assert box.run("stat", "-c", "%U %a", "deep/file.txt", capture_output=True).stdout == b"sprite 644\n"
    box.run("sh", "-c", "echo changed >> deep/file.txt", check=True)
    assert file.read_text() == "hällo\nchanged\n"


def test_stat_and_the_questions(box: Sprite) -> None:
    files = box.filesystem("/home/sprite")
    file = files / "file"
    assert not file.exists() and not file.is_file() and not file.is_dir()
    file.write_bytes(b"12345", mode=0o600)
    facts = file.stat()
    assert (facts.name, facts.path) == ("file", "/home/sprite/file")
    assert (facts.size, facts.mode, facts.is_dir) == (5, "0600", False)
    assert file.exists() and file.is_file() and not file.is_dir()


def test_directories(box: Sprite) -> None:
    files = box.filesystem("/home/sprite")
    (files / "a").mkdir()
    assert files.path("a").listdir() == []
    (files / "b" / "c").mkdir(parents=True)
    with pytest.raises(FileNotFoundError_):
        (files / "no" / "such").mkdir()
    (files / "b" / "f").write_text("x")
    assert sorted(path.name for path in (files / "b").iterdir()) == ["c", "f"]
    with pytest.raises(DirectoryNotEmptyError):
        (files / "b").rmdir()
    (files / "a").rmdir()
    (files / "b").rmtree()
    assert box.run("ls", capture_output=True).stdout == b""


def test_rename_copy_chmod_touch_unlink(box: Sprite) -> None:
    files = box.filesystem("/home/sprite")
    file = files / "file"
    file.touch()
    file.write_text("one")
    moved = file.rename("moved")
    assert moved.read_text() == "one" and not file.exists()
    copied = moved.copy_to("copied")
    assert copied.read_text() == "one"
    copied.chmod(0o755)
    copied.write_text("two")
    assert copied.stat().mode == "0755"
    copied.replace(moved)
    assert moved.read_text() == "two"
    moved.touch()
    moved.unlink()
    moved.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError_):
        moved.unlink()


def test_errors_have_their_types(box: Sprite) -> None:
    files = box.filesystem()
    with pytest.raises(FileNotFoundError_):
        (files / "no" / "such").read_bytes()
    with pytest.raises(IsADirectoryError_):
        (files / "etc").read_bytes()
    with pytest.raises(PermissionError_):
        (files / "etc" / "new").write_text("x")
    with pytest.raises(FilesystemError):
        (files / "dev" / "null").read_bytes()


def test_the_asynchronous_client(server: tuple[str, str], box: Sprite) -> None:
    async def scenario() -> None:
        async with AsyncSpritesClient(server[1], base_url=server[0]) as client:
            files = client.sprite(box.name).filesystem("/home/sprite")
            await asyncio.gather(*((files / f"file-{number}").write_text(str(number)) for number in range(20)))
            texts = await asyncio.gather(*((files / f"file-{number}").read_text() for number in range(20)))
            assert texts == [str(number) for number in range(20)]
            await (files / "d").mkdir()
            assert not await (files / "no").exists()

    asyncio.run(scenario())
