import type { Attachment, NewTask, Task, TaskEdit, TaskMove } from "@board/contract";

/** What a handler works with: one request, and the three stores behind narrow interfaces. */
export interface Context {
  readonly request: Request;
  readonly environment: string;
  readonly board: Board;
  readonly lists: ListCache;
  readonly files: Files;
  /** Work that goes on after the answer. */
  readonly defer: (work: Promise<unknown>) => void;
}

export interface StoredAttachment extends Attachment {
  readonly objectKey: string;
}

export interface NewAttachment {
  readonly id: string;
  readonly taskId: string;
  readonly name: string;
  readonly contentType: string;
  readonly sizeBytes: number;
  readonly objectKey: string;
}

/** The database. */
export interface Board {
  check(): Promise<void>;
  list(): Promise<readonly Task[]>;
  task(id: string): Promise<Task | null>;
  /** `created` is false when a task of this id is there already: the request came twice. */
  create(task: NewTask): Promise<{ readonly created: boolean; readonly task: Task } | "full">;
  edit(id: string, edit: TaskEdit): Promise<Task | "missing" | "outdated">;
  /** Every task whose place changed: the one that moves and, when a column had no gap left, its neighbours. */
  move(id: string, move: TaskMove): Promise<readonly Task[] | "missing">;
  remove(id: string): Promise<boolean>;
  attachment(id: string): Promise<StoredAttachment | null>;
  /** Reserves a place; nobody sees the attachment before `finishAttachment`. */
  beginAttachment(attachment: NewAttachment): Promise<"begun" | "missing" | "full">;
  /** `null` when the task was deleted meanwhile. */
  finishAttachment(id: string): Promise<Attachment | null>;
  removeAttachment(id: string): Promise<boolean>;
  /** Hands over objects that no attachment names any more, and forgets them once `remove` succeeded. */
  sweep(remove: (objectKeys: string[]) => Promise<void>): Promise<void>;
}

/** The list of all tasks, remembered. */
export interface ListCache {
  check(): Promise<void>;
  read(load: () => Promise<readonly Task[]>): Promise<readonly Task[]>;
  invalidate(): Promise<void>;
}

/** Object storage. */
export interface Files {
  check(): Promise<void>;
  /** Fails when the stream has not exactly `sizeBytes`. */
  put(key: string, body: ReadableStream<Uint8Array>, sizeBytes: number, contentType: string): Promise<void>;
  get(key: string): Promise<ReadableStream<Uint8Array> | null>;
  remove(keys: string[]): Promise<void>;
}
