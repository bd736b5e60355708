/** The API's stores in memory, behind the interfaces of `context.ts`; the real ones are tested end to end. */

import { type Attachment, MAX_ATTACHMENTS_PER_TASK, MAX_TASKS, type Task } from "@board/contract";
import { dispatch } from "@board/http";
import { attachmentRoutes } from "../src/attachments";
import type { Board, Files, ListCache, NewAttachment, StoredAttachment } from "../src/context";
import { healthRoutes } from "../src/health";
import { append, place } from "../src/order";
import { taskRoutes } from "../src/tasks";

const ROUTES = [...healthRoutes, ...taskRoutes, ...attachmentRoutes];
const NOW = "2026-11-01T12:00:00.000Z";

type Row = Omit<Task, "attachments">;
type File = NewAttachment & { stored: boolean };

export class MemoryBoard implements Board {
  readonly rows = new Map<string, Row>();
  readonly attachments = new Map<string, File>();
  readonly abandoned = new Set<string>();

  check(): Promise<void> {
    return Promise.resolve();
  }

  list(): Promise<readonly Task[]> {
    const rows = [...this.rows.values()].sort((a, b) => a.position - b.position);
    return Promise.resolve(rows.map((row) => this.whole(row)));
  }

  task(id: string): Promise<Task | null> {
    const row = this.rows.get(id);
    return Promise.resolve(row === undefined ? null : this.whole(row));
  }

  create(input: Parameters<Board["create"]>[0]): ReturnType<Board["create"]> {
    const present = this.rows.get(input.id);
    if (present !== undefined) return Promise.resolve({ created: false, task: this.whole(present) });
    if (this.rows.size >= MAX_TASKS) return Promise.resolve("full");
    const last = this.column(input.column).at(-1)?.position ?? null;
    const row = { ...input, position: append(last), version: 1, createdAt: NOW, updatedAt: NOW };
    this.rows.set(row.id, row);
    return Promise.resolve({ created: true, task: this.whole(row) });
  }

  edit(id: string, { title, notes, version }: Parameters<Board["edit"]>[1]): ReturnType<Board["edit"]> {
    const row = this.rows.get(id);
    if (row === undefined) return Promise.resolve("missing");
    if (row.version !== version) return Promise.resolve("outdated");
    const edited = { ...row, title, notes, version: version + 1 };
    this.rows.set(id, edited);
    return Promise.resolve(this.whole(edited));
  }

  move(id: string, move: Parameters<Board["move"]>[1]): ReturnType<Board["move"]> {
    if (!this.rows.has(id)) return Promise.resolve("missing");
    const moved = place(this.column(move.column), id, move.before).flatMap(({ id, position }) => {
      const row = this.rows.get(id);
      if (row === undefined) return [];
      const placed = { ...row, column: move.column, position };
      this.rows.set(id, placed);
      return [this.whole(placed)];
    });
    return Promise.resolve(moved);
  }

  remove(id: string): Promise<boolean> {
    for (const file of this.attachments.values()) {
      if (file.taskId === id) this.abandon(file);
    }
    return Promise.resolve(this.rows.delete(id));
  }

  attachment(id: string): Promise<StoredAttachment | null> {
    const file = this.attachments.get(id);
    if (file?.stored !== true) return Promise.resolve(null);
    return Promise.resolve({ ...seen(file), objectKey: file.objectKey });
  }

  beginAttachment(input: NewAttachment): ReturnType<Board["beginAttachment"]> {
    if (!this.rows.has(input.taskId)) return Promise.resolve("missing");
    const mine = [...this.attachments.values()].filter((file) => file.taskId === input.taskId);
    if (mine.length >= MAX_ATTACHMENTS_PER_TASK) return Promise.resolve("full");
    this.attachments.set(input.id, { ...input, stored: false });
    return Promise.resolve("begun");
  }

  finishAttachment(id: string): Promise<Attachment | null> {
    const file = this.attachments.get(id);
    if (file === undefined) return Promise.resolve(null);
    file.stored = true;
    return Promise.resolve(seen(file));
  }

  removeAttachment(id: string): Promise<boolean> {
    const file = this.attachments.get(id);
    if (file === undefined) return Promise.resolve(false);
    this.abandon(file);
    return Promise.resolve(true);
  }

  async sweep(remove: (objectKeys: string[]) => Promise<void>): Promise<void> {
    const keys = [...this.abandoned];
    await remove(keys);
    for (const key of keys) this.abandoned.delete(key);
  }

  private abandon(file: File): void {
    this.attachments.delete(file.id);
    this.abandoned.add(file.objectKey);
  }

  private column(column: Task["column"]): readonly Row[] {
    return [...this.rows.values()].filter((row) => row.column === column).sort((a, b) => a.position - b.position);
  }

  private whole(row: Row): Task {
    const files = [...this.attachments.values()].filter((file) => file.taskId === row.id && file.stored);
    return { ...row, attachments: files.map(seen) };
  }
}

function seen({ id, name, contentType, sizeBytes }: File): Attachment {
  return { id, name, contentType, sizeBytes, createdAt: NOW };
}

/** Remembers the list until it is told that it is outdated: a handler that forgets to tell shows old tasks. */
export class MemoryLists implements ListCache {
  private tasks: readonly Task[] | null = null;

  check(): Promise<void> {
    return Promise.resolve();
  }

  async read(load: () => Promise<readonly Task[]>): Promise<readonly Task[]> {
    return (this.tasks ??= await load());
  }

  invalidate(): Promise<void> {
    this.tasks = null;
    return Promise.resolve();
  }
}

export class MemoryFiles implements Files {
  readonly objects = new Map<string, { readonly bytes: Uint8Array; readonly contentType: string }>();

  check(): Promise<void> {
    return Promise.resolve();
  }

  async put(key: string, body: ReadableStream<Uint8Array>, sizeBytes: number, contentType: string): Promise<void> {
    const bytes = new Uint8Array(await new Response(body).arrayBuffer());
    if (bytes.length !== sizeBytes) throw new Error(`${String(bytes.length)} bytes instead of ${String(sizeBytes)}`);
    this.objects.set(key, { bytes, contentType });
  }

  get(key: string): Promise<ReadableStream<Uint8Array> | null> {
    const object = this.objects.get(key);
    return Promise.resolve(object === undefined ? null : new Blob([object.bytes]).stream());
  }

  remove(keys: string[]): Promise<void> {
    for (const key of keys) this.objects.delete(key);
    return Promise.resolve();
  }
}

/** The routes of the API over these stores. */
export class Api {
  readonly board = new MemoryBoard();
  readonly lists = new MemoryLists();
  readonly files = new MemoryFiles();
  private readonly deferred: Promise<unknown>[] = [];

  ask(method: string, path: string, body?: unknown): Promise<Response> {
    const content =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    return this.send(path, { method, ...content });
  }

  send(path: string, init: RequestInit): Promise<Response> {
    const request = new Request(`https://board.example${path}`, init);
    return dispatch(ROUTES, request, {
      request,
      environment: "test",
      board: this.board,
      lists: this.lists,
      files: this.files,
      defer: (work) => this.deferred.push(work),
    });
  }

  /** What goes on after an answer is done. */
  async settled(): Promise<void> {
    await Promise.all(this.deferred.splice(0));
  }
}
