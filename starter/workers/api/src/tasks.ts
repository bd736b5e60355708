import { checkNewTask, checkTaskEdit, checkTaskMove, isUuid, MAX_TASKS, type TaskList } from "@board/contract";
import { HttpError, json, type Parameters, type Route } from "@board/http";
import type { Context } from "./context";
import { readJson } from "./requests";

export const taskRoutes: readonly Route<Context>[] = [
  { method: "GET", path: "/api/tasks", handle: list },
  { method: "POST", path: "/api/tasks", handle: create },
  { method: "GET", path: "/api/tasks/:id", handle: show },
  { method: "PATCH", path: "/api/tasks/:id", handle: edit },
  { method: "POST", path: "/api/tasks/:id/move", handle: move },
  { method: "DELETE", path: "/api/tasks/:id", handle: remove },
];

async function list({ board, lists }: Context): Promise<Response> {
  const tasks: TaskList = { tasks: await lists.read(() => board.list()) };
  return json(tasks);
}

async function show({ board }: Context, parameters: Parameters): Promise<Response> {
  const task = await board.task(taskId(parameters));
  if (task === null) throw missingTask();
  return json(task);
}

async function create({ request, board, lists }: Context): Promise<Response> {
  const result = await board.create(await readJson(request, checkNewTask));
  if (result === "full") {
    const message = `A board has at most ${String(MAX_TASKS)} tasks. Delete one that is done.`;
    throw new HttpError(409, "full", message);
  }
  await lists.invalidate();
  return json(result.task, result.created ? 201 : 200, { location: `/api/tasks/${result.task.id}` });
}

async function edit({ request, board, lists }: Context, parameters: Parameters): Promise<Response> {
  const result = await board.edit(taskId(parameters), await readJson(request, checkTaskEdit));
  if (result === "missing") throw missingTask();
  if (result === "outdated") {
    throw new HttpError(409, "outdated", "Somebody else has changed this task meanwhile. Look at it, and try again.");
  }
  await lists.invalidate();
  return json(result);
}

async function move({ request, board, lists }: Context, parameters: Parameters): Promise<Response> {
  const moved = await board.move(taskId(parameters), await readJson(request, checkTaskMove));
  if (moved === "missing") throw missingTask();
  await lists.invalidate();
  const tasks: TaskList = { tasks: moved };
  return json(tasks);
}

async function remove({ board, lists, files, defer }: Context, parameters: Parameters): Promise<Response> {
  if (!(await board.remove(taskId(parameters)))) throw missingTask();
  await lists.invalidate();
  defer(board.sweep((keys) => files.remove(keys)));
  return new Response(null, { status: 204 });
}

export function taskId(parameters: Parameters): string {
  const id = parameters["id"];
  if (!isUuid(id)) throw missingTask();
  return id;
}

export function missingTask(): HttpError {
  return new HttpError(404, "no_task", "This task is not there any more.");
}
