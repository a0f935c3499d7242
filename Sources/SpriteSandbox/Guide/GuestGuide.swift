// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What every sprite has to read at /.sprite, for agents that know nothing else.
///
/// Each block that is fenced with ```sh is run as it stands by a test, top to bottom, in a new sprite.
package enum GuestGuide {
    /// By file name.
    package static let texts: [(name: String, text: String)] = [
        ("llm.txt", main), ("llm-checkpoints.txt", checkpoints), ("llm-services.txt", services),
        ("llm-languages.txt", languages), ("llm-mcp.txt", mcp),
    ]

    package static let main = """
        # You are inside a sprite

        A sprite is a persistent Linux computer of its own. Its disk is kept for ever: files, installed packages and
        repositories are still there tomorrow. The whole disk can be checkpointed and put back in milliseconds, by you,
        from in here. So: try things, and undo them when they went wrong.

        `sprite-env` is /.sprite/bin/sprite-env. It is on the PATH of your commands or can be called by that path. It is a
        static program outside of the disk: it works when the system itself is broken, even after `rm -rf /usr`.
        `sprite-env --help` shows everything on one page; every command takes `--json`; exit code 0 is success, 1 failure
        with a sentence on standard error, 2 wrong usage.

        ## Before anything risky: checkpoint. After it went wrong: restore

        ```sh
        /.sprite/bin/sprite-env checkpoints create --comment "before the upgrade"
        /.sprite/bin/sprite-env checkpoints list
        ```

        `create` prints the id (v1, v2, ...). It takes milliseconds, costs only what changes later, and you go on meanwhile.

            sprite-env restore v1                       put the whole disk back
            sprite-env restore v1 --then 'COMMAND'      and run COMMAND afterwards, to take the work up again
            sprite-env undo                             take the last restore back

        A restore ENDS EVERY PROCESS in the sprite, your shell and you included if you run in it; then the sprite starts
        again with the old disk, services first, then COMMAND. Write down outside of the disk what you must know
        afterwards, or put it into COMMAND: everything on the disk since the checkpoint is gone (`undo` brings it back).
        Read /.sprite/llm-checkpoints.txt for copying single files back and for hooks.

        ## What survives what

        | | new session | sleep when idle | stop, restart of the host | restore |
        |---|---|---|---|---|
        | files on disk, installed packages | yes | yes | yes | as in the checkpoint |
        | definitions of services | yes | yes | yes | as in the checkpoint |
        | running services | yes | yes | started again | started again |
        | other processes, /tmp, /run, /dev/shm | yes | yes (frozen, then gone once it is stopped) | no | no |
        | checkpoints, their comments | yes | yes | yes | yes |

        The sprite is frozen after 30 seconds without a connection, output or task, and stopped after a longer time; any
        request from outside wakes it. Work that must go on while nobody is connected holds it awake with a task:

        ```sh
        /.sprite/bin/sprite-env tasks create my-work --expire 30m
        /.sprite/bin/sprite-env tasks list
        /.sprite/bin/sprite-env tasks set my-work --expire 1h
        /.sprite/bin/sprite-env tasks delete my-work
        ```

        ## Programs that keep running: services

        A process that you start in a shell does not come back after a restore or a stop. A service does:

        ```sh
        /.sprite/bin/sprite-env services create hello --duration 1s -- sh -c 'echo serving; exec sleep 1000000'
        /.sprite/bin/sprite-env services list
        /.sprite/bin/sprite-env logs hello -n 20
        ```

        The service with `--http-port N` answers the sprite's public URL. /.sprite/llm-services.txt has the rest.

        ## Where and who you are

        - You are user `sprite` (uid 1000), home /home/sprite; `sudo` needs no password. Root here is not root on the host.
        - Install what you need: `sudo apt-get update && sudo apt-get install -y PACKAGE`, or pip, npm, cargo, go, gem. It
          lands on this disk and is part of its checkpoints.
        - The network goes out through address translation, as far as the policy allows: `sprite-env policy` shows it.
          Nothing outside can connect to you except through the sprite's URL and the owner's tunnels. Other sprites and the
          host cannot be reached.
        - If /.sprite/ca.crt exists, the owner gave you secrets that are added to HTTPS requests to their hosts outside: ask
          with any key or none. Errors `broker_refused` come from there. You cannot read the secrets.

        ```sh
        id -un
        sudo true
        /.sprite/bin/sprite-env info
        /.sprite/bin/sprite-env policy
        ```

        ## What does not work, whatever you try

        No other kernel modules, no mounting, no own user namespaces (browsers need --no-sandbox), no 32-bit socketcall,
        no btrfs subvolumes. `Operation not permitted` from one of these is final; look for another way.

        ## When things break

        - A command hangs: end it, or restore.
        - The disk is full: delete something. Checkpoints keep what they hold: `sprite-env checkpoints delete v1` frees it.
          After a restore the full disk is kept for `undo`: `sprite-env checkpoints delete auto-1` lets it go
          (`sprite-env checkpoints list --all` shows its number).
        - `Disk quota exceeded`, although `df` shows room: this sprite's own limit is reached; make room in the same way. `df`
          shows what all sprites share, never the limit, which the owner sees from outside.
        - `rm -rf /usr`, a broken libc, no shell any more: `/.sprite/bin/sprite-env restore v1` still works. If not even
          a command can be started, the owner restores from outside: `sprite restore -s NAME v1`.
        - Too many processes: the limit stops a fork bomb; `sprite-env restore v1` ends it.
        - `cannot reach the sprite's API`: the host's daemon is being restarted. Wait a few seconds and try again.

        ## More

        /.sprite/llm-checkpoints.txt, /.sprite/llm-services.txt, /.sprite/llm-languages.txt (which languages there are, their
        versions), /.sprite/llm-mcp.txt (the same as tools for a model).
        This folder, /.sprite, is read-only and belongs to the system. bin/sprite-env is also PID 1; where the base brought an
        init system of its own (systemd, OpenRC, s6), that is PID 1 and sprite-env its first child: end neither. To see it:

        ```sh
        cat /proc/1/comm
        ```

        """

    static let checkpoints = """
        # Checkpoints, in full

        A checkpoint is a snapshot of the whole disk (not of memory). Ids count up and are never used again. v0 is the
        state at creation.

        ```sh
        echo one > notes
        /.sprite/bin/sprite-env checkpoints create --comment "notes are good"
        id=$(/.sprite/bin/sprite-env checkpoints create --comment "ids are printed alone")
        /.sprite/bin/sprite-env checkpoints info "$id"
        /.sprite/bin/sprite-env checkpoints list --json
        ```

        The newest five can be read as ordinary folders a moment after they were made: compare with them, and copy single
        files back, without a restore:

        ```sh
        echo two > notes
        sleep 1
        ls /.sprite/checkpoints
        cp "/.sprite/checkpoints/$id/home/sprite/notes" notes
        grep -q one notes
        ```

        A checkpoint that is no longer needed gives its space back. The one the disk descends from cannot go:

        ```sh
        old=$(/.sprite/bin/sprite-env checkpoints create)
        /.sprite/bin/sprite-env checkpoints create
        /.sprite/bin/sprite-env checkpoints delete "$old"
        ```

        ## Restoring

            sprite-env restore ID [--then COMMAND]
            sprite-env undo [--then COMMAND]

        1. The request is checked and acknowledged: an unknown id is an error and nothing happens.
        2. Every process ends, the one that asked too. Nothing after `sprite-env restore` in a script runs.
        3. The disk is the checkpoint's. What was there before is kept as auto-N; `undo` goes back to it, and `sprite-env
           checkpoints list --all` shows it.
        4. The sprite starts. Services of the restored state start.
        5. /etc/sprite/on-restore, if the restored disk has it and it can be executed, runs as root, with the checkpoint as
           argument and in SPRITE_RESTORED, and `inside` or `outside` in SPRITE_RESTORE_ORIGIN.
        6. COMMAND runs with /bin/sh as the user who asked. SPRITE_REPLACED holds the id of what was replaced.

        `sprite-env curl /v1/restore` tells how the last restore that was asked for in here went.

        A hook:

        ```sh
        sudo mkdir -p /etc/sprite
        printf '#!/bin/sh\\necho "restored $1" >> /home/sprite/restored.log\\n' | sudo tee /etc/sprite/on-restore
        sudo chmod +x /etc/sprite/on-restore
        /.sprite/bin/sprite-env checkpoints create --comment "with a hook"
        ```

        """

    static let services = """
        # Services, in full

        A service is a command the sprite keeps running: started when the sprite starts and after a restore, restarted
        with growing pauses when it dies, stopped only when told. Its definition is part of checkpoints.

        ```sh
        /.sprite/bin/sprite-env services create db --duration 1s -- sh -c 'echo db is up; exec sleep 1000000'
        /.sprite/bin/sprite-env services create web --needs db --http-port 8080 --dir /home/sprite --env MODE=test --duration 1s -- sh -c 'echo "web in $PWD, mode $MODE"; exec sleep 1000000'
        /.sprite/bin/sprite-env services list
        /.sprite/bin/sprite-env services get web --json
        ```

        Everything after `--` is the program and its arguments; there is no shell unless you name one. `create` starts it,
        prints what it prints for `--duration` (5 s), and fails if it ends with an error in that time. Creating it again
        replaces it. At most one service has `--http-port`: requests to the sprite's URL go to that port, else to 8080.

        ```sh
        /.sprite/bin/sprite-env services stop web
        /.sprite/bin/sprite-env services start web --duration 1s
        /.sprite/bin/sprite-env services restart web --no-stream
        /.sprite/bin/sprite-env services signal web HUP
        /.sprite/bin/sprite-env logs web -n 50
        tail -n 5 /.sprite/logs/services/db.log
        /.sprite/bin/sprite-env services delete web
        /.sprite/bin/sprite-env services delete db
        ```

        `sprite-env logs NAME -f` follows until it is interrupted. The files in /.sprite/logs/services hold the same with times.
        A stop holds over restarts until the next start.

        Where systemd, OpenRC or s6 is PID 1, services that are defined in its own way start with the sprite as well, and what
        they print is in the owner's logs. They are no services of the kind above: `sprite-env services list` does not show them.

        """

    static let languages = """
        # Languages and their versions

        Where the operator has set up a layer of languages, they are simply there, without being on your disk: Python,
        Node.js, Deno, Go, Ruby, Rust with cargo, Java, PHP, Erlang and Elixir, C and C++, Perl, R, Lua. This tells which:

        ```sh
        for name in python3 node deno go ruby cargo javac php elixir gcc perl Rscript lua5.4; do
          command -v "$name" || echo "$name is not here"
        done
        ```

        The first use of one may take a second, since it comes from a store; then it is as fast as a local one. What is
        not there is installed as on any Debian: `sudo apt-get update && sudo apt-get install -y PACKAGE`.

        Of Node.js and Go there may be several versions. `list` shows them, `use` chooses one for you, `use --here` for this
        folder and those below; `.node-version`, `.nvmrc`, `.go-version` and `.tool-versions` of a project are obeyed.
        Of Python and the others there is one version, the distribution's: nothing reads `.python-version`.

        ```sh
        if command -v node-version; then node-version list; node-version current; fi
        if command -v go-version; then go-version list; go-version current; fi
        ```

        Packages go to your own disk and are part of its checkpoints: `pip install` in a virtual environment
        (`python3 -m venv .venv`), `npm install`, `gem install --user-install`, `cargo add`, `go get`. A version that is in no
        layer is unpacked into your home like any other program; make a checkpoint before.

        """

    static let mcp = """
        # The same as tools for a model

        `sprite-env mcp` is a Model Context Protocol server on standard input and output, for this sprite: checkpoints,
        restores, services, tasks. Configure a client with the command `/.sprite/bin/sprite-env` and the argument `mcp`.
        Outside, `sprite mcp` serves all sprites of the owner, with commands and files, and the daemon serves the same at
        /mcp over HTTP with the token.

        One message is one line:

        ```sh
        printf '%s\\n' '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' | /.sprite/bin/sprite-env mcp | grep -q create_checkpoint
        ```

        ## The API itself

        It is HTTP over the socket /.sprite/api.sock, without a token: the socket says which sprite it is. `sprite-env curl`
        reaches it where no curl is installed:

        ```sh
        /.sprite/bin/sprite-env curl /v1/info
        /.sprite/bin/sprite-env curl -X POST -d '{"comment":"by hand"}' /v1/checkpoint
        /.sprite/bin/sprite-env curl /v1/checkpoints
        /.sprite/bin/sprite-env curl -X PUT -d '{"expire":"10m"}' /v1/tasks/by-hand
        /.sprite/bin/sprite-env curl -X DELETE /v1/tasks/by-hand
        ```

        Paths: /v1/info, /v1/checkpoint (POST), /v1/checkpoints, /v1/checkpoints/ID, /v1/checkpoints/ID/restore (POST
        `{"then": "COMMAND"}`, answers 202), /v1/restore/undo (POST), /v1/restore, /v1/services..., /v1/tasks...,
        /v1/policy/network, /mcp. Errors are `{"error": CODE, "message": SENTENCE}`. Limits: 100 requests a second, 32
        connections, bodies of 1 MiB.

        """
}
