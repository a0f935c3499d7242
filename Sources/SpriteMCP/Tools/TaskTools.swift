// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

extension Toolbox {
    var taskTools: [Tool] {
        let name = Parameter.text("task", "Name of the task.", required: true, bytesMax: Limits.taskNameBytesMax)
        return [
            Tool(
                name: "list_tasks", title: "List tasks",
                about: "Lists what holds the sprite awake while nobody is connected. Changes nothing.", effect: .reads,
                parameters: spriteParameter
            ) { call in
                let tasks = try await world.control.tasks(try await sprite(call.arguments))
                return ToolResult(["tasks": .list(tasks.map(json))])
            },
            Tool(
                name: "set_task", title: "Begin or prolong a task",
                about: "Keeps the sprite awake for a while although nobody is connected; call again to prolong. "
                    + "Undo: delete_task.",
                effect: .adds, isIdempotent: true,
                parameters: spriteParameter + [
                    name, .number("seconds", 1...Limits.taskSecondsMax, Limits.taskSecondsDefault, "For how long."),
                ]
            ) { call in
                let task = try await world.control.setTask(
                    try await sprite(call.arguments), try SpriteTask.checkedName(call.arguments.text("task") ?? ""),
                    seconds: call.arguments.number("seconds") ?? Limits.taskSecondsDefault, isNew: false)
                return ToolResult(json(task))
            },
            Tool(
                name: "delete_task", title: "End a task",
                about: "Lets the sprite sleep again when it is unused. Undo: set_task.", effect: .adds,
                parameters: spriteParameter + [name]
            ) { call in
                let task = call.arguments.text("task") ?? ""
                try await world.control.endTask(try await sprite(call.arguments), task)
                return ToolResult(["deleted": task.json])
            },
        ]
    }

    private func json(_ task: SpriteTask) -> JSON {
        ["name": task.name.json, "started_at": task.startedAt.json, "expires_at": task.expiresAt.json]
    }
}
