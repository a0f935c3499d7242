# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Runs in the virtual machine, as root, once after each start; run.py tells on the kernel's command line what to do.

Speaks to run.py through the second serial port, a line each: `ok NAME`, `not ok NAME: WHY`, `ACK SPRITE VERSION VALUE`
for a checkpoint that was acknowledged, and `DONE`."""

import concurrent.futures
import json
import os
import random
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

DATA = Path("/var/lib/sprited")
PORT = open("/dev/ttyS1", "w", buffering=1)
LOCK = threading.Lock()
QUICKSTART = ["/opt/sprite-env/quickstart.sh", "--programs", "/opt/programs", "--no-demo"]


def say(line: str) -> None:
    with LOCK:
        PORT.write(line.replace("\n", " | ") + "\n")


def run(*command: str, timeout: int = 300, check: bool = True) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        said = done.stdout[-300:] + done.stderr[-700:]
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done


def sprite(*arguments: str, **options) -> str:
    os.environ["SPRITE_TOKEN"] = (DATA / "token").read_text().strip()
    return run("sprite", *arguments, **options).stdout


def shell(name: str, script: str, **options) -> subprocess.CompletedProcess:
    os.environ["SPRITE_TOKEN"] = (DATA / "token").read_text().strip()
    return run("sprite", "exec", "-s", name, "--", "sh", "-c", script, **options)


def tried(function) -> None:
    name = function.__name__.replace("_", " ")
    try:
        function()
        say(f"ok {name}")
    except Exception as error:  # Whatever it is, the test has failed and the others go on.
        say(f"not ok {name}: {error} {traceback.format_exc()[-300:]}")


def wait_for_daemon() -> None:
    for _ in range(1200):
        if run("curl", "-fsS", "-m", "3", "http://127.0.0.1:7780/health", check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(run("journalctl", "-u", "sprited", "-n", "30", "--no-pager").stdout)


# ---------------------------------------------------------------------------------------------------- first start


def this_machine_has_control_groups_v2_only() -> None:
    assert run("stat", "-fc", "%T", "/sys/fs/cgroup").stdout.strip() == "cgroup2fs"
    assert "memory" in Path("/sys/fs/cgroup/cgroup.controllers").read_text()


def quickstart_installs_and_systemd_runs_it() -> None:
    run("/opt/programs/sprited", "base", "import", "--data-dir", str(DATA), "--name", "default", "/opt/base.tar")
    run(*QUICKSTART, timeout=900)
    assert run("systemctl", "is-active", "sprited").stdout.strip() == "active"


def quickstart_twice_is_harmless() -> None:
    process = run("systemctl", "show", "-p", "MainPID", "sprited").stdout
    run(*QUICKSTART, timeout=900)
    assert run("systemctl", "show", "-p", "MainPID", "sprited").stdout == process


def doctor_finds_nothing_missing() -> None:
    done = run("sprited", "doctor", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def limits_are_enforced_by_v2() -> None:
    sprite("create", "tight", "--skip-console", "--memory", "96M", "--cpus", "0.5", "--pids", "40")
    assert shell("tight", "python3 -c 'bytearray(300 << 20)'", check=False).returncode != 0
    assert shell("tight", "python3 -c 'bytearray(30 << 20)'").returncode == 0
    bomb = shell("tight", "for i in $(seq 80); do sleep 5 & done; wait", check=False)
    assert "fork" in bomb.stderr, bomb.stderr[-300:]
    groups = [folder for folder in Path("/sys/fs/cgroup").glob("sprited-*/*/") if (folder / "cpu.max").exists()]
    assert any((folder / "cpu.max").read_text().split()[0] != "max" for folder in groups), groups
    assert shell("tight", "echo alive").stdout == "alive\n"
    sprite("destroy", "tight", "--force")


def disaster_and_restore() -> None:
    sprite("create", "demo", "--skip-console")
    shell("demo", "echo works > state; sync")
    assert "v1" in sprite("checkpoint", "create", "-s", "demo", "--comment", "works")
    shell("demo", "sudo rm -rf /usr /etc /home", check=False)
    assert shell("demo", "ls", check=False).returncode != 0
    sprite("restore", "-s", "demo", "v1")
    assert shell("demo", "cat state").stdout == "works\n"
    sprite("fork", "demo", "demo2", "--from", "v1")
    assert shell("demo2", "cat state").stdout == "works\n"


def the_daemon_is_replaced_under_a_running_command() -> None:
    shell("demo", "setsid sh -c 'while sleep 0.2; do date >> ticks; done' </dev/null >/dev/null 2>&1 &")
    first = int(shell("demo", "pgrep -f 'while sleep' | head -1").stdout)
    run("systemctl", "restart", "sprited")
    wait_for_daemon()
    assert int(shell("demo", "pgrep -f 'while sleep' | head -1").stdout) == first
    run("systemctl", "kill", "--signal=KILL", "--kill-who=main", "sprited")
    time.sleep(2)
    wait_for_daemon()
    assert int(shell("demo", "pgrep -f 'while sleep' | head -1").stdout) == first


def ready_for_the_reboot() -> None:
    service = json.dumps({"cmd": "sh", "args": ["-c", "echo up >> /home/sprite/starts; exec sleep 100000"]})
    sprite("api", "-s", "demo", "/services/ticker", "--", "-X", "PUT", "-d", service, "-m", "20", check=False)
    shell("demo", "echo before > rebooted; sync")
    assert shell("demo", "wc -l < starts").stdout.strip() == "1"


# ----------------------------------------------------------------------------------------------- after the reboot


def sprites_are_there_after_a_reboot_and_cost_nothing() -> None:
    wait_for_daemon()
    states = {each["name"]: each["status"] for each in json.loads(sprite("list", "--json"))}
    assert states.get("demo") == "cold" and states.get("demo2") == "cold", states


def a_sprite_wakes_with_its_disk_and_its_services() -> None:
    assert shell("demo", "cat rebooted").stdout == "before\n"
    for _ in range(100):
        if shell("demo", "wc -l < starts", check=False).stdout.strip() == "2":
            return
        time.sleep(0.2)
    raise AssertionError(shell("demo", "cat starts; ps ax", check=False).stdout)


# ------------------------------------------------------------------------------------------- power cuts under load


def sprites_under_load() -> None:
    for number in range(3):
        sprite("create", f"load{number}", "--skip-console")


def load_until_the_power_is_cut() -> None:
    def work(number: int) -> None:
        name = f"load{number}"
        while True:
            value = f"{random.getrandbits(64):016x}"
            script = f"head -c 300000 /dev/urandom > blob; echo {value} > value; sha256sum blob > sum"
            shell(name, script)
            made = json.loads(sprite("checkpoint", "create", "-s", name, "--json"))
            say(f"ACK {name} {made['id']} {value}")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for future in [pool.submit(work, number) for number in range(3)]:
            future.result()


def acknowledged() -> dict[tuple[str, str], str]:
    text = Path("/dev/vdb").read_bytes().split(b"\0", 1)[0].decode()
    return {(name, version): value for _, name, version, value in (line.split() for line in text.splitlines())}


def the_pool_is_sound_after_a_power_cut() -> None:
    wait_for_daemon()
    run("systemctl", "stop", "sprited")
    for _ in range(100):
        if not run("losetup", "--noheadings", "--associated", str(DATA / "pool.img")).stdout.strip():
            break
        time.sleep(0.1)
    run("btrfs", "check", "--readonly", "--force", str(DATA / "pool.img"), timeout=600)
    run("systemctl", "start", "sprited")
    wait_for_daemon()


def every_acknowledged_checkpoint_is_there() -> None:
    promised = acknowledged()
    assert promised
    for name in {name for name, _ in promised}:
        listed = {each["id"] for each in json.loads(sprite("checkpoint", "list", "-s", name, "--json"))}
        missing = {version for of, version in promised if of == name} - listed
        assert not missing, f"{name} lost {missing}"


def acknowledged_checkpoints_restore_to_their_content() -> None:
    promised = list(acknowledged().items())
    # The newest are the ones that a cut could have taken; some of the others besides.
    chosen = promised[-6:] + random.sample(promised[:-6], min(4, len(promised[:-6])))
    for (name, version), value in chosen:
        sprite("restore", "-s", name, version)
        done = shell(name, "cat value && sha256sum --quiet -c sum")
        assert done.stdout == value + "\n", (name, version, done.stdout)


def uninstalling_leaves_nothing() -> None:
    run("/opt/sprite-env/quickstart.sh", "--uninstall", "--yes", timeout=600)
    assert not DATA.exists()
    assert not list(Path("/sys/fs/cgroup").glob("sprited-*"))
    assert "spr" not in run("ip", "-o", "link").stdout
    assert "sprited" not in run("nft", "list", "tables").stdout
    assert "pool.img" not in run("losetup", "-a").stdout
    assert "sprite" not in run("ps", "-eo", "comm").stdout
    assert run("systemctl", "is-enabled", "sprited", check=False).returncode != 0


PHASES = {
    "install": [
        this_machine_has_control_groups_v2_only, quickstart_installs_and_systemd_runs_it,
        quickstart_twice_is_harmless, doctor_finds_nothing_missing, limits_are_enforced_by_v2, disaster_and_restore,
        the_daemon_is_replaced_under_a_running_command, ready_for_the_reboot,
    ],
    "rebooted": [
        sprites_are_there_after_a_reboot_and_cost_nothing, a_sprite_wakes_with_its_disk_and_its_services,
        sprites_under_load,
    ],
    "cut": [
        the_pool_is_sound_after_a_power_cut, every_acknowledged_checkpoint_is_there,
        acknowledged_checkpoints_restore_to_their_content,
    ],
    "end": [uninstalling_leaves_nothing],
}


def main() -> None:
    words = dict(word.split("=", 1) for word in Path("/proc/cmdline").read_text().split() if "=" in word)
    phases = words["machine.phases"].split(",")
    for phase in phases:
        for function in PHASES.get(phase, []):
            tried(function)
    if "load" in phases:
        say("LOAD")
        load_until_the_power_is_cut()
    say("DONE")
    time.sleep(1)
    subprocess.run(["systemctl", "reboot"], check=False)


os.environ["SPRITES_API_URL"] = "http://127.0.0.1:7780"
os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
os.environ["HOME"] = "/root"
try:
    main()
except BaseException as error:
    say(f"not ok the machine: {error}")
    say("DONE")
    sys.exit(1)
