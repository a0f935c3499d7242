# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""`sprited doctor` on a host where sprites demonstrably run."""

import os
import subprocess


def test_doctor_finds_nothing_missing_where_sprites_run():
    done = subprocess.run([os.environ["SPRITED_BINARY"], "doctor"], capture_output=True, text=True, timeout=60)
    assert "MISSING" not in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("ok", "warning"))]
    assert {"kernel", "btrfs", "overlay", "cgroups", "crun", "nftables", "openssl"} <= set(found), done.stdout

