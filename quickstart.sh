#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# From a fresh Debian 12 or Ubuntu machine with Swift to a running sprite. Running it again is harmless.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/common.sh"

usage() {
    cat <<'TEXT'
Usage: sudo ./quickstart.sh [options]

Installs packages that are missing, builds, installs and starts sprited, builds a base image and runs a demo.

  --data-dir DIR      where sprites are kept                  (default /var/lib/sprited)
  --listen HOST:PORT  where the API is served                 (default 127.0.0.1:7780)
  --prefix DIR        bin/ and libexec/ are made below it     (default /usr/local)
  --programs DIR      install sprited, sprite and sprite-env from DIR, such as those of another machine of the same
                      kind, and build nothing: no Swift toolchain is needed
  --no-demo           stop once sprited serves
  --uninstall         stop sprited and remove everything that this script made; asks before deleting sprites
  --yes               with --uninstall: do not ask
TEXT
}

data_dir="" listen="" prefix=/usr/local programs="" demo=yes uninstall=no assume_yes=no
while [ $# -gt 0 ]; do
    case $1 in
    --data-dir | --listen | --prefix | --programs) [ $# -gt 1 ] || die "$1 needs a value" ;;
    esac
    case $1 in
    --data-dir) data_dir=$2 && shift ;;
    --listen) listen=$2 && shift ;;
    --prefix) prefix=$2 && shift ;;
    --programs) programs=$2 && shift ;;
    --no-demo) demo=no ;;
    --uninstall) uninstall=yes ;;
    --yes) assume_yes=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && die "unknown option $1" ;;
    esac
    shift
done

need_root "install sprite-env"
prefix=$(realpath -m "$prefix")
settings=$prefix/etc/sprited.env
# What an earlier run was told is kept, unless this one says otherwise.
if [ -f "$settings" ]; then
    data_dir=${data_dir:-$(sed -n 's/^SPRITED_DATA_DIR=//p' "$settings")}
    listen=${listen:-$(sed -n 's/^SPRITED_LISTEN=//p' "$settings")}
fi
data_dir=$(realpath -m "${data_dir:-/var/lib/sprited}")
listen=${listen:-127.0.0.1:7780}
case $data_dir in
*[[:space:]]*) die "cannot use data directory '$data_dir': white space in it is not supported here" ;;
/ | /bin | /boot | /dev | /etc | /home | /lib | /opt | /proc | /root | /run | /sbin | /srv | /sys | /tmp | /usr | \
    /usr/local | /var | /var/lib)
    die "cannot use data directory '$data_dir': it must be a directory of its own" ;;
esac
[[ $listen =~ ^[^[:space:]]+:[0-9]+$ ]] || die "cannot listen on '$listen': use HOST:PORT, such as 127.0.0.1:7780"

tag=$(host_tag "$data_dir")
pid_file=/run/sprited/$tag.pid
log_file=/var/log/sprited.log
[ "$data_dir" = /var/lib/sprited ] || log_file=/var/log/sprited-$tag.log
unit=/etc/systemd/system/sprited.service
sprited=$prefix/bin/sprited
sprite=$prefix/bin/sprite
guest=$prefix/libexec/sprite-env/sprite-env
port=${listen##*:}
host=${listen%:*}
case $host in 0.0.0.0 | '*') host=127.0.0.1 ;; '[::]' | ::) host='[::1]' ;; esac
url=http://$host:$port

has_systemd() { [ -d /run/systemd/system ]; }

healthy() { curl -fsS -o /dev/null --max-time 3 "$url/health" 2>/dev/null; }

# The process id of the sprited that this script started, if it is alive and still that program.
running_pid() {
    local pid
    pid=$(cat "$pid_file" 2>/dev/null) || return 1
    [ -n "$pid" ] || return 1
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "serve --data-dir $data_dir " || return 1
    echo "$pid"
}

stop_sprited() {
    local pid
    if has_systemd && [ -f "$unit" ]; then
        systemctl stop sprited.service
    fi
    if pid=$(running_pid); then
        kill -TERM "$pid"
        for _ in $(seq 600); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        if kill -0 "$pid" 2>/dev/null; then
            warn "sprited did not stop within 60 s; killing it"
            kill -KILL "$pid"
        fi
    fi
    rm -f "$pid_file"
}

# ---------------------------------------------------------------------------------------------------- uninstall

if [ "$uninstall" = yes ]; then
    if [ ! -e "$settings" ] && [ ! -e "$sprited" ] && [ ! -e "$data_dir" ]; then
        say "nothing to remove: neither $sprited nor $data_dir exists"
        exit 0
    fi
    if [ -e "$data_dir/registry.db" ] && [ "$assume_yes" = no ]; then
        [ -t 0 ] ||
            die "cannot uninstall: it deletes all sprites in $data_dir, and there is no terminal to ask; add --yes"
        if healthy; then
            printf 'Sprites in %s:\n' "$data_dir"
            SPRITES_API_URL=$url SPRITE_TOKEN=$(cat "$data_dir/token") "$sprite" list </dev/null | cat || true
        fi
        read -r -p "Delete every sprite in $data_dir with its checkpoints, for ever? [y/N] " answer
        case $answer in y | Y | yes) ;; *) die "not uninstalled: nothing was changed" ;; esac
    fi
    say "stopping sprited"
    stop_sprited
    say "removing sprites, $data_dir and what sprited made on this host"
    # sprited knows best; what it could not do, if it is gone or broken, is done by name.
    if [ -x "$sprited" ] && [ -d "$data_dir" ]; then
        "$sprited" cleanup --data-dir "$data_dir" || warn "sprited cleanup failed; removing what bears its names"
    fi
    remove_host_traces "$tag" "$data_dir"
    rm -rf --one-file-system -- "$data_dir"
    if has_systemd && [ -f "$unit" ]; then
        systemctl disable --quiet sprited.service 2>/dev/null || true
        rm -f "$unit"
        systemctl daemon-reload
    fi
    rm -f "$sprited" "$sprite" "$guest" "$settings" "$log_file"
    rmdir "$prefix/libexec/sprite-env" 2>/dev/null || true
    # Folders of a prefix of its own, if nothing else is in them.
    [ "$prefix" = /usr/local ] || rmdir "$prefix"/{bin,etc,libexec} "$prefix" 2>/dev/null || true
    say "removed; distribution packages and the build folders in $ROOT stay"
    exit 0
fi

# ------------------------------------------------------------------------------------------------------ install

if [ -n "$programs" ]; then
    for program in sprited sprite sprite-env; do
        [ -x "$programs/$program" ] || die "cannot install: there is no program $program in $programs"
    done
    "$ROOT/scripts/install-deps.sh" --run
    built=("$programs/sprited" "$programs/sprite" "$programs/sprite-env")
else
    "$ROOT/scripts/install-deps.sh" --build --run
    find_swift
    say "building sprited and sprite (the first time takes several minutes)"
    "$ROOT/scripts/build.sh" release >&2
    say "building sprite-env"
    "$ROOT/scripts/build.sh" guest >&2
    built=("$ROOT/.build/release/sprited" "$ROOT/.build/release/sprite" "$ROOT/.build-static/release/sprite-env")
fi

changed=no
# place PROGRAM TARGET STRIPPING: installs it at once, even while the old one runs, and notes whether it is new.
place() {
    mkdir -p "$(dirname "$2")"
    install -m 0755 "$1" "$2.new"
    # From elsewhere they may be stripped already, and the tool may be absent.
    [ -n "$programs" ] || strip "$3" "$2.new"
    if cmp -s "$2.new" "$2"; then
        rm "$2.new"
    else
        mv -f "$2.new" "$2"
        changed=yes
    fi
}
# The daemon keeps its symbols: without them a backtrace says nothing.
place "${built[0]}" "$sprited" --strip-debug
place "${built[1]}" "$sprite" --strip-all
place "${built[2]}" "$guest" --strip-all
mkdir -p "$prefix/etc"
[ -d "$data_dir" ] || install -d -m 0700 "$data_dir"
new_settings=$(printf 'SPRITED_DATA_DIR=%s\nSPRITED_LISTEN=%s\n' "$data_dir" "$listen")
if [ "$(cat "$settings" 2>/dev/null)" != "$new_settings" ]; then
    printf '%s\n' "$new_settings" >"$settings"
    changed=yes
fi

if [ -z "$("$sprited" base list --data-dir "$data_dir" --json | tr -d '[:space:][]')" ]; then
    say "building the base image of new sprites"
    "$sprited" base build --data-dir "$data_dir"
fi

# Sprites go on while the daemon is restarted.
[ "$changed" = no ] || stop_sprited
if ! healthy; then
    if has_systemd; then
        sed "s|@PREFIX@|$prefix|g" "$ROOT/packaging/sprited.service" >"$unit"
        systemctl daemon-reload
        systemctl enable --quiet sprited.service
        systemctl restart sprited.service
    elif ! running_pid >/dev/null; then
        [ -d /run/sprited ] || install -d -m 0711 /run/sprited
        setsid "$sprited" serve --data-dir "$data_dir" --listen "$listen" </dev/null >>"$log_file" 2>&1 &
        echo $! >"$pid_file"
    fi
fi
for _ in $(seq 300); do
    healthy && break
    has_systemd || running_pid >/dev/null || break
    sleep 0.1
done
if ! healthy; then
    if has_systemd; then journalctl --no-pager -n 20 -u sprited.service >&2; else tail -n 20 "$log_file" >&2; fi
    die "sprited does not answer at $url/health; see its last lines above"
fi
say "sprited serves $url"

# --------------------------------------------------------------------------------------------------------- demo

SPRITES_API_URL=$url
SPRITE_TOKEN=$(cat "$data_dir/token")
export SPRITES_API_URL SPRITE_TOKEN
PATH=$prefix/bin:$PATH

hint() {
    cat >&2 <<TEXT

Next:
  sprite create NAME             as root, on this machine; other users first run
  sprite auth setup --token TOKEN    with the token that 'sudo sprited token --data-dir $data_dir' prints
  sprite --help                  all commands; README.md and docs/ tell the rest
TEXT
}

[ "$demo" = yes ] || { hint; exit 0; }

# Prints a command as one would type it, then runs it. Nothing waits for a key, and nothing for ever.
show() {
    local word line='$'
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_./:=,-]+$ ]]; then
            line+=" $word"
        elif [[ $word != *\'* ]]; then
            line+=" '$word'"
        else
            line+=" $(printf '%q' "$word")"
        fi
    done
    printf '\n%s\n' "$line"
    timeout 180 "$@" </dev/null
}

# The demo may only replace sprites that an earlier demo made: it remembers their ids.
made=$data_dir/quickstart-demo
sprite_id() {
    sprite info -s "$1" --json </dev/null | sed -n 's/.*"id" *: *"\([^"]*\)".*/\1/p' | head -n 1
}
for name in demo demo2; do
    # Neither "cannot reach" nor "unknown sprite" is of interest here; creating tells.
    id=$(sprite_id "$name" 2>/dev/null) || true
    [ -n "$id" ] || continue
    if ! grep -qxF "$id" "$made" 2>/dev/null; then
        warn "a sprite named '$name' exists that this script did not make; the demo is skipped"
        hint
        exit 0
    fi
    sprite destroy "$name" --force </dev/null >/dev/null 2>&1 || die "cannot replace the demo's sprite '$name'"
done
remember() { sprite_id "$1" >>"$made"; }
: >"$made"

show sprite create demo
remember demo
show sprite exec -s demo -- sh -c 'uname -n; id; cat /etc/os-release | head -2'

# The query of the demo: with sqlite3 if it could be installed, else with Python's own SQLite.
sql() {
    local name=$1 statements=$2
    if [ "$with_sqlite3" = yes ]; then
        show sprite exec -s "$name" -- sqlite3 t.db "$statements"
    else
        show sprite exec -s "$name" -- python3 -c 'import sqlite3, sys
database = sqlite3.connect("t.db", isolation_level=None)
for statement in sys.argv[1].split("; "):
    for row in database.execute(statement): print(*row)' "$statements"
    fi
}
with_sqlite3=no
if show sprite exec -s demo -- sh -c '(sudo apt-get update && sudo apt-get install -y sqlite3) >apt.log 2>&1'; then
    with_sqlite3=yes
else
    printf '(no network from inside the sprite, or no package mirror: this step is skipped)\n'
fi
sql demo 'create table t(a); insert into t values(42); select a from t'
show sprite checkpoint create -s demo --comment works
show sprite exec -s demo -- sudo rm -rf /usr /etc /home || true
show sprite exec -s demo -- ls / || printf '(nothing works any more: status %s)\n' $?
show sprite restore -s demo v1
sql demo 'select a from t'
show sprite fork demo demo2 --from v1
remember demo2
sql demo2 'select a from t'
if [ -t 0 ] && [ -t 1 ]; then
    printf '\n$ sprite console -s demo        # leave it with "exit"\n'
    sprite console -s demo || true
else
    printf '\n(no terminal here: try "sprite console -s demo" yourself)\n'
fi
hint
