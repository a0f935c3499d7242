# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The commands of the guide for agents, found by one rule for each place where it writes them."""

import re

TEXTS = ["llm.txt", "llm-checkpoints.txt", "llm-services.txt", "llm-languages.txt", "llm-mcp.txt"]
_FENCED = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script(text: str) -> str:
    """Every block fenced as sh, one after another."""
    return "\n".join(_FENCED.findall(text))


def mentions(text: str) -> set[str]:
    """What else may be a command: each line that is indented like code, and each code span.

    `[--then COMMAND]` stands for two commands, one with it and one without.
    """
    rest = _FENCED.sub("", text)
    # After the command, two spaces apart, comes what it does.
    found = [re.split(r" {2,}", line.strip())[0] for line in re.findall(r"^ {4}.*$", rest, re.MULTILINE)]
    prose = re.sub(r"^ {4}.*$", "", rest, flags=re.MULTILINE)
    found += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    result = set()
    for one in found:
        whole = re.sub(r"\[(-[^]]+)\]", r"\1", one)
        result |= {whole, re.sub(r" \[-[^]]+\]", "", one)}
    return result


#: Of llm-languages.txt, with packages made on the spot: what each does where the language is there.
INSTALLERS = {
    "python3 -m venv .venv": "python3 -m venv .venv && .venv/bin/python -c 'import sys; assert sys.prefix != sys.base_prefix'",
    "pip install": """
        mkdir p
        printf '[project]\\nname = "greet"\\nversion = "1"\\n[tool.setuptools]\\npy-modules = []\\n' >p/pyproject.toml
        python3 -m venv --system-site-packages .venv
        .venv/bin/pip install -q --no-index --no-build-isolation ./p && .venv/bin/pip show greet
    """,
    "npm install": """
        mkdir n; printf '{"name":"greet","version":"1.0.0"}' >n/package.json
        npm install --offline ./n && test -e node_modules/greet/package.json
    """,
    "gem install --user-install": """
        mkdir g; cd g
        echo 'Gem::Specification.new { |s| s.name, s.version, s.summary, s.authors = "greet", "1", "x", ["x"] }' >greet.gemspec
        gem build -q greet.gemspec
        gem install --user-install --local --no-document greet-1.gem && gem list greet | grep -q greet
    """,
    "cargo add": """
        cargo new -q --vcs none --lib dep; cargo new -q --vcs none app; cd app
        cargo add --offline --path ../dep && grep -q dep Cargo.toml && cargo build -q --offline
    """,
    "go get": """
        mkdir -p app proxy/example.org/dep/@v
        python3 - <<'END'
import zipfile
place = "proxy/example.org/dep/@v/"
open(place + "list", "w").write("v1.0.0\\n")
open(place + "v1.0.0.info", "w").write('{"Version": "v1.0.0"}')
open(place + "v1.0.0.mod", "w").write("module example.org/dep\\n")
with zipfile.ZipFile(place + "v1.0.0.zip", "w") as archive:
    archive.writestr("example.org/dep@v1.0.0/go.mod", "module example.org/dep\\n")
    archive.writestr("example.org/dep@v1.0.0/dep.go", "package dep\\n")
END
        export GOPROXY=file://$PWD/proxy GONOSUMDB=example.org
        cd app; go mod init example.org/app
        go get example.org/dep && grep -q 'example.org/dep v1.0.0' go.mod && ls ~/go/pkg/mod/example.org
    """,
}
