// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What `sprite-env` says about itself.
package enum Help {
    package static let version = "0.1.0"

    package static let text = """
        sprite-env: this sprite, from inside. The guide for agents is /.sprite/llm.txt

        checkpoints create [--comment TEXT]   snapshot the whole disk in milliseconds; prints its id, such as v3
        checkpoints list [--all]              --all: also those kept by restores (auto-1, ...)
        checkpoints info ID
        checkpoints delete ID                 not undoable
        restore ID [--then COMMAND]           put the whole disk back. Every process ends, this one too; the sprite
                                              starts again, then services, then COMMAND. What was replaced is kept.
        restore ID --path PATH                bring one file or directory back; nothing ends
        undo [--then COMMAND]                 take the last restore back (= restore --undo)
        checkpoints diff FROM [TO] [PATH] [--stat|--patch]    what differs; TO is the live state without
        try [--check COMMAND] [--dry-run] [--timeout S] -- COMMAND ARG...
                                              run COMMAND and show what it changed. If it or --check fails, the whole
                                              disk is put back, which ends every process. --dry-run: in a copy

        services list | get NAME
        services create NAME [--http-port N] [--dir D] [--env K=V] [--needs A,B] [--duration 5s] -- COMMAND ARG...
                                              keep COMMAND running, over crashes, restarts and restores
        services start|restart NAME [--duration 5s]     prints what it prints for that long
        services stop NAME [--timeout 10s]    until it is started again
        services signal NAME SIGNAL | delete NAME
        logs NAME [-n LINES] [-f] [--raw]     what a service printed; --raw: control characters too, on a terminal
        logs [-n LINES] [-f] [--since 10m] [--grep WORDS] [--kind process|checkpoint|system|api]
                                              everything recorded here: output of commands, restores, starts

        tasks create NAME [--expire 30m]      keep the sprite awake, an hour at most; 'tasks set' prolongs
        tasks list | get NAME | delete NAME

        info | policy                         this sprite; its network policy (read only)
        curl [-X METHOD] [-d JSON] [-i] PATH  the API itself, such as: curl /v1/checkpoints
        mcp                                   the same operations as a Model Context Protocol server, on stdio
        --version, --help

        Every command takes --json. Exit codes: 0 done, 1 failed (a sentence on standard error), 2 wrong usage.
        For the system only: init, boot, console, journald, fs.

        """

    package static func unknownCommand(_ name: String) -> String {
        "sprite-env: unknown command '\(name)'; see 'sprite-env --help'\n"
    }
}
