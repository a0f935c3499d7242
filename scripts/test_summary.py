#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Adds up what the tiers of test.sh left in a folder, and closes with one line: N passed, N failed.

Usage: scripts/test_summary.py FOLDER

Reads *.tsv (tier, name, passed or failed, reason) and *.xml (JUnit form, from swift test and pytest). A skipped test
counts as failed: what cannot run here must not look as if it had. Skips for a reason in ALLOWED_SKIPS are printed and
count as neither. A test that failed and passed when it was tried again is printed: each is a fault of the test or of
the system that is still to be found. More than MOST_RERUNS of them are no accident, and fail the run.
"""

import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

#: Reasons that lie outside of the machine, by what the test says first.
ALLOWED_SKIPS = ("network: ",)

#: How many tests may need a second try in one run.
MOST_RERUNS = 8


def from_reruns(path: Path) -> list[tuple[str, str, str]]:
    """One row of its own if there were too many."""
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        name, reason = (line.split("\t") + [""])[:2]
        print(f"tried again: {name}: {reason}")
    if len(lines) > MOST_RERUNS:
        return [("tests tried again", "failed", f"{len(lines)}, and {MOST_RERUNS} may be")]
    return []


def from_tsv(path: Path) -> list[tuple[str, str, str]]:
    rows = []
    for line in path.read_text().splitlines():
        tier, name, outcome, reason = (line.split("\t") + [""] * 4)[:4]
        rows.append((f"{tier}: {name}", outcome, reason))
    return rows


def from_junit(path: Path) -> list[tuple[str, str, str]]:
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except ElementTree.ParseError as error:
        return [(path.stem, "failed", f"its results cannot be read: {error}")]
    # pytest reports an error in a fixture's end as a second entry of the same test: each test counts once.
    outcomes: dict[str, tuple[str, str]] = {}
    for case in cases:
        name = f"{path.stem}: {case.get('classname', '')} {case.get('name', '')}"
        outcome, reason = "passed", ""
        for child in case:
            if child.tag in {"failure", "error", "skipped"}:
                text = (child.get("message") or child.text or "").strip().splitlines()
                outcome, reason = "failed", f"{child.tag}: {text[0] if text else ''}"
                if child.tag == "skipped" and text and text[0].startswith(ALLOWED_SKIPS):
                    outcome = "skipped"
        if outcomes.get(name, ("passed", ""))[0] == "passed":
            outcomes[name] = (outcome, reason)
    return [(name, outcome, reason) for name, (outcome, reason) in outcomes.items()]


def main() -> int:
    folder = Path(sys.argv[1])
    rows = [row for path in sorted(folder.glob("*.tsv")) for row in from_tsv(path)]
    rows += [row for path in sorted(folder.glob("*.xml")) for row in from_junit(path)]
    rows += from_reruns(folder / "reruns")
    count = Counter(outcome for _, outcome, _ in rows)
    for name, outcome, reason in rows:
        if outcome != "passed":
            print(f"{outcome}: {name}{': ' if reason else ''}{reason[:300]}")
    failed = len(rows) - count["passed"] - count["skipped"]
    print(f"{count['passed']} passed, {failed} failed", flush=True)
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
