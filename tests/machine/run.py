# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Starts the virtual machine again and again, reads what inside.py says, and cuts the power; see machine-test.sh.

What is cut is the machine: everything that it had not handed to its disk is lost. That a disk loses what it holds in
a cache of its own is not shown."""

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

#: For one start with everything that is done in it; an emulated machine is slow.
TIMEOUT = 1500


def accelerated() -> bool:
    """Whether hardware virtualisation works: the device can be there and yet be of no use."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    return any(flag in Path("/proc/cpuinfo").read_text() for flag in (" vmx", " svm"))


class Machine:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.results: list[str] = []
        self.acknowledged: list[str] = []

    def start(self, phases: str) -> tuple[subprocess.Popen, Path]:
        port = self.directory / "port.log"
        port.write_text("")
        text = "".join(line + "\n" for line in self.acknowledged).encode()
        acks = self.directory / "acks.img"
        acks.write_bytes(text.ljust((len(text) // 4096 + 1) * 4096, b"\0"))
        emulated = ["-accel", "tcg,thread=multi", "-cpu", "max"]
        command = [
            "qemu-system-x86_64",
            *(["-accel", "kvm", "-cpu", "host"] if accelerated() else emulated),
            *["-smp", "2", "-m", "3072", "-display", "none", "-no-reboot", "-nic", "none"],
            *["-kernel", str(self.directory / "kernel"), "-initrd", str(self.directory / "initrd")],
            *["-append", f"root=/dev/vda rw console=ttyS0 panic=-1 machine.phases={phases}"],
            *["-drive", f"file={self.directory}/disk.img,if=virtio,format=raw,cache=writeback"],
            *["-drive", f"file={acks},if=virtio,format=raw,readonly=on"],
            *["-serial", f"file:{self.directory}/console.log", "-serial", f"file:{port}"],
        ]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL), port

    def run(self, phases: str, cut_after: float | None = None) -> None:
        print(f"==> {phases}", file=sys.stderr, flush=True)
        process, port = self.start(phases)
        begin, seen, cut_at = time.monotonic(), 0, None
        try:
            while process.poll() is None:
                time.sleep(0.05)
                seen, loading = self.read(port, seen)
                if loading and cut_after is not None and cut_at is None:
                    cut_at = time.monotonic() + cut_after
                if cut_at is not None and time.monotonic() > cut_at:
                    break
                if time.monotonic() - begin > TIMEOUT:
                    self.note(f"not ok {phases}: not done after {TIMEOUT} s")
                    break
        finally:
            process.kill()
            process.wait()
        self.read(port, seen)

    def read(self, port: Path, seen: int) -> tuple[int, bool]:
        loading = False
        data = port.read_bytes()[seen:]
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.decode(errors="replace").splitlines():
            line = line.strip("\r")
            if line.startswith("ACK "):
                self.acknowledged.append(line)
            elif line == "LOAD":
                loading = True
            elif line.startswith(("ok ", "not ok ")):
                self.note(line)
        return seen + len(whole), loading

    def note(self, line: str) -> None:
        self.results.append(line)
        print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--cuts", type=int, default=5)
    options = parser.parse_args()
    seed = int(os.environ.get("SPRITE_SEED", random.getrandbits(32)))
    random.seed(seed)
    print(f"seed {seed}", file=sys.stderr)
    machine = Machine(options.directory)
    machine.run("install")
    machine.run("rebooted,load", cut_after=random.uniform(15, 30))
    for number in range(options.cuts):
        last = number == options.cuts - 1
        machine.run("cut,end" if last else "cut,load", cut_after=None if last else random.uniform(5, 25))
    print(f"{len(machine.acknowledged)} acknowledged checkpoints", file=sys.stderr)
    failed = [line for line in machine.results if line.startswith("not ok")]
    expected = 8 + 3 + 3 * options.cuts + 1
    if len(machine.results) != expected:
        failed.append(f"{len(machine.results)} of {expected} tests ended")
        print(f"not ok: {failed[-1]}; see {options.directory}/console.log", file=sys.stderr)
    print(f"{len(machine.results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
