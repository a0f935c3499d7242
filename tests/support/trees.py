# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What a comparison of two states has to find, by walking both of them inside a sprite."""

import ast
import base64
import json
from typing import Any

from support.api import Api, Json
from support.exec import run

#: Where the tests change things; a walk over all of a root would take seconds. Python itself changes nothing elsewhere (-B).
ROOTS = ["etc", "home", "opt", "srv", "usr/share", "var/cache"]

WALK = r"""
import hashlib, os, stat, sys
top, roots = os.fsencode(sys.argv[1]), sys.argv[2].split(",")
seen = {}
def kind(mode):
    return {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
            stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(mode), "other")
def note(path):
    facts = os.lstat(path)
    what = kind(facts.st_mode)
    content = ""
    if what == "file":
        with open(path, "rb") as file:
            content = hashlib.md5(file.read()).hexdigest()
    if what == "symlink":
        content = os.readlink(path).hex()
    attributes = "" if what not in ("file", "directory") else sorted(
        (name, os.getxattr(path, name).hex()) for name in os.listxattr(path) if name.startswith("user."))
    inside = path[len(top):] or b"/"
    seen[inside.hex()] = [what, facts.st_mode & 0o7777 if what != "symlink" else 0, facts.st_uid, facts.st_gid, content, attributes]
def walk(path):
    note(path)
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for name in os.listdir(path):
            walk(path + b"/" + name)
sys.setrecursionlimit(10000)
for root in roots:
    if os.path.lexists(top + b"/" + os.fsencode(root)):
        walk(top + b"/" + os.fsencode(root))
print(repr(seen))
"""

MUTATE = r"""
import os, random, sys
def rm(path):
    for folder, dirs, names in os.walk(path, topdown=False):
        for n in names: os.unlink(os.path.join(folder, n))
        for d in dirs:
            d = os.path.join(folder, d)
            os.unlink(d) if os.path.islink(d) else os.rmdir(d)
    os.rmdir(path)
chance = random.Random(int(sys.argv[1]))
roots = [b"/etc", b"/home/sprite", b"/opt", b"/srv", b"/usr/share/doc", b"/usr/share/perl", b"/usr/share/misc", b"/var/cache"]
#: What the sprite needs to run commands.
KEPT = {b"/etc/passwd", b"/etc/group", b"/etc/nsswitch.conf", b"/etc/ld.so.cache", b"/etc/alternatives", b"/etc/hosts", b"/home/sprite"}
def everything(files=True, directories=True):
    found = []
    for root in roots:
        for folder, dirs, names in os.walk(root):
            if directories: found += [os.path.join(folder, d) for d in dirs]
            if files: found += [os.path.join(folder, n) for n in names]
    return [path for path in found if path not in KEPT]
def parent():
    return chance.choice([d for d in everything(files=False) if not os.path.islink(d)] + roots)
def fresh():
    name = chance.choice([b"n%d", b"with space %d", b"\xff\xfe%d", b"new\nline%d", "\u00e9%d".encode(), b".h%d"]) % chance.randrange(10**6)
    return parent() + b"/" + name
def regular():
    return chance.choice([p for p in everything(directories=False) if os.path.isfile(p) and not os.path.islink(p)])
def folder():
    return chance.choice([p for p in everything(files=False) if not os.path.islink(p)])
def write(path, data, mode="wb"):
    with open(path, mode) as file: file.write(data)
def create(): write(fresh(), chance.randbytes(chance.choice([0, 10, 5000])))
def append(): write(regular(), b"more", "ab")
def rewrite():
    path = regular(); data = open(path, "rb").read(); write(path, data)
def replace():
    path = regular(); write(path + b".tmp", open(path, "rb").read() if chance.random() < .5 else b"x"); os.rename(path + b".tmp", path)
def patch():
    path = regular()
    with open(path, "r+b") as file: file.seek(chance.randrange(max(1, os.path.getsize(path)))); file.write(b"P")
def unlink(): os.unlink(chance.choice(everything(directories=False)))
def rmtree(): rm(folder())
def mkdir(): os.mkdir(fresh())
def opaque():
    path = folder(); names = os.listdir(path); rm(path); os.mkdir(path); write(path + b"/only", b"1")
    if names and chance.random() < .5: write(path + b"/" + names[0], b"again")
def rename():
    path = chance.choice(everything()); target = fresh()
    if not target.startswith(path + b"/"): os.rename(path, target)
def swap():
    a, b = folder(), folder()
    if not (a + b"/").startswith(b + b"/") and not (b + b"/").startswith(a + b"/"):
        os.rename(a, a + b".s"); os.rename(b, a); os.rename(a + b".s", b)
def renamed_and_changed():
    path = folder(); target = fresh()
    if not target.startswith(path + b"/"):
        os.rename(path, target); write(target + b"/inside", b"new")
def chmod(): os.chmod(chance.choice([regular(), folder()]), chance.choice([0o600, 0o644, 0o755, 0o4755, 0o700]))
def chown(): os.lchown(chance.choice(everything()), chance.randrange(2000), chance.randrange(2000))
def symlink(): os.symlink(chance.choice([b"/etc/passwd", b"nowhere", b"../.."]), fresh())
def relink():
    path = fresh(); os.symlink(b"one", path); os.unlink(path); os.symlink(b"two", path)
def hardlink(): os.link(regular(), fresh())
def through_link():
    path = regular(); other = fresh(); os.link(path, other); write(other, b"linked", "ab")
def attribute(): os.setxattr(regular(), b"user.x%d" % chance.randrange(3), chance.randbytes(4))
def touch(): os.utime(regular())
def file_to_folder():
    path = regular(); os.unlink(path); os.mkdir(path); write(path + b"/f", b"f")
def folder_to_file():
    path = folder(); rm(path); write(path, b"was a folder")
def fifo(): os.mkfifo(fresh())
operations = [create, create, append, append, rewrite, replace, patch, unlink, rmtree, mkdir, opaque, rename, rename, swap, renamed_and_changed,
              chmod, chown, symlink, relink, hardlink, through_link, attribute, touch, file_to_folder, folder_to_file, fifo]
for _ in range(int(sys.argv[2])):
    operation = chance.choice(operations)
    try: operation()
    except (OSError, IndexError) as error: print(operation.__name__, error, file=sys.stderr)
"""

Tree = dict[bytes, list[Any]]


def walk(api: Api, sprite: str, top: str = "", roots: list[str] = ROOTS) -> Tree:
    """Everything below some roots of a state that is shown inside, such as `/.sprite/checkpoints/v1`."""
    done = run(api, sprite, "python3", "-B", "-c", WALK, top, ",".join(roots), user="0", timeout=60)
    assert done.code == 0, done.stderr[-2000:]
    return {bytes.fromhex(path): facts for path, facts in ast.literal_eval(done.text).items()}


def mutate(api: Api, sprite: str, seed: int, count: int) -> None:
    done = run(api, sprite, "python3", "-B", "-c", MUTATE, str(seed), str(count), user="0", timeout=60)
    assert done.code == 0, done.stderr[-2000:]


def diff(api: Api, sprite: str, first: str, second: str | None = None, **query: str) -> tuple[list[Json], Json]:
    """The differences, and the last line."""
    parameters = {"from": first} | ({"to": second} if second else {}) | query
    answer = api.call("GET", f"/v1/sprites/{sprite}/diff", params=parameters)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["type"] == "complete", lines[-1]
    assert all(line["type"] == "change" for line in lines[:-1])
    return lines[:-1], lines[-1]


def path_of(change: Json, key: str = "path") -> bytes:
    encoded = change.get(f"{key}_base64")
    return base64.b64decode(encoded) if encoded else change[key].encode()


def expected(old: Tree, new: Tree) -> dict[bytes, tuple[str, tuple[str, ...]]]:
    """What differs, without telling what was renamed."""
    result: dict[bytes, tuple[str, tuple[str, ...]]] = {}
    for path in old.keys() | new.keys():
        before, after = old.get(path), new.get(path)
        if before is None:
            result[path] = ("added", ())
        elif after is None:
            result[path] = ("removed", ())
        elif before[0] != after[0]:
            result[path] = ("changed", ("type",))
        else:
            fields = []
            if before[4] != after[4]:
                fields.append("target" if before[0] == "symlink" else "content")
            if before[1] != after[1]:
                fields.append("mode")
            if before[2:4] != after[2:4]:
                fields.append("owner")
            if before[5] != after[5]:
                fields.append("attributes")
            if fields:
                result[path] = ("changed", tuple(sorted(fields)))
    return result


def told(changes: list[Json]) -> dict[bytes, tuple[str, tuple[str, ...]]]:
    result = {path_of(one): (one["change"], tuple(sorted(one.get("fields", ())))) for one in changes}
    assert len(result) == len(changes), "a path is told twice"
    return result


def applied(old: Tree, changes: list[Json]) -> set[bytes]:
    """The paths after all changes were made to those of the older state."""
    moves = {path_of(one, "from_path"): path_of(one) for one in changes if one["change"] == "renamed"}
    removed = {path_of(one) for one in changes if one["change"] == "removed"}
    paths = set()
    for path in old:
        if path in removed:
            continue
        # The nearest directory above that was renamed decides, unless the entry is told by itself.
        source = path
        while source and source not in moves:
            source = source.rpartition(b"/")[0]
        paths.add(moves[source] + path[len(source) :] if source else path)
    return paths | {path_of(one) for one in changes if one["change"] == "added"}
