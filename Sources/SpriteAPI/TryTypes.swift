// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// A command line: a list of arguments, or one text for `sh -c`.
    public struct CommandLine: Codable, Sendable, Hashable {
        /// The arguments, the program first.
        public var arguments: [String]

        /// A command with its arguments.
        public init(_ arguments: [String]) { self.arguments = arguments }

        /// Reads either form.
        public init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let text = try? container.decode(String.self) {
                arguments = ["sh", "-c", text]
            } else {
                arguments = try container.decode([String].self)
            }
        }

        /// Writes the list.
        public func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            try container.encode(arguments)
        }
    }

    /// The body of `POST /v1/sprites/{name}/try`, `/race` and `/bisect`; each takes the fields that concern it.
    public struct AttemptRequest: Codable, Sendable {
        /// What to run.
        public var command: CommandLine
        /// Variables.
        public var env: [String: String]?
        /// Working directory; the user's home without.
        public var dir: String?
        /// User name or number; `sprite` without.
        public var user: String?
        /// How long one run may take.
        public var timeoutSeconds: Double?
        /// Of a try: runs after a command that succeeded, and decides.
        public var check: CommandLine?
        /// Of a try: in a fork that is dropped.
        public var dryRun: Bool?
        /// Of a race: how many forks.
        public var count: Int?
        /// Of a race: prints a number; the highest is the best.
        public var score: CommandLine?
        /// Of a race: the lowest is the best.
        public var lowest: Bool?
        /// Of a race: what the forks are made of; the state of now without.
        public var checkpoint: String?
        /// Of a race: puts the best in the sprite's place.
        public var promote: Bool?
        /// Of a bisection: the newest checkpoint known to be good.
        public var good: String?
        /// Of a bisection: one known to be bad.
        public var bad: String?
        /// Of a bisection: tests automatic checkpoints as well.
        public var includeAuto: Bool?

        /// A command.
        public init(command: CommandLine) { self.command = command }

        private enum CodingKeys: String, CodingKey {
            case command, env, dir, user, check, count, score, lowest, checkpoint, promote, good, bad
            case timeoutSeconds = "timeout_seconds"
            case dryRun = "dry_run"
            case includeAuto = "include_auto"
        }
    }

    /// One fork of a race.
    public struct Racer: Codable, Sendable {
        /// Its number, from 1.
        public var index: Int
        /// The command's exit code; nil if it was killed for taking too long.
        public var exitCode: Int?
        /// What the score command printed.
        public var score: Double?
        /// How long the command took.
        public var elapsedMilliseconds: Double
        /// Why it cannot win.
        public var problem: String?
        /// The end of what the command printed.
        public var output: String?
        /// What it changed.
        public var stat: DiffStat?
        /// The first of its changes.
        public var changes: [TreeChange]?

        /// A fork.
        public init(index: Int, elapsedMilliseconds: Double) {
            self.index = index
            self.elapsedMilliseconds = elapsedMilliseconds
        }

        private enum CodingKeys: String, CodingKey {
            case index, score, problem, output, stat, changes
            case exitCode = "exit_code"
            case elapsedMilliseconds = "elapsed_ms"
        }
    }

    /// One line of a try, race or bisection; which fields it has depends on `type`.
    public struct AttemptLine: Codable, Sendable {
        /// `info`, `stdout`, `stderr`, `exit`, `check_exit`, `change`, `racer`, `tested`, `complete` or `error`.
        public var type: String
        /// Of `info`, `stdout` and `stderr`: the text.
        public var data: String?
        /// Of `stdout` and `stderr`: the bytes, where they are not UTF-8.
        public var dataBase64: String?
        /// Of `exit`, `check_exit` and `tested`, and of the `complete` of a try: as a shell tells it.
        public var exitCode: Int?
        /// Of the `complete` of a try.
        public var checkExitCode: Int?
        /// Of `change`.
        public var change: TreeChange?
        /// Of `complete`: all changes, also those that were not listed.
        public var stat: DiffStat?
        /// Of the `complete` of a try: `kept`, `rolled_back` or `dropped`.
        public var outcome: String?
        /// Of `complete`: what keeps the state before; of a race what the forks were made of; of `tested` the subject.
        public var checkpointID: String?
        /// Of `complete`: what keeps the state that was replaced.
        public var replacedID: String?
        /// Of `racer`.
        public var racer: Racer?
        /// Of the `complete` of a race: numbers of the forks, best first.
        public var ranking: [Int]?
        /// Of the `complete` of a race: the checkpoint that is live now.
        public var promotedID: String?
        /// Of `tested`: `good`, `bad` or `skipped`.
        public var verdict: String?
        /// Of `tested`: how many may still be tested.
        public var left: Int?
        /// Of the `complete` of a bisection: one, or several if some could not be tested.
        public var firstBad: [String]?
        /// Of the `complete` of a bisection.
        public var lastGood: String?
        /// The sentence of an error.
        public var error: String?
        /// Its code.
        public var code: String?

        /// A line of a type.
        public init(type: String, data: String? = nil) {
            self.type = type
            self.data = data
        }

        private enum CodingKeys: String, CodingKey {
            case type, data, change, stat, outcome, racer, ranking, verdict, left, error, code
            case dataBase64 = "data_base64"
            case exitCode = "exit_code"
            case checkExitCode = "check_exit_code"
            case checkpointID = "checkpoint_id"
            case replacedID = "replaced_id"
            case promotedID = "promoted_id"
            case firstBad = "first_bad"
            case lastGood = "last_good"
        }
    }

    /// When checkpoints are made without anybody asking: `{"before_exec": true, "every_minutes": 10}`.
    public struct CheckpointsPolicy: Codable, Sendable, Hashable {
        /// Before each command that a client starts.
        public var beforeExec: Bool?
        /// So many minutes after the last one, while the sprite is used; 0 for never.
        public var everyMinutes: Double?

        /// A policy that makes none.
        public init() {}

        private enum CodingKeys: String, CodingKey {
            case beforeExec = "before_exec"
            case everyMinutes = "every_minutes"
        }

        /// Refuses keys that are not known, so that a misspelt one does not go unnoticed.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            try refuseUnknown(object, ["before_exec", "every_minutes"])
            beforeExec = try object.value("before_exec")
            everyMinutes = try object.value("every_minutes")
        }
    }
}
