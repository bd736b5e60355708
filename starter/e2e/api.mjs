// The API over HTTP: what a program gets that speaks to the board, from PostgreSQL, Redis and object storage.
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { ask, step } from "./target.mjs";

export async function api() {
  const id = randomUUID();
  const title = `Check the release ${id.slice(0, 8)}`;
  const file = { name: "Prüfung 1.bin", bytes: randomBytes(70_000) };
  /** @type {string} */
  let attachment;

  await step("every layer answers", async () => {
    const health = await ask("GET", "/api/health");
    assert.equal(health.status, 200);
    const { database, cache, storage } = health.json();
    assert.deepEqual({ database, cache, storage }, { database: true, cache: true, storage: true });
  });

  await step("a task is made once, however often it is sent", async () => {
    const task = { id, title, notes: "<b>text</b>", column: "todo" };
    assert.equal((await ask("POST", "/api/tasks", task)).status, 201);
    assert.equal((await ask("POST", "/api/tasks", task)).status, 200);
    const listed = await list();
    assert.equal(listed.length, 1);
    assert.equal(listed[0].notes, task.notes);
  });

  await step("an attachment comes back byte by byte", async () => {
    const path = `/api/tasks/${id}/attachments?name=${encodeURIComponent(file.name)}`;
    const added = await ask("POST", path, file.bytes, { "content-type": "application/octet-stream" });
    assert.equal(added.status, 201, added.body.toString());
    attachment = `/api/attachments/${added.json().id}`;
    const got = await ask("GET", attachment);
    assert.equal(got.status, 200);
    assert.deepEqual(got.body, file.bytes);
    assert.deepEqual((await list())[0].attachments.map((/** @type {any} */ one) => one.name), [file.name]);
  });

  await step("a task moves, and an edit of an older version is refused", async () => {
    const moved = await ask("POST", `/api/tasks/${id}/move`, { column: "done", before: null });
    assert.equal(moved.status, 200, moved.body.toString());
    const [{ version, column }] = await list();
    assert.equal(column, "done");
    const edit = { title: `${title}!`, notes: "", version };
    assert.equal((await ask("PATCH", `/api/tasks/${id}`, edit)).status, 200);
    assert.equal((await ask("PATCH", `/api/tasks/${id}`, edit)).status, 409);
  });

  await step("what is wrong is refused in words", async () => {
    const empty = await ask("POST", "/api/tasks", { id: randomUUID(), title: "   ", notes: "", column: "todo" });
    assert.equal(empty.status, 422);
    assert.match(empty.json().error.message, /title/);
    assert.equal((await ask("GET", "/api/tasks/not-one")).status, 404);
  });

  await step("a task goes with its attachment", async () => {
    assert.equal((await ask("DELETE", `/api/tasks/${id}`)).status, 204);
    assert.deepEqual(await list(), []);
    assert.equal((await ask("GET", attachment)).status, 404);
  });

  /** What the list says of this task. */
  async function list() {
    const answer = await ask("GET", "/api/tasks");
    assert.equal(answer.status, 200);
    return answer.json().tasks.filter((/** @type {any} */ task) => task.id === id);
  }
}
