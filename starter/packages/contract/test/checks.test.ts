import { describe, expect, test } from "vitest";
import {
  checkAttachmentSize,
  type Checked,
  checkFileName,
  checkNewTask,
  checkNotes,
  checkTaskEdit,
  checkTaskMove,
  checkTitle,
  contentType,
  isColumn,
  isUuid,
  MAX_ATTACHMENT_BYTES,
  MAX_FILE_NAME_LENGTH,
  MAX_NOTES_LENGTH,
  MAX_TITLE_LENGTH,
} from "../src/index";

const ID = "0190a4c4-7b5e-7cc1-9f3a-1c2d3e4f5a6b";

function value<Value>(checked: Checked<Value>): Value {
  if (!checked.ok) throw new Error(`${checked.field}: ${checked.message}`);
  return checked.value;
}

function field(checked: Checked<unknown>): string | null {
  return checked.ok ? null : checked.field;
}

describe("a title", () => {
  test("is one line without surrounding space or control characters", () => {
    expect(value(checkTitle("  Write \t the\nrelease\u0000 notes\u007f "))).toBe("Write the release notes");
  });

  test.each([undefined, null, 7, {}, "", " \n\t ", "\u0000\u001b"])("is not %j", (input) => {
    expect(field(checkTitle(input))).toBe("title");
  });

  test("is counted in characters as PostgreSQL counts them, not in UTF-16 units", () => {
    expect(value(checkTitle("🦀".repeat(MAX_TITLE_LENGTH)))).toHaveLength(2 * MAX_TITLE_LENGTH);
    expect(field(checkTitle("a".repeat(MAX_TITLE_LENGTH + 1)))).toBe("title");
  });
});

describe("notes", () => {
  test("keep their lines, with one kind of line end", () => {
    expect(value(checkNotes("\none\r\ntwo\rthree\u0007\n"))).toBe("one\ntwo\nthree");
  });

  test("may be empty, and have an end", () => {
    expect(value(checkNotes(""))).toBe("");
    expect(value(checkNotes("é".repeat(MAX_NOTES_LENGTH)))).toHaveLength(MAX_NOTES_LENGTH);
    expect(field(checkNotes("é".repeat(MAX_NOTES_LENGTH + 1)))).toBe("notes");
    expect(field(checkNotes(null))).toBe("notes");
  });
});

describe("a new task", () => {
  test("has an id of the client's, and otherwise needs a title only", () => {
    expect(value(checkNewTask({ id: ID, title: "x" }))).toEqual({ id: ID, title: "x", notes: "", column: "todo" });
  });

  test("carries nothing that the contract does not name", () => {
    const input = { id: ID, title: "x", notes: "y", column: "done", position: 1, version: 99 };
    expect(value(checkNewTask(input))).toEqual({ id: ID, title: "x", notes: "y", column: "done" });
  });

  test.each([
    [null, "title"],
    ["text", "title"],
    [[], "title"],
    [{ id: ID }, "title"],
    [{ id: ID, title: "x", notes: 1 }, "notes"],
    [{ id: ID, title: "x", column: "later" }, "column"],
    [{ title: "x" }, "id"],
    [{ id: ID.toUpperCase(), title: "x" }, "id"],
  ])("that is %j has a wrong %s", (input, wrong) => {
    expect(field(checkNewTask(input))).toBe(wrong);
  });
});

describe("an edit", () => {
  test("names the version that it was made from", () => {
    const edit = { title: "x", notes: "y", version: 3 };
    expect(value(checkTaskEdit({ ...edit, column: "done" }))).toEqual(edit);
  });

  test.each([
    [undefined, "title"],
    [{ title: "", notes: "", version: 1 }, "title"],
    [{ title: "x", version: 1 }, "notes"],
    [{ title: "x", notes: "" }, "version"],
    [{ title: "x", notes: "", version: 0 }, "version"],
    [{ title: "x", notes: "", version: 1.5 }, "version"],
    [{ title: "x", notes: "", version: "1" }, "version"],
  ])("that is %j has a wrong %s", (input, wrong) => {
    expect(field(checkTaskEdit(input))).toBe(wrong);
  });
});

describe("a move", () => {
  test("goes above a task, or to the end", () => {
    expect(value(checkTaskMove({ column: "doing", before: ID }))).toEqual({ column: "doing", before: ID });
    expect(value(checkTaskMove({ column: "doing", before: null }))).toEqual({ column: "doing", before: null });
    expect(value(checkTaskMove({ column: "doing" }))).toEqual({ column: "doing", before: null });
  });

  test.each([
    [{ before: ID }, "column"],
    [{ column: "doing", before: "first" }, "before"],
    [{ column: "doing", before: 0 }, "before"],
  ])("that is %j has a wrong %s", (input, wrong) => {
    expect(field(checkTaskMove(input))).toBe(wrong);
  });
});

describe("a file name", () => {
  test.each([
    ["report.pdf", "report.pdf"],
    ["../../etc/passwd", "passwd"],
    ["C:\\Users\\me\\Bilanz  2026.xlsx", "Bilanz 2026.xlsx"],
    ["a\r\nb: c", "a b: c"],
  ])("%j is kept as %j", (input, kept) => {
    expect(value(checkFileName(input))).toBe(kept);
  });

  test.each([null, "", "folder/", "..", " . ", "\u0000", "x".repeat(MAX_FILE_NAME_LENGTH + 1)])("is not %j", (input) => {
    expect(field(checkFileName(input))).toBe("name");
  });
});

describe("an attachment", () => {
  test("has from one byte to the limit", () => {
    expect(value(checkAttachmentSize(1))).toBe(1);
    expect(value(checkAttachmentSize(MAX_ATTACHMENT_BYTES))).toBe(MAX_ATTACHMENT_BYTES);
  });

  test.each([0, -1, 1.5, Number.NaN])("of %d bytes is empty", (bytes) => {
    expect(checkAttachmentSize(bytes)).toMatchObject({ ok: false, message: "The file is empty." });
  });

  test.each([MAX_ATTACHMENT_BYTES + 1, 1e30, Infinity])("of %d bytes is too large", (bytes) => {
    expect(checkAttachmentSize(bytes)).toMatchObject({ ok: false, message: "A file has at most 10 MB." });
  });

  test.each([
    ["text/plain", "text/plain"],
    [" Image/PNG ", "image/png"],
    ["text/plain; charset=utf-8", "text/plain; charset=utf-8"],
    [null, "application/octet-stream"],
    ["text", "application/octet-stream"],
    ["text/plain\r\nx: y", "application/octet-stream"],
    [`text/${"x".repeat(200)}`, "application/octet-stream"],
  ])("whose type is said to be %j is taken for %j", (input, taken) => {
    expect(contentType(input)).toBe(taken);
  });
});

test("guards know their own", () => {
  expect(isUuid(ID)).toBe(true);
  expect([ID.slice(1), `${ID}\n`, `{${ID}}`, 7, null].some(isUuid)).toBe(false);
  expect(["todo", "doing", "done"].every(isColumn)).toBe(true);
  expect(["Todo", "", null, 0].some(isColumn)).toBe(false);
});
