/** The API of the board as functions; whatever goes wrong is an `Error` whose message is for people. */

import type { Attachment, NewTask, Problem, Task, TaskEdit, TaskList, TaskMove } from "@board/contract";

export interface Health {
  readonly ok: boolean;
  readonly environment: string;
  readonly database: boolean;
  readonly cache: boolean;
  readonly storage: boolean;
}

const TIMEOUT_MS = 15_000;
const UPLOAD_TIMEOUT_MS = 120_000;

export async function health(): Promise<Health> {
  // 503 says which layer is missing, in the same form.
  const response = await request("/api/health", {});
  return (await response.json()) as Health;
}

export async function listTasks(): Promise<readonly Task[]> {
  return (await call<TaskList>("GET", "/api/tasks")).tasks;
}

export function createTask(task: NewTask): Promise<Task> {
  return call("POST", "/api/tasks", task);
}

export function editTask(id: string, edit: TaskEdit): Promise<Task> {
  return call("PATCH", `/api/tasks/${id}`, edit);
}

export async function moveTask(id: string, move: TaskMove): Promise<readonly Task[]> {
  return (await call<TaskList>("POST", `/api/tasks/${id}/move`, move)).tasks;
}

export async function deleteTask(id: string): Promise<void> {
  await send(`/api/tasks/${id}`, { method: "DELETE" });
}

export async function attach(task: string, file: File): Promise<Attachment> {
  const response = await send(`/api/tasks/${task}/attachments?name=${encodeURIComponent(file.name)}`, {
    method: "POST",
    headers: { "content-type": file.type === "" ? "application/octet-stream" : file.type },
    body: file,
    signal: AbortSignal.timeout(UPLOAD_TIMEOUT_MS),
  });
  return (await response.json()) as Attachment;
}

export async function deleteAttachment(id: string): Promise<void> {
  await send(`/api/attachments/${id}`, { method: "DELETE" });
}

async function call<Value>(method: string, path: string, body?: unknown): Promise<Value> {
  const content =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const response = await send(path, { method, ...content });
  return (await response.json()) as Value;
}

async function send(path: string, init: RequestInit): Promise<Response> {
  const response = await request(path, init);
  if (response.ok) return response;
  const problem = (await response.json().catch(() => null)) as Partial<Problem> | null;
  throw new Error(problem?.error?.message ?? `The board answered ${String(response.status)}. Please try again.`);
}

async function request(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), ...init });
  } catch {
    throw new Error("The board cannot be reached. Check your connection, and try again.");
  }
}
