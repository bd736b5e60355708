import { MAX_TASKS, type Problem, type Task, type TaskList } from "@board/contract";
import { beforeEach, describe, expect, test } from "vitest";
import { Api } from "./memory";

let api: Api;

beforeEach(() => {
  api = new Api();
});

async function body<Value>(response: Promise<Response> | Response): Promise<Value> {
  return (await response).json<Value>();
}

async function create(title: string, column = "todo"): Promise<Task> {
  return body(api.ask("POST", "/api/tasks", { id: crypto.randomUUID(), title, column }));
}

async function titles(): Promise<readonly string[]> {
  return (await body<TaskList>(api.ask("GET", "/api/tasks"))).tasks.map(({ title }) => title);
}

async function refused(response: Promise<Response>): Promise<readonly [number, string, string?]> {
  const { error } = await body<Problem>(await response);
  const { status } = await response;
  return error.field === undefined ? [status, error.code] : [status, error.code, error.field];
}

describe("creating a task", () => {
  test("answers with the task and where it is", async () => {
    const id = crypto.randomUUID();
    const response = await api.ask("POST", "/api/tasks", { id, title: " Ship it ", column: "doing" });
    expect(response.status).toBe(201);
    expect(response.headers.get("location")).toBe(`/api/tasks/${id}`);
    const task = await body<Task>(response);
    expect(task).toMatchObject({ id, title: "Ship it", notes: "", column: "doing", version: 1, attachments: [] });
    expect(await body(api.ask("GET", `/api/tasks/${id}`))).toEqual(task);
  });

  test("twice makes one task", async () => {
    const task = { id: crypto.randomUUID(), title: "Ship it" };
    const statuses = [await api.ask("POST", "/api/tasks", task), await api.ask("POST", "/api/tasks", task)];
    expect(statuses.map(({ status }) => status)).toEqual([201, 200]);
    expect(await titles()).toEqual(["Ship it"]);
  });

  test("shows in a list that was read before", async () => {
    expect(await titles()).toEqual([]);
    await create("one");
    expect(await titles()).toEqual(["one"]);
    await create("two");
    expect(await titles()).toEqual(["one", "two"]);
  });

  test("has an end", async () => {
    for (let index = 0; index < MAX_TASKS; index += 1) await create(String(index));
    const one = { id: crypto.randomUUID(), title: "one too many" };
    expect(await refused(api.ask("POST", "/api/tasks", one))).toEqual([409, "full"]);
  });
});

describe("a body", () => {
  const headers = { "content-type": "application/json" };

  test.each([
    ["no JSON by its type", { body: "{}" }, [415, "not_json"]],
    ["JSON by a longer name", { body: "{}", headers: { "content-type": "application/jsonp" } }, [415, "not_json"]],
    ["no JSON", { body: "{", headers }, [400, "not_json"]],
    ["nothing", { headers }, [400, "not_json"]],
    ["no UTF-8", { body: new Uint8Array([0x22, 0xff, 0x22]), headers }, [400, "not_json"]],
    ["too large", { body: JSON.stringify("x".repeat(65_536)), headers }, [413, "too_large"]],
    ["JSON, but no task", { body: "[]", headers }, [422, "invalid", "title"]],
  ])("that is %s is refused", async (_, init, expected) => {
    expect(await refused(api.send("/api/tasks", { method: "POST", ...init }))).toEqual(expected);
    expect(api.board.rows.size).toBe(0);
  });

  test("may name its character set, and cut characters anywhere", async () => {
    const bytes = new TextEncoder().encode(JSON.stringify({ id: crypto.randomUUID(), title: "Grüße 🦀" }));
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
        controller.close();
      },
    });
    const type = { "content-type": "Application/JSON; charset=utf-8" };
    const init = { method: "POST", body: stream, headers: type, duplex: "half" };
    expect((await api.send("/api/tasks", init)).status).toBe(201);
    expect(await titles()).toEqual(["Grüße 🦀"]);
  });
});

describe("editing a task", () => {
  test("makes the next version, which the list shows", async () => {
    const task = await create("old");
    await titles();
    const edit = { title: "new", notes: "why", version: task.version };
    const edited = await body<Task>(api.ask("PATCH", `/api/tasks/${task.id}`, edit));
    expect(edited).toMatchObject({ title: "new", notes: "why", version: 2 });
    expect(await titles()).toEqual(["new"]);
  });

  test("does not overwrite what somebody else has written meanwhile", async () => {
    const task = await create("old");
    const path = `/api/tasks/${task.id}`;
    await api.ask("PATCH", path, { title: "theirs", notes: "", version: 1 });
    expect(await refused(api.ask("PATCH", path, { title: "mine", notes: "", version: 1 }))).toEqual([409, "outdated"]);
    expect(await titles()).toEqual(["theirs"]);
  });

  test("refuses what is no title", async () => {
    const task = await create("old");
    const edit = { title: " ", notes: "", version: 1 };
    expect(await refused(api.ask("PATCH", `/api/tasks/${task.id}`, edit))).toEqual([422, "invalid", "title"]);
  });
});

describe("moving a task", () => {
  test("puts it above another, and answers with what has a new place", async () => {
    const [one, , three] = [await create("one"), await create("two"), await create("three")];
    expect(await titles()).toEqual(["one", "two", "three"]);
    const move = { column: "todo", before: one.id };
    const moved = await body<TaskList>(api.ask("POST", `/api/tasks/${three.id}/move`, move));
    expect(moved.tasks.map(({ id }) => id)).toEqual([three.id]);
    expect(await titles()).toEqual(["three", "one", "two"]);
  });

  test("puts it at the end of another column, and leaves its version", async () => {
    const task = await create("one");
    const moved = await body<TaskList>(api.ask("POST", `/api/tasks/${task.id}/move`, { column: "done" }));
    expect(moved.tasks).toMatchObject([{ id: task.id, column: "done", version: 1 }]);
  });
});

describe("deleting a task", () => {
  test("takes it from the list", async () => {
    const task = await create("one");
    await titles();
    const response = await api.ask("DELETE", `/api/tasks/${task.id}`);
    expect(response.status).toBe(204);
    expect(await titles()).toEqual([]);
    expect(await refused(api.ask("GET", `/api/tasks/${task.id}`))).toEqual([404, "no_task"]);
  });
});

test.each([
  ["GET", "", undefined],
  ["PATCH", "", { title: "x", notes: "", version: 1 }],
  ["POST", "/move", { column: "done" }],
  ["DELETE", "", undefined],
  ["GET", "/attachments", undefined],
])("%s of a task%s that is not there says so", async (method, path, input) => {
  for (const id of [crypto.randomUUID(), "1", "..%2f"]) {
    expect(await refused(api.ask(method, `/api/tasks/${id}${path}`, input))).toEqual([404, "no_task"]);
  }
});
