import { MAX_ATTACHMENT_BYTES, MAX_FILE_NAME_LENGTH, MAX_NOTES_LENGTH, MAX_TITLE_LENGTH } from "./limits";
import { type Column, isColumn, type NewTask, type TaskEdit, type TaskMove } from "./nouns";

/** A value, or what is wrong with the input and where. */
export type Checked<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly field: string; readonly message: string };

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** RFC 9110, section 8.3.1, without quoted parameters. */
const CONTENT_TYPE = /^[\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+(?:\s*;\s*[\w!#$%&'*+.^`|~-]+=[\w!#$%&'*+.^`|~-]+)*$/;
// Control characters other than tab and line feed: PostgreSQL refuses NUL, and nobody means the others.
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;

export function isUuid(value: unknown): value is string {
  return typeof value === "string" && UUID.test(value);
}

export function checkNewTask(input: unknown): Checked<NewTask> {
  const fields = record(input);
  const title = checkTitle(fields["title"]);
  if (!title.ok) return title;
  const notes = checkNotes(fields["notes"] ?? "");
  if (!notes.ok) return notes;
  const column = checkColumn(fields["column"] ?? "todo");
  if (!column.ok) return column;
  const id = checkId("id", fields["id"]);
  if (!id.ok) return id;
  return right({ id: id.value, title: title.value, notes: notes.value, column: column.value });
}

export function checkTaskEdit(input: unknown): Checked<TaskEdit> {
  const fields = record(input);
  const title = checkTitle(fields["title"]);
  if (!title.ok) return title;
  const notes = checkNotes(fields["notes"]);
  if (!notes.ok) return notes;
  const version = fields["version"];
  if (typeof version !== "number" || !Number.isInteger(version) || version < 1) {
    return wrong("version", "An edit names the version of the task that it was made from.");
  }
  return right({ title: title.value, notes: notes.value, version });
}

export function checkTaskMove(input: unknown): Checked<TaskMove> {
  const fields = record(input);
  const column = checkColumn(fields["column"]);
  if (!column.ok) return column;
  const before = fields["before"] ?? null;
  if (before === null) return right({ column: column.value, before });
  const id = checkId("before", before);
  return id.ok ? right({ column: column.value, before: id.value }) : id;
}

export function checkTitle(input: unknown): Checked<string> {
  if (typeof input !== "string") return wrong("title", "A task needs a title.");
  const title = input.replace(CONTROL, "").replace(/\s+/g, " ").trim();
  if (title === "") return wrong("title", "A task needs a title.");
  if (length(title) > MAX_TITLE_LENGTH) {
    return wrong("title", `A title has at most ${String(MAX_TITLE_LENGTH)} characters.`);
  }
  return right(title);
}

export function checkNotes(input: unknown): Checked<string> {
  if (typeof input !== "string") return wrong("notes", "Notes are text.");
  const notes = input.replace(/\r\n?/g, "\n").replace(CONTROL, "").trim();
  if (length(notes) > MAX_NOTES_LENGTH) {
    return wrong("notes", `Notes have at most ${String(MAX_NOTES_LENGTH)} characters.`);
  }
  return right(notes);
}

/** The last part of a path, without what a file system or a header could stumble over. */
export function checkFileName(input: unknown): Checked<string> {
  if (typeof input !== "string") return wrong("name", "An attachment needs a file name.");
  const last = input.split(/[/\\]/).at(-1) ?? "";
  const name = last.replace(CONTROL, "").replace(/\s+/g, " ").trim();
  if (name === "" || name === "." || name === "..") return wrong("name", "An attachment needs a file name.");
  if (length(name) > MAX_FILE_NAME_LENGTH) {
    return wrong("name", `A file name has at most ${String(MAX_FILE_NAME_LENGTH)} characters.`);
  }
  return right(name);
}

export function checkAttachmentSize(bytes: number): Checked<number> {
  if (bytes > MAX_ATTACHMENT_BYTES) {
    return wrong("file", `A file has at most ${String(MAX_ATTACHMENT_BYTES / 1024 / 1024)} MB.`);
  }
  if (!Number.isInteger(bytes) || bytes < 1) return wrong("file", "The file is empty.");
  return right(bytes);
}

/** What a client says that a file is; anything that is no media type is plain bytes. */
export function contentType(input: string | null): string {
  const type = (input ?? "").trim().toLowerCase();
  return type.length <= 200 && CONTENT_TYPE.test(type) ? type : "application/octet-stream";
}

function checkColumn(input: unknown): Checked<Column> {
  return isColumn(input) ? right(input) : wrong("column", "A column is todo, doing or done.");
}

function checkId(field: string, input: unknown): Checked<string> {
  return isUuid(input) ? right(input) : wrong(field, `“${field}” is the id of a task: a UUID in lower case.`);
}

/** Characters as PostgreSQL counts them: code points, not UTF-16 units. */
function length(text: string): number {
  return Array.from(text).length;
}

function record(input: unknown): Readonly<Record<string, unknown>> {
  return typeof input === "object" && input !== null ? (input as Record<string, unknown>) : {};
}

function right<Value>(value: Value): Checked<Value> {
  return { ok: true, value };
}

function wrong(field: string, message: string): { readonly ok: false; readonly field: string; readonly message: string } {
  return { ok: false, field, message };
}
