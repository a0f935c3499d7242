#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The repository checks itself: what a formatter cannot see.

Usage: scripts/tidy.py [--docs] [--results FILE]

Each check prints its problems with the remedy. With --docs only the checks of the documentation run. With --results
one line a check is appended to FILE: tier, name, passed or failed, first problem (separated by tabs).
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Problems = Iterator[str]

#: Which targets of ours a target may import; docs/architecture.md shows the picture. Targets that are missing here
#: may import nothing of ours.
BELOW_DAEMON = {
    "SpriteServer", "SpriteLifecycle", "SpriteRegistry", "SpriteStorage", "SpriteImage", "SpriteSandbox",
    "SpriteNetwork", "SpriteRuntimes", "SpriteSessions", "SpriteServices",
    "SpriteJournal",
}  # fmt: skip
SYSTEM = {"SpriteDomain", "SpriteSystem", "CLinux"}
IMPORTS: dict[str, set[str]] = {
    "sprited": {"SpriteDaemon"},
    "sprite": {"SpriteCLI"},
    "sprite-env": {"SpriteInit", "SpriteEnvKit"},
    "sprite-bench": {"SpriteBench"},
    "sprites-conformance": {"Sprites", "SpriteAPI"},
    # The journal itself: ten million records cannot be made through the API.
    "SpriteBench": {"Sprites", "SpriteAPI", "SpriteSystem", "CLinux", "CBtrfs", "SpriteDomain", "SpriteJournal"},
    # The daemon's own commands are clients of the daemon that runs.
    "SpriteDaemon": BELOW_DAEMON | SYSTEM | {"Sprites"},
    "SpriteServer": {"SpriteAPI", "SpriteDomain", "SpriteMCP", "SpriteProxy"},
    "SpriteMCP": {"SpriteAPI", "SpriteDomain"},
    "SpriteProxy": SYSTEM,
    "SpriteLifecycle": {"SpriteDomain"},
    "SpriteServices": {"SpriteDomain"},
    "SpriteRegistry": {"SpriteDomain", "SpriteSystem"},
    "SpriteJournal": SYSTEM,
    "SpriteStorage": SYSTEM | {"CBtrfs"},
    "SpriteImage": SYSTEM,
    "SpriteRuntimes": SYSTEM,
    "SpriteSandbox": SYSTEM,
    "SpriteNetwork": SYSTEM,
    "SpriteSessions": SYSTEM | {"SpriteAgentWire"},
    "SpriteInit": {"SpriteAgentWire", "SpriteSystem", "CLinux"},
    "SpriteEnvKit": {"SpriteSystem", "CLinux"},
    "SpriteCLI": {"Sprites", "SpriteAPI", "CLinux"},
    "Sprites": {"SpriteAPI"},
    "SpriteSystem": {"CLinux"},
    # Whoever traces a request hears of calls to the kernel.
    "SpriteDomain": {"SpriteSystem"},
}
#: Each technology has owners; everybody else goes through them.
OWNERS: dict[str, set[str]] = {
    "GRDB": {"SpriteRegistry", "SpriteRuntimes"},
    "GRDBSQLite": {"SpriteJournal"},
    "Hummingbird": {"SpriteServer", "SpriteDaemon"},
    "HummingbirdCore": {"SpriteServer"},
    "NIOWebSocket": {"SpriteServer", "Sprites"},
    "AsyncHTTPClient": {"Sprites", "SpriteJournal"},
    "ArgumentParser": {"SpriteCLI", "SpriteDaemon", "SpriteBench"},
}
#: What runs inside a sprite is small and static: no Foundation of any kind.
WITHOUT_FOUNDATION = {
    "SpriteInit", "SpriteEnvKit", "SpriteAgentWire", "SpriteSystem", "SpriteDomain", "sprite-env",
}  # fmt: skip
#: Programs and their command parts may print; libraries log or return.
MAY_PRINT = {"sprited", "sprite", "sprite-env", "sprite-bench", "SpriteCLI", "SpriteDaemon", "SpriteBench"}
LINE_LENGTH_MAX = 120
TEST_LINE_LENGTH_MAX = 190
FILE_LINES_MAX = 500


def files(*suffixes: str, under: str = "") -> list[Path]:
    """Files of the repository, also those not yet committed."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    paths = [ROOT / name for name in sorted(set(listed)) if name.startswith(under) and name.endswith(suffixes or "")]
    return [path for path in paths if path.is_file()]


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    yield from enumerate(path.read_text(errors="replace").splitlines(), 1)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def target_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[1]


def spdx_header() -> Problems:
    for path in files(".swift", ".c", ".h", ".py", ".sh", ".service"):
        head = path.read_text(errors="replace").splitlines()[:4]
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
            yield f"{name_of(path)}: begin with the SPDX line and 'Part of sprite-env.'"


def line_length() -> Problems:
    # The formatter looks after Swift.
    for path in files(".c", ".h", ".py", ".sh", ".service"):
        # Rows of test tables and scripts run inside a sprite read better whole.
        limit = TEST_LINE_LENGTH_MAX if path.suffix == ".py" and ROOT / "tests" in path.parents else LINE_LENGTH_MAX
        for number, line in numbered(path):
            if len(line) > limit:
                yield f"{name_of(path)}:{number}: {len(line)} characters, the limit is {limit}"


def file_length() -> Problems:
    for path in files(".swift", ".c", ".py"):
        count = len(path.read_text(errors="replace").splitlines())
        if count > FILE_LINES_MAX:
            yield f"{name_of(path)}: {count} lines, the limit is {FILE_LINES_MAX}; what is the second noun?"


def whitespace() -> Problems:
    for path in files(".swift", ".c", ".h", ".py", ".sh", ".md", ".yaml", ".service", "Makefile"):
        text = path.read_text(errors="replace")
        if text and not text.endswith("\n"):
            yield f"{name_of(path)}: end the last line with a newline"
        for number, line in numbered(path):
            if line != line.rstrip():
                yield f"{name_of(path)}:{number}: white space at the end of the line"


def unfinished_markers() -> Problems:
    marker = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
    for path in files(".swift", ".c", ".h", ".py", ".sh"):
        for number, line in numbered(path):
            if marker.search(line):
                yield f"{name_of(path)}:{number}: do it now, or say what is missing in docs/ and take the marker out"


def banned_calls() -> Problems:
    banned = [
        ("try!", re.compile(r"\btry!"), "throw, or handle the error"),
        ("as!", re.compile(r"\bas!"), "use 'as?' and handle nil"),
        ("Task.detached", re.compile(r"\bTask\.detached\b"), "use 'Task {' with a comment who awaits it"),
        ("Process()", re.compile(r"(?<![\w.])Process\(\)"), "use runTool or spawn of SpriteSystem"),
    ]
    for path in files(".swift", under="Sources/"):
        for number, line in numbered(path):
            code = line.split("//")[0]
            for call, pattern, remedy in banned:
                if pattern.search(code):
                    yield f"{name_of(path)}:{number}: {call} is banned; {remedy}"
            if target_of(path) not in MAY_PRINT and re.search(r"(?<![\w.])(?:debugP|p)rint\(", code):
                yield f"{name_of(path)}:{number}: libraries do not print; log, or return the text"


def dangerous_calls_are_explained() -> Problems:
    """What can end the daemon or get around the compiler says why it is right: in its message or a comment."""
    pattern = re.compile(r"\b(?:fatalError|preconditionFailure)\((?!\")|@unchecked Sendable|nonisolated\(unsafe\)")
    for path in files(".swift", under="Sources/"):
        lines = path.read_text(errors="replace").splitlines()
        for index, line in enumerate(lines):
            if pattern.search(line.split("//")[0]):
                around = lines[max(0, index - 4) : index + 1]
                if not any("//" in near for near in around):
                    yield f"{name_of(path)}:{index + 1}: say in a comment why this is right"


def imports() -> Problems:
    own = {path.name for path in (ROOT / "Sources").iterdir() if path.is_dir()}
    statement = re.compile(
        r"^\s*(?:@\w+\s+)*(?:(?:public|package|internal|private|fileprivate)\s+)?import\s+"
        r"(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)"
    )
    for path in files(".swift", under="Sources/"):
        target = target_of(path)
        for number, line in numbered(path):
            found = statement.match(line)
            if not found:
                continue
            module, place = found.group(1), f"{name_of(path)}:{number}"
            if module in own and module not in IMPORTS.get(target, set()):
                yield f"{place}: {target} may not import {module}; see 'Who imports whom' in docs/architecture.md"
            if module in OWNERS and target not in OWNERS[module]:
                yield f"{place}: {module} belongs to {', '.join(sorted(OWNERS[module]))}"
            if module == "Foundation" and target != "SpriteBench":
                yield f"{place}: import FoundationEssentials; Foundation adds 44 MB to a static program"
            if module.startswith("Foundation") and target in WITHOUT_FOUNDATION:
                yield f"{place}: {target} runs inside sprites and does without Foundation"


def paths_of_one_machine() -> Problems:
    pattern = re.compile("|".join(["/wo" + "rk/(?:main|shared)", "/tmp/br" + "ief", r"\.py" + "env"]))
    for path in files():
        if path.suffix in {".png", ".gz", ".zst"}:
            continue
        for number, line in numbered(path):
            if pattern.search(line):
                yield f"{name_of(path)}:{number}: names a path of one machine"


def scripts_are_executable() -> Problems:
    for path in files():
        first = path.open("rb").readline()
        if first.startswith(b"#!") and not path.stat().st_mode & 0o100:
            yield f"{name_of(path)}: begins with #! and is not executable; chmod +x"


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, made as the usual renderers do."""
    found: set[str] = set()
    fenced = False
    for _, line in numbered(path):
        if line.startswith("```"):
            fenced = not fenced
        elif line.startswith("#") and not fenced:
            heading = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(heading.replace(" ", "-"))
        found.update(re.findall(r'<a (?:id|name)="([^"]+)"', line))
    return found


def links_resolve() -> Problems:
    for path in files(".md"):
        fenced = False
        for number, line in numbered(path):
            if line.startswith("```"):
                fenced = not fenced
            if fenced:
                continue
            for link in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:", link):
                    continue
                file, _, anchor = link.partition("#")
                target = (path.parent / file).resolve() if file else path
                if not target.exists():
                    yield f"{name_of(path)}:{number}: {link} does not exist"
                elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                    yield f"{name_of(path)}:{number}: {link}: no such heading"


def named_tests_exist() -> Problems:
    """docs/guarantees.md names the test that holds each promise, as `tests/x.py::test_y` or `Target: sentence`."""
    page = ROOT / "docs/guarantees.md"
    swift = {path.parent.name: "" for path in files(".swift", under="Tests/")}
    for path in files(".swift", under="Tests/"):
        swift[path.parent.name] += path.read_text(errors="replace")
    for number, line in numbered(page):
        for file, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", line):
            if not (ROOT / file).exists():
                yield f"docs/guarantees.md:{number}: {file} does not exist"
            elif function and not re.search(rf"def {function}\b", (ROOT / file).read_text()):
                yield f"docs/guarantees.md:{number}: {file} has no {function}"
        for target, sentence in re.findall(r"`(\w+Tests): ([^`]+)`", line):
            if sentence not in swift.get(target, ""):
                yield f"docs/guarantees.md:{number}: {target} has no test '{sentence}'"


def openapi_matches_routes() -> Problems:
    """Every path of the description is served, and every path that is served is described."""
    page = ROOT / "docs/openapi.yaml"
    if not page.exists():
        yield "docs/openapi.yaml does not exist"
        return
    paths = re.findall(r"^  (/[^:\s]*):\s*$", page.read_text(), re.MULTILINE)
    described = {segment for path in paths for segment in path.split("/") if segment and not segment.startswith("{")}
    served: set[str] = set()
    announced: set[str] = set()
    for _, line in numbered(ROOT / "Sources/SpriteServer/Services/ServiceRoute.swift"):
        served.update(re.findall(r'"([a-z]+)"', line.split("//")[0]))
    # Their segments are the names of cases.
    enums = [("SpriteServer/Files/FileOperation.swift", "FileOperation"), ("SpriteDomain/Nouns.swift", "PolicyKind")]
    for name, kind in enums:
        text = (ROOT / "Sources" / name).read_text()
        body = text.partition(f"enum {kind}:")[2].partition("}")[0].partition("var ")[0]
        for names in re.findall(r"case ([a-z, ]+)", body):
            served.update(part.strip() for part in names.split(","))
    for _, line in numbered(ROOT / "Sources/SpriteServer/Route.swift"):
        # What is only announced ends in a 404 that says so; its sentence is no segment.
        code, _, sentence = line.split("//")[0].partition("what:")
        (announced if sentence.strip().startswith('"') else served).update(re.findall(r'"([\w-]+)"', code))
    for segment in sorted(described - served):
        yield f"docs/openapi.yaml describes '{segment}', which Sources/SpriteServer/Route.swift does not serve"
    for segment in sorted(served - described - announced - {"GET", "HEAD", "POST", "PUT", "DELETE"}):
        yield f"docs/openapi.yaml does not describe '{segment}', which Sources/SpriteServer/Route.swift serves"


def make_help_is_complete() -> Problems:
    lines = (ROOT / "Makefile").read_text().splitlines()
    targets = [match.group(1) for line in lines if (match := re.match(r"([a-z][\w-]*):(?!=)", line))]
    explained = {match.group(1) for line in lines if (match := re.match(r"([a-z][\w-]*):.*## \S", line))}
    for target in sorted(set(targets) - explained):
        yield f"Makefile: {target}: add '## what it does' so that 'make help' shows it"


CODE: list[Callable[[], Problems]] = [
    spdx_header, line_length, file_length, whitespace, unfinished_markers, banned_calls,
    dangerous_calls_are_explained, imports, paths_of_one_machine, scripts_are_executable,
]  # fmt: skip
DOCS: list[Callable[[], Problems]] = [links_resolve, named_tests_exist, openapi_matches_routes, make_help_is_complete]


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks the repository itself.")
    parser.add_argument("--docs", action="store_true", help="only the checks of the documentation")
    parser.add_argument("--results", type=Path, help="append one line a check to this file")
    arguments = parser.parse_args()
    failed = 0
    for check in DOCS if arguments.docs else CODE + DOCS:
        problems = list(check())
        failed += bool(problems)
        title = check.__name__.replace("_", " ")
        if problems:
            print(f"tidy: {title}: {len(problems)}", *problems, sep="\n    ")
        if arguments.results:
            outcome = "failed\t" + problems[0] if problems else "passed\t"
            with arguments.results.open("a") as results:
                results.write(f"tidy\t{title}\t{outcome}\n")
    if not failed:
        print("tidy: all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
