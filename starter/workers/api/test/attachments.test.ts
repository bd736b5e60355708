import { type Attachment, MAX_ATTACHMENT_BYTES, MAX_ATTACHMENTS_PER_TASK, type Problem, type Task } from "@board/contract";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Api } from "./memory";

let api: Api;
let task: string;

beforeEach(async () => {
  api = new Api();
  task = crypto.randomUUID();
  await api.ask("POST", "/api/tasks", { id: task, title: "with files" });
});

function attach(content: string | null, query: string, headers: Record<string, string> = {}): Promise<Response> {
  const bytes = content === null ? null : new TextEncoder().encode(content);
  const length = { "content-length": String(bytes?.length ?? 0) };
  const init = { method: "POST", body: bytes, headers: { ...length, ...headers } };
  return api.send(`/api/tasks/${task}/attachments${query}`, init);
}

async function attached(): Promise<Attachment> {
  const response = await attach("hello", "?name=greeting.txt", { "content-type": "text/plain" });
  return response.json();
}

async function refused(response: Response): Promise<readonly [number, string]> {
  return [response.status, (await response.json<Problem>()).error.code];
}

async function listed(): Promise<readonly string[]> {
  const response = await api.ask("GET", `/api/tasks/${task}/attachments`);
  return (await response.json<{ attachments: Attachment[] }>()).attachments.map(({ name }) => name);
}

describe("attaching", () => {
  test("stores the bytes, and shows the file with its task", async () => {
    await api.ask("GET", "/api/tasks");
    const response = await attach("hello", "?name=a%2Fgreeting.txt", { "content-type": "Text/Plain" });
    expect(response.status).toBe(201);
    const attachment = await response.json<Attachment>();
    expect(response.headers.get("location")).toBe(`/api/attachments/${attachment.id}`);
    expect(attachment).toMatchObject({ name: "greeting.txt", contentType: "text/plain", sizeBytes: 5 });
    expect([...api.files.objects.keys()]).toEqual([`attachments/${task}/${attachment.id}`]);
    const tasks = await (await api.ask("GET", "/api/tasks")).json<{ tasks: Task[] }>();
    expect(tasks.tasks[0]?.attachments).toEqual([attachment]);
    expect(await listed()).toEqual(["greeting.txt"]);
  });

  const tooLarge = String(MAX_ATTACHMENT_BYTES + 1);
  test.each([
    ["without a name", "x", "", {}, [422, "invalid"]],
    ["without a length", "x", "?name=a", { "content-length": "" }, [411, "length_required"]],
    ["of a negative length", "x", "?name=a", { "content-length": "-1" }, [411, "length_required"]],
    ["of no bytes", null, "?name=a", {}, [422, "invalid"]],
    ["that only claims to have bytes", null, "?name=a", { "content-length": "5" }, [422, "invalid"]],
    ["that is too large", "x", "?name=a", { "content-length": tooLarge }, [413, "invalid"]],
    ["of absurd length", "x", "?name=a", { "content-length": "9".repeat(40) }, [413, "invalid"]],
  ])("a file %s is refused, and leaves nothing", async (_, content, query, headers, expected) => {
    expect(await refused(await attach(content, query, headers))).toEqual(expected);
    expect(api.board.attachments.size + api.files.objects.size).toBe(0);
  });

  test("to a task that is not there is refused", async () => {
    await api.ask("DELETE", `/api/tasks/${task}`);
    expect(await refused(await attach("x", "?name=a"))).toEqual([404, "no_task"]);
  });

  test("has an end", async () => {
    for (let index = 0; index < MAX_ATTACHMENTS_PER_TASK; index += 1) await attach("x", `?name=${String(index)}`);
    expect(await refused(await attach("x", "?name=more"))).toEqual([409, "full"]);
    expect(await listed()).toHaveLength(MAX_ATTACHMENTS_PER_TASK);
  });

  test("that breaks off leaves neither an attachment nor its place", async () => {
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const response = await attach("hello", "?name=a", { "content-length": "6" });
    expect(response.status).toBe(500);
    await api.settled();
    expect(await listed()).toEqual([]);
    expect(api.board.attachments.size + api.board.abandoned.size).toBe(0);
  });

  test("to a task that is deleted meanwhile leaves no object", async () => {
    const put = api.files.put.bind(api.files);
    vi.spyOn(api.files, "put").mockImplementation(async (...file) => {
      await api.ask("DELETE", `/api/tasks/${task}`);
      await api.settled();
      await put(...file);
    });
    expect(await refused(await attach("hello", "?name=a"))).toEqual([404, "no_task"]);
    expect(api.files.objects.size).toBe(0);
  });
});

describe("downloading", () => {
  test("gives the bytes back, to be saved and never shown as a page", async () => {
    const { id } = await attached();
    const response = await api.ask("GET", `/api/attachments/${id}`);
    expect(await response.text()).toBe("hello");
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "content-type": "text/plain",
      "content-length": "5",
      "content-disposition": `attachment; filename="greeting.txt"; filename*=UTF-8''greeting.txt`,
      "content-security-policy": "default-src 'none'; sandbox",
      "x-content-type-options": "nosniff",
      etag: `"${id}"`,
    });
  });

  test("answers HEAD without reading the file", async () => {
    const { id } = await attached();
    const get = vi.spyOn(api.files, "get");
    const response = await api.ask("HEAD", `/api/attachments/${id}`);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-length")).toBe("5");
    expect(get).not.toHaveBeenCalled();
  });

  test("is spared to those who have the file", async () => {
    const { id } = await attached();
    const path = `/api/attachments/${id}`;
    const known = await api.send(path, { headers: { "if-none-match": `"other", "${id}"` } });
    expect(known.status).toBe(304);
    expect(await known.text()).toBe("");
    expect((await api.send(path, { headers: { "if-none-match": '"other"' } })).status).toBe(200);
  });

  test("says when the object is gone", async () => {
    const { id } = await attached();
    api.files.objects.clear();
    expect(await refused(await api.ask("GET", `/api/attachments/${id}`))).toEqual([404, "no_attachment"]);
  });
});

describe("deleting", () => {
  test("an attachment takes its object along, after the answer", async () => {
    const { id } = await attached();
    await api.ask("GET", "/api/tasks");
    expect((await api.ask("DELETE", `/api/attachments/${id}`)).status).toBe(204);
    await api.settled();
    expect(api.files.objects.size).toBe(0);
    expect(await listed()).toEqual([]);
    const tasks = await (await api.ask("GET", "/api/tasks")).json<{ tasks: Task[] }>();
    expect(tasks.tasks[0]?.attachments).toEqual([]);
  });

  test("a task takes its objects along", async () => {
    await attached();
    await api.ask("DELETE", `/api/tasks/${task}`);
    await api.settled();
    expect(api.files.objects.size).toBe(0);
  });

  test("an attachment at the same time as somebody else says that it is gone", async () => {
    const { id } = await attached();
    vi.spyOn(api.board, "removeAttachment").mockResolvedValueOnce(false);
    expect(await refused(await api.ask("DELETE", `/api/attachments/${id}`))).toEqual([404, "no_attachment"]);
  });
});

test.each(["GET", "DELETE"])("%s of an attachment that is not there says so", async (method) => {
  for (const id of [crypto.randomUUID(), "1"]) {
    expect(await refused(await api.ask(method, `/api/attachments/${id}`))).toEqual([404, "no_attachment"]);
  }
});
