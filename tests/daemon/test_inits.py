# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Sprites whose base brings its own PID 1: systemd, OpenRC, s6."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import root_shell, run, shell
from support.fixtures import fresh_name
from support.host import host_state
from support.logs import all_output, output
from support.wait import eventually

KINDS = ["systemd", "openrc", "s6"]
#: Four bases are built for the first test.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def inits(scratch: Path) -> Iterator[Daemon]:
    """A daemon with a base for each init system, built as users do, beside it and two at a time; and one imported."""
    one = Daemon(scratch / "inits", scratch / "inits.log").start()

    def build(kind: str, *packages: str) -> None:
        named = [f"--package={package}" for package in packages]
        said = one.tool("base", "build", "--init", kind, "--name", kind, *named, timeout=600)
        beginning, middle = f"built {kind}: ", "from mmdebstrap " if kind == "sprite" else f" init {kind}, from mmdebstrap "
        assert said.startswith(beginning) and middle in said, said

    try:
        with ThreadPoolExecutor(2) as threads:
            list(
                threads.map(
                    lambda words: build(*words),
                    [("systemd", "postgresql"), ("openrc", "postgresql", "s6"), ("sprite", "postgresql"), ("s6",)],
                )
            )
        # Not made for s6, as an image from elsewhere: only the package is there.
        tar = scratch / "inits.tar"
        root = f"/proc/{one.pid}/root{one.data_directory}/pool/bases/openrc"
        subprocess.run(["tar", "-C", root, "--numeric-owner", "-cf", str(tar), "."], check=True)
        one.import_base(tar, "s6-imported", "s6")
        tar.unlink()
    except BaseException:
        one.abandon()
        raise
    yield one
    tag, folder = one.tag, one.data_directory
    try:
        one.remove()
    except BaseException:
        one.abandon()
        raise
    left = host_state(tag, folder)
    assert not left.cgroups and not left.processes and not left.mounts, left
    one.log.unlink()


@pytest.fixture
def api(inits: Daemon) -> Iterator[Api]:
    client = inits.api()
    yield client
    client.close()


@pytest.fixture
def make(api: Api) -> Iterator[Callable[..., str]]:
    names: list[str] = []

    def create(kind: str, **fields: object) -> str:
        names.append(fresh_name(kind))
        api.create(names[-1], base=kind, **fields)
        return names[-1]

    yield create
    for name in names:
        api.destroy(name)


def is_up(api: Api, name: str) -> bool:
    state = run(api, name, "systemctl", "is-system-running").text.strip()
    assert state != "degraded", shell(api, name, "systemctl --failed; sudo journalctl --no-pager -p 4")
    return state == "running"


def status(api: Api, name: str) -> str:
    return str(api.get(name)["status"])


def put(api: Api, name: str, path: str, text: str, mode: str = "644") -> None:
    """Writes a file as root."""
    root_shell(api, name, f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}", input=text.encode())


def succeeds(api: Api, name: str, script: str) -> bool:
    return run(api, name, "sudo", "sh", "-c", script).code == 0


def starts_in_log(api: Api, name: str, kind: str) -> int:
    """How often the log has what the service prints at its start."""
    # OpenRC may be in the middle of a line of its own on the console.
    service = "web.service" if kind == "systemd" else "console"
    return len(output(api, name, service=service, regex="web is up$"))


def sleep_until(api: Api, name: str, wanted: str, **idle: int) -> None:
    """Lets the sprite fall asleep, and stay awake afterwards."""
    api.update(name, config=idle)
    # A request for the sprite's state does not count as its use.
    eventually(lambda: status(api, name) == wanted, f"the sprite is {wanted}", 40, 0.3)
    api.update(name, config={"freeze_after_seconds": 0, "stop_after_seconds": 0})


def test_systemd_runs_everything(api: Api, make: Callable[..., str]) -> None:
    name = make("systemd")
    # Nobody has to wait for the whole boot.
    assert shell(api, name, "cat /proc/1/comm; id -un").split() in (["systemd", "sprite"], ["init", "sprite"])
    assert api.get(name)["init"] == "systemd"
    eventually(lambda: is_up(api, name), "systemd has brought everything up", 60, 0.3)
    assert shell(api, name, "systemctl --failed --no-legend").strip() == ""
    # Services of the system and of the user.
    shell(api, name, "systemctl --user is-system-running --wait | grep -q running")
    assert shell(api, name, "systemd-run --user --wait --pipe --quiet id -un").strip() == "sprite"
    root_shell(api, name, "systemd-run --on-active=100ms --timer-property=AccuracySec=1ms touch /run/ticked")
    eventually(lambda: succeeds(api, name, "test -e /run/ticked"), "the timer has run", 20, 0.2)
    # A watchdog would take a long sleep for a hang.
    assert shell(api, name, "systemctl show -P WatchdogUSec systemd-journald").strip() == "0"
    shell(api, name, "logger --tag greeter hello from a program; sudo journalctl --sync")
    assert "hello from a program" in shell(api, name, "sudo journalctl -t greeter -o cat")
    # What journald has is in the sprite's log, as records and not as its text.
    greeting = "^hello from a program$"
    said = eventually(
        # Not that which journalctl has just printed.
        lambda: [row for row in output(api, name, regex=greeting) if "fields" in row], "the entry is in the log", 20, 0.2,
    )[0]  # fmt: skip
    assert said["fields"]["identifier"] == "greeter" and said["fields"]["priority"] == 5 and said["level"] == "info"
    root_shell(api, name, "systemd-run --quiet --unit=grumbler sh -c 'echo \"<3>it does not work\"'")
    said = eventually(lambda: output(api, name, service="grumbler.service", level="error"), "the error is there", 20, 0.2)[0]
    assert said["text"] == "it does not work" and said["fields"]["unit"] == "grumbler.service"
    root_shell(api, name, "systemd-run --quiet --unit=talker sh -c 'printf %9000d 7'")
    said = eventually(lambda: output(api, name, service="talker.service", regex=" {100}7$"), "a long text is there", 20, 0.2)
    assert len(said) == 1 and len(said[0]["text"]) == 9000
    # Orphans are taken up by systemd, and are gone when they end.
    shell(api, name, "(sleep 0.2 &) ; sleep 0.6; ! pgrep -x sleep")
    # A terminal.
    shown = run(api, name, "sh", "-c", "tty; stty size", tty=True, rows=30, cols=90).text
    assert "/dev/pts/" in shown and "30 90" in shown


#: What Debian's own scripts do where there is an init system that reads them.
POSTGRES = """\
#!/bin/sh
install -d -o postgres /run/postgresql
exec setpriv --reuid postgres --regid postgres --init-groups /usr/lib/postgresql/*/bin/postgres \\
    -D /var/lib/postgresql/*/main -c config_file="$(echo /etc/postgresql/*/main/postgresql.conf)"
"""


@pytest.mark.parametrize("kind", ["sprite", "systemd", "openrc", "s6-imported"])
def test_a_database_comes_back_from_a_checkpoint(api: Api, make: Callable[..., str], kind: str) -> None:
    name = make(kind)
    as_postgres = "cd /; setpriv --reuid postgres --clear-groups psql -qAtc"

    def query(sql: str) -> str:
        return root_shell(api, name, f'{as_postgres} "{sql}"').strip()

    def answers() -> bool:
        return succeeds(api, name, f"{as_postgres} 'SELECT 1'")

    if kind == "sprite":
        put(api, name, "/usr/local/bin/database", POSTGRES, "755")
        shell(api, name, "/.sprite/bin/sprite-env services create database --no-stream -- sudo /usr/local/bin/database")
    elif kind == "s6-imported":
        put(api, name, "/etc/s6/service/database/run", POSTGRES, "755")
        root_shell(api, name, "cp -a /etc/s6/service/database /run/service/ && s6-svscanctl -a /run/service")
    eventually(answers, "PostgreSQL answers", 60, 0.3)
    query("CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('kept'), ('too')")
    checkpoint = api.checkpoint(name)
    query("DELETE FROM notes")
    stop = {
        "sprite": "/.sprite/bin/sprite-env services stop database", "systemd": "systemctl stop postgresql",
        "openrc": "rc-service postgresql stop", "s6-imported": "s6-svc -d /run/service/database",
    }  # fmt: skip
    root_shell(api, name, stop[kind])
    eventually(lambda: not succeeds(api, name, "pgrep -x postgres"), "PostgreSQL has stopped", 30, 0.3)
    root_shell(api, name, "rm -rf /var/lib/postgresql /etc/postgresql /usr/lib/postgresql")
    api.restore(name, checkpoint)
    eventually(answers, "PostgreSQL answers after the restore", 60, 0.3)
    assert query("SELECT string_agg(text, ' ') FROM notes") == "kept too"
    if kind == "systemd":
        eventually(lambda: is_up(api, name), "systemd has brought everything up", 60, 0.3)


SERVICE = {
    "systemd": (
        "/etc/systemd/system/web.service",
        "[Service]\nExecStart=/usr/local/bin/web\nRestart=always\nRestartSec=100ms\n"
        "ExecStopPost=/bin/sh -c 'echo stopped >>/var/log/web'\n[Install]\nWantedBy=multi-user.target\n",
        "systemctl daemon-reload && systemctl enable --now web",
    ),
    "openrc": (
        "/etc/init.d/web",
        "#!/sbin/openrc-run\nsupervisor=supervise-daemon\ncommand=/usr/local/bin/web\nrespawn_delay=1\n"
        "output_log=/dev/console\nstop_post() { echo stopped >>/var/log/web; }\n",
        "chmod 755 /etc/init.d/web && rc-update add web default && rc-service web start",
    ),
    "s6": (
        "/etc/s6/service/web/run",
        "#!/bin/sh\nexec /usr/local/bin/web\n",
        "chmod 755 /etc/s6/service/web/run && "
        "printf '#!/bin/sh\\necho stopped >>/var/log/web\\n' >/etc/s6/service/web/finish && "
        "chmod 755 /etc/s6/service/web/finish && "
        "cp -a /etc/s6/service/web /run/service/ && s6-svscanctl -a /run/service",
    ),
}
#: Says that it starts, and notes it where it can be counted.
WEB = "#!/bin/sh\necho 'web is up'\necho started >>/var/log/web\ntouch /run/web-is-up\nexec sleep 1234\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_lives_with_the_sprite(
    inits: Daemon, api: Api, make: Callable[..., str], tmp_path: Path, kind: str
) -> None:
    name = make(kind)
    assert api.get(name)["init"] == kind
    path, text, enable = SERVICE[kind]

    def runs() -> bool:
        return succeeds(api, name, "test -e /run/web-is-up && pgrep -fx 'sleep 1234'")

    def count(word: str) -> int:
        return int(root_shell(api, name, f"grep -c {word} /var/log/web || true").strip() or 0)

    put(api, name, "/usr/local/bin/web", WEB, "755")
    put(api, name, path, text)
    if kind == "systemd":
        eventually(lambda: is_up(api, name), "systemd has brought everything up", 60, 0.3)
    eventually(lambda: succeeds(api, name, enable), "the service is defined", 20, 0.5)
    eventually(runs, "the service runs", 20, 0.2)

    root_shell(api, name, "rm /run/web-is-up; pkill -KILL -fx 'sleep 1234'")
    eventually(runs, "the service was restarted", 20, 0.2)
    assert count("started") == 2
    # journald tells its readers four times a second, and a restore waits for nobody.
    eventually(lambda: starts_in_log(api, name, kind) >= 2, "what it printed is in the log", 20, 0.3)

    checkpoint = api.checkpoint(name)
    root_shell(api, name, f"rm {path} /usr/local/bin/web")
    api.restore(name, checkpoint)
    eventually(runs, "the service has started with the restored sprite", 30, 0.2)
    assert count("started") == 3
    eventually(lambda: starts_in_log(api, name, kind) >= 3, "what it printed is in the log", 20, 0.3)

    # Frozen it goes on where it was; stopped, its own stopping was waited for.
    stops = count("stopped")
    first = root_shell(api, name, "pgrep -fx 'sleep 1234'")
    sleep_until(api, name, "warm", freeze_after_seconds=1, stop_after_seconds=0)
    assert root_shell(api, name, "pgrep -fx 'sleep 1234'") == first
    sleep_until(api, name, "cold", freeze_after_seconds=0, stop_after_seconds=1)
    eventually(runs, "the service has started with the sprite", 30, 0.2)
    assert (count("started"), count("stopped")) == (4, stops + 1)

    # Each time it started it said so, which is in the log once.
    eventually(lambda: starts_in_log(api, name, kind) >= 4, "what it printed is in the log", 20, 0.3)
    assert starts_in_log(api, name, kind) == 4
    assert Cli(inits, tmp_path / "home").text("logs", "-s", name, "-n", "1000").count("web is up\n") >= 4


@pytest.mark.parametrize("kind", ["s6", "s6-imported"])
def test_s6_supervises_and_logs_in_its_own_way(api: Api, make: Callable[..., str], kind: str) -> None:
    name = make(kind)
    assert api.get(name)["init"] == "s6"
    eventually(lambda: shell(api, name, "cat /proc/1/comm").strip() == "s6-svscan", "s6 is PID 1", 20, 0.2)
    assert shell(api, name, "dpkg-query -W -f '${Status}' s6").strip() == "install ok installed"
    folder, running = "/etc/s6/service/speaker", "/run/service/speaker"
    put(api, name, f"{folder}/run", "#!/bin/sh\necho \"speaks as $$\"\nexec sleep 1234\n", "755")
    put(api, name, f"{folder}/log/run", "#!/bin/sh\nmkdir -p /var/log/speaker\nexec s6-log n3 /var/log/speaker\n", "755")
    root_shell(api, name, f"cp -a {folder} /run/service/ && s6-svscanctl -a /run/service")

    def pid() -> str | None:
        """Of the service, once it is up and its logger has what it said."""
        found = run(api, name, "sudo", "s6-svstat", "-o", "up,pid", running).text.split()
        said = f"grep -qx 'speaks as {found[-1]}' /var/log/speaker/current" if found[:1] == ["true"] else "false"
        return found[1] if succeeds(api, name, said) else None

    first = eventually(pid, "the service is up and logged", 20, 0.2)
    root_shell(api, name, f"s6-svc -r {running}")
    second = eventually(lambda: (now := pid()) != first and now, "s6-svc has restarted it", 20, 0.2)
    root_shell(api, name, f"kill -KILL {second}")
    third = eventually(lambda: (now := pid()) != second and now, "it was restarted by itself", 20, 0.2)
    root_shell(api, name, f"s6-svc -wD -T 10000 -d {running}")
    assert run(api, name, "sudo", "s6-svstat", "-o", "up", running).text.strip() == "false"
    assert not succeeds(api, name, f"test -e /proc/{third}")
    root_shell(api, name, f"s6-svc -u {running}")
    eventually(pid, "it is up again", 20, 0.2)
    api.call("POST", f"/v1/sprites/{name}/restart")
    eventually(pid, "it starts with the sprite", 20, 0.2)
    assert succeeds(api, name, f"test $(cat /var/log/speaker/* | grep -c '^speaks as ') = 5")


#: Hears that it has to end, and says so before it does.
OBEDIENT = "#!/bin/sh\ntrap 'echo heard >>/var/log/obedient; exit 0' TERM\ntouch /run/obedient\nwhile :; do sleep 0.1; done\n"
STUBBORN = "#!/bin/sh\ntrap '' TERM INT HUP\ntouch /run/stubborn\nwhile :; do sleep 0.1; done\n"


def test_what_ignores_the_stop_does_not_hold_it_and_what_hears_it_is_waited_for(
    api: Api, make: Callable[..., str]
) -> None:
    names = {kind: make(kind) for kind in KINDS}
    for kind, name in names.items():
        for service, program in [("obedient", OBEDIENT), ("stubborn", STUBBORN)]:
            path, text, enable = (part.replace("web", service) for part in SERVICE[kind])
            text = text.replace("[Service]\n", "[Service]\nTimeoutStopSec=infinity\n")
            text = text.replace("respawn_delay", "retry=TERM/600\nrespawn_delay")
            put(api, name, f"/usr/local/bin/{service}", program, "755")
            put(api, name, path, text)
            if kind == "systemd":
                eventually(lambda one=name: is_up(api, one), "systemd has brought everything up", 60, 0.3)
            eventually(lambda one=name, what=enable: succeeds(api, one, what), "the service is defined", 20, 0.5)
            eventually(
                lambda one=name, what=service: succeeds(api, one, f"test -e /run/{what}"), "the service runs", 20, 0.2)
    # Each init would wait for the stubborn one, for ever or as good as that. All at once, since it takes a while.
    for name in names.values():
        api.update(name, config={"freeze_after_seconds": 0, "stop_after_seconds": 1})
    for name in names.values():
        eventually(lambda one=name: status(api, one) == "cold", "the sprite has stopped", 75, 0.5)
        assert shell(api, name, "cat /var/log/obedient").splitlines()[0] == "heard"


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_that_is_killed_finds_it_again(inits: Daemon, make: Callable[..., str], kind: str) -> None:
    api = inits.api()
    name = make(kind)
    shell(api, name, "echo $PPID > /dev/shm/agent")
    inits.restart()
    api = inits.api()
    assert status(api, name) == "running"
    assert shell(api, name, "echo $PPID; cat /dev/shm/agent").split() == ["2", "2"]
    # Whoever ends what keeps the sessions has ended the sprite; the next command starts it again.
    run(api, name, "sudo", "kill", "-KILL", "2")
    eventually(lambda: status(api, name) == "cold", "the end of sprite-env inside is noticed", 20, 0.1)
    assert shell(api, name, "echo again; test ! -e /dev/shm/agent").strip() == "again"


@pytest.mark.parametrize("kind", ["systemd", "openrc"])
def test_power_off_inside_ends_the_sprite(api: Api, make: Callable[..., str], kind: str) -> None:
    name = make(kind)
    command = {"systemd": "systemctl poweroff --force", "openrc": "openrc-shutdown --poweroff now"}[kind]
    # An init that still brings services up may forget that it was asked.
    for _ in range(5):
        eventually(
            lambda: succeeds(api, name, f"{command} >/dev/null 2>&1") or status(api, name) == "cold",
            "power off is taken", 20, 0.3,
        )  # fmt: skip
        with contextlib.suppress(AssertionError):
            eventually(lambda: status(api, name) == "cold", "the sprite has ended", 7, 0.2)
            break
    assert status(api, name) == "cold"
    assert shell(api, name, "echo back").strip() == "back"


#: Prints what run it is, a number and the time, a hundred times a second, and says when it ends.
COUNTER = """\
#!/usr/bin/python3
import os, signal, sys, time
def end(*_):
    print(run, "end", time.time(), flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
run = f"run-{time.time_ns()}"
for number in range(1, 1 << 30):
    print(run, number, time.time(), flush=True)
    time.sleep(0.01)
"""
#: From early in the boot to late in the shutdown.
COUNTER_UNIT = """\
[Unit]
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStart=/usr/local/bin/counter
[Install]
WantedBy=sysinit.target
"""


def test_what_journald_has_is_in_the_log_whole_and_once(inits: Daemon, make: Callable[..., str]) -> None:
    api = inits.api()
    name = make("systemd")
    eventually(lambda: is_up(api, name), "systemd has brought everything up", 60, 0.3)
    put(api, name, "/usr/local/bin/counter", COUNTER, "755")
    put(api, name, "/etc/systemd/system/counter.service", COUNTER_UNIT)
    root_shell(api, name, "systemctl enable --quiet --now counter")

    def runs() -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = {}
        for row in all_output(api, name, service="counter.service"):
            run_name, *rest = row["text"].split()
            if run_name.startswith("run-"):
                found.setdefault(run_name, []).append(rest)
        return found

    def counted(number: int) -> bool:
        """So many runs, the last of them for a while."""
        found = list(runs().values())
        assert len(found) <= number, [rows[-1] for rows in found]
        return len(found) == number and len(found[-1]) > 30

    eventually(lambda: counted(1), "the service prints", 20, 0.2)
    # Its journal has lines of the first run, which every restore brings back.
    checkpoint = api.checkpoint(name)
    asked: list[float] = []
    for number in range(2, 5):
        asked.append(time.time())
        api.restore(name, checkpoint)
        eventually(lambda wanted=number: counted(wanted), "the service prints after the restore", 60, 0.2)
    # Held still, with what journald's readers had not heard of.
    sleep_until(api, name, "warm", freeze_after_seconds=1, stop_after_seconds=0)
    asked.append(0)
    api.restore(name, checkpoint)
    eventually(lambda: counted(5), "the service prints after the restore", 60, 0.2)
    inits.restart()
    api = inits.api()
    before = len(list(runs().values())[-1])
    eventually(lambda: len(list(runs().values())[-1]) > before + 30, "it goes on under another daemon", 20, 0.2)
    # Whoever kills the reader does not make it begin anew.
    root_shell(api, name, "pkill -KILL -f '^(/.sprite/bin/sprite-env journald|journalctl )'")
    before = len(list(runs().values())[-1])
    eventually(lambda: len(list(runs().values())[-1]) > before + 30, "the reader is started again", 20, 0.2)
    asked.append(time.time())
    api.call("POST", f"/v1/sprites/{name}/restart")
    eventually(lambda: counted(6), "the service prints after the restart", 60, 0.2)

    found = list(runs().values())
    for rows, moment in zip(found, [*asked, 0.0], strict=True):
        numbers = [int(number) for number, _ in rows if number != "end"]
        assert numbers == list(range(1, len(numbers) + 1)), "lines are missing or there twice"
        assert float(rows[-1][1]) >= moment - 0.05, f"the last {moment - float(rows[-1][1]):.3f} s are missing"
    # One that is stopped in order says so.
    assert [rows[-1][0] == "end" for rows in found] == [False] * 4 + [True, False]
    # The first entry of each start, which journald moves from memory to the disk a little later.
    assert len(output(api, name, service="systemd-journald.service", regex="^Journal started$")) == 6


def test_a_journal_that_does_not_answer_holds_no_restore(api: Api, make: Callable[..., str]) -> None:
    name = make("systemd")
    eventually(lambda: is_up(api, name), "systemd has brought everything up", 60, 0.3)
    for program in ["sleep 4321", "yes"]:
        # What systemd itself asks of it while it starts is done.
        put(api, name, "/usr/bin/broken", f"#!/bin/sh\ncase $* in *sync*|*json*) exec {program}; esac\n", "755")
        root_shell(api, name, "mv /usr/bin/broken /usr/bin/journalctl")
        checkpoint = api.checkpoint(name)
        # First with a good reader that finds the bad program, then with that from the beginning.
        for _ in range(2):
            begin = time.monotonic()
            api.restore(name, checkpoint)
            assert time.monotonic() - begin < 8
            wanted = f"pgrep -fx '{program}'"
            eventually(lambda what=wanted: succeeds(api, name, what), "the reader has the bad program", 30, 0.2)


def test_limits_hold_for_everything_inside(api: Api, make: Callable[..., str]) -> None:
    name = make("systemd", config={"ram_mb": 256, "pids": 200})
    eventually(lambda: is_up(api, name), "systemd has brought everything up", 60, 0.3)
    hog = "python3 -c \"b = bytearray(400 << 20); print('took it')\""
    assert "took it" not in run(api, name, "sh", "-c", hog).text
    assert "took it" not in run(api, name, "sudo", "systemd-run", "--wait", "--pipe", "--quiet", "sh", "-c", hog).text
    assert run(api, name, "sh", "-c", "for i in $(seq 300); do sleep 20 & done 2>&1; wait $!").code != 0
    # What holds the limits is out of reach.
    assert not succeeds(api, name, "echo max > /sys/fs/cgroup/pids.max || echo 1 > /sys/fs/cgroup/cgroup.freeze")


def test_a_broken_init_can_be_repaired(api: Api, make: Callable[..., str]) -> None:
    name = make("s6")
    root_shell(api, name, "mv /etc/s6/init /etc/s6/init.away; rm -f /sbin/init")
    sleep_until(api, name, "cold", freeze_after_seconds=0, stop_after_seconds=1)
    assert shell(api, name, "cat /proc/1/comm").strip() == "sprite-env"
    root_shell(api, name, "mv /etc/s6/init.away /etc/s6/init")
    sleep_until(api, name, "cold", freeze_after_seconds=0, stop_after_seconds=1)
    eventually(lambda: shell(api, name, "cat /proc/1/comm").strip() == "s6-svscan", "s6 is back", 20, 0.2)


def test_an_image_without_the_init_is_refused(inits: Daemon, base: Path) -> None:
    with pytest.raises(AssertionError, match="systemd is missing in it; install systemd-sysv"):
        inits.import_base(base, "none", "systemd")
    with pytest.raises(AssertionError, match="no init system 'upstart'; use one of sprite, systemd, openrc, s6"):
        inits.import_base(base, "none", "upstart")

