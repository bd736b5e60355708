import { type Attachment, type Column, COLUMNS, MAX_NOTES_LENGTH, MAX_TITLE_LENGTH, type Task } from "@board/contract";
import { COLUMN_NAMES } from "./card";
import { element } from "./dom";

/** What a person typed. */
export interface Draft {
  readonly title: string;
  readonly notes: string;
  readonly column: Column;
  readonly files: readonly File[];
}

export interface DialogActions {
  /** Throws an `Error` whose message the dialog shows; the dialog closes otherwise. */
  save(draft: Draft): Promise<void>;
  remove?(): Promise<void>;
  removeAttachment?(attachment: Attachment): Promise<void>;
}

/** The form of a task: a new one where `task` is `null`. */
export function openDialog(task: Task | null, actions: DialogActions): void {
  const title = element("input", { name: "title", required: true, maxlength: String(MAX_TITLE_LENGTH), autocomplete: "off" });
  title.value = task?.title ?? "";
  const notes = element("textarea", { name: "notes", rows: "5", maxlength: String(MAX_NOTES_LENGTH) });
  notes.value = task?.notes ?? "";
  const column = element(
    "select",
    { name: "column" },
    ...COLUMNS.map((name) => element("option", { value: name, selected: name === (task?.column ?? "todo") }, COLUMN_NAMES[name])),
  );
  const files = element("input", { name: "files", type: "file", multiple: true });
  const wrong = element("p", { class: "wrong", role: "alert" });
  const save = element("button", { type: "submit", class: "primary" }, task === null ? "Add task" : "Save");

  // One thing at a time: buttons wait for what is under way, and a failure leaves the form as it is.
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    wrong.textContent = "";
    save.disabled = true;
    try {
      await work();
    } catch (error) {
      wrong.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      save.disabled = false;
    }
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    const draft: Draft = {
      title: title.value,
      notes: notes.value,
      column: COLUMNS.find((name) => name === column.value) ?? "todo",
      files: Array.from(files.files ?? []),
    };
    void attempt(async () => {
      await actions.save(draft);
      dialog.close();
    });
  };
  const cancel = (): void => {
    dialog.close();
  };
  const remove = (): void => {
    void attempt(async () => {
      await actions.remove?.();
      dialog.close();
    });
  };
  const form = element(
    "form",
    { submit },
    element("h2", {}, task === null ? "New task" : "Task"),
    element("label", {}, "Title", title),
    element("label", {}, "Notes", notes),
    element("label", {}, "Column", column),
    ...(task === null ? [] : [attachmentList(task, actions, attempt)]),
    element("label", {}, "Attach files", files),
    wrong,
    element(
      "div",
      { class: "actions" },
      ...(task === null ? [] : [element("button", { type: "button", class: "danger", click: remove }, "Delete")]),
      element("button", { type: "button", click: cancel }, "Cancel"),
      save,
    ),
  );
  const dialog = element("dialog", { class: "task" }, form);
  dialog.addEventListener("close", () => {
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
}

function attachmentList(task: Task, actions: DialogActions, attempt: (work: () => Promise<void>) => Promise<void>): HTMLElement {
  const items = task.attachments.map((attachment) => {
    const remove = (): void => {
      void attempt(async () => {
        await actions.removeAttachment?.(attachment);
        item.remove();
      });
    };
    const item = element(
      "li",
      {},
      element("a", { href: `/api/attachments/${attachment.id}`, download: attachment.name }, attachment.name),
      element("span", { class: "size" }, readableSize(attachment.sizeBytes)),
      element("button", { type: "button", "aria-label": `Remove ${attachment.name}`, click: remove }, "×"),
    );
    return item;
  });
  return element("ul", { class: "attachments" }, ...items);
}

function readableSize(bytes: number): string {
  if (bytes < 1024) return `${String(bytes)} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}
