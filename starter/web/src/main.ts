/** The page of the board: it asks the API for the tasks, draws them, and asks again every few seconds. */

import type { Column, Task } from "@board/contract";
import * as api from "./api";
import { drawBoard } from "./board";
import { type Draft, openDialog } from "./dialog";
import { byId, element } from "./dom";

const REFRESH_MS = 5000;
const NOTICE_MS = 6000;

let tasks: readonly Task[] = [];
let drawn = "";

const actions = {
  open: openTask,
  move: (task: Task, column: Column) => {
    void change(() => api.moveTask(task.id, { column, before: null }));
  },
  drop: (id: string, column: Column, before: string | null) => {
    void change(() => api.moveTask(id, { column, before }));
  },
};

byId("new-task").addEventListener("click", () => {
  // The id is the page's, so that a request which is sent twice makes one task.
  const id = newId();
  openDialog(null, {
    save: async (draft) => {
      await api.createTask({ id, title: draft.title, notes: draft.notes, column: draft.column });
      await attachAll(id, draft);
      await refresh();
    },
  });
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) void refresh().catch(notify);
});
setInterval(() => {
  if (!document.hidden) void refresh().catch(notify);
}, REFRESH_MS);
void refresh().catch(notify);
void drawLayers().catch(notify);

async function refresh(): Promise<void> {
  draw(await api.listTasks());
}

function draw(list: readonly Task[]): void {
  tasks = list;
  const now = JSON.stringify(list);
  if (now === drawn) return;
  drawn = now;
  drawBoard(byId("board"), tasks, actions);
}

async function change(work: () => Promise<readonly Task[]>): Promise<void> {
  try {
    draw(await work());
  } catch (error) {
    notify(error);
    await refresh().catch(notify);
  }
}

function openTask(task: Task): void {
  let version = task.version;
  openDialog(task, {
    save: async (draft) => {
      if (draft.title !== task.title || draft.notes !== task.notes) {
        version = (await api.editTask(task.id, { title: draft.title, notes: draft.notes, version })).version;
      }
      if (draft.column !== task.column) await api.moveTask(task.id, { column: draft.column, before: null });
      await attachAll(task.id, draft);
      await refresh();
    },
    remove: async () => {
      await api.deleteTask(task.id);
      await refresh();
    },
    removeAttachment: async (attachment) => {
      await api.deleteAttachment(attachment.id);
      await refresh();
    },
  });
}

async function attachAll(task: string, draft: Draft): Promise<void> {
  for (const file of draft.files) await api.attach(task, file);
}

/** A random UUID; `crypto.randomUUID` itself is missing on pages without TLS other than localhost. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** Which parts of the platform answered: the page is there even when one of them is not. */
async function drawLayers(): Promise<void> {
  const health = await api.health();
  const environment = byId("environment");
  environment.textContent = health.environment;
  environment.hidden = false;
  const layers = [
    ["Database", health.database],
    ["Cache", health.cache],
    ["Storage", health.storage],
  ] as const;
  byId("layers").replaceChildren(
    ...layers.map(([name, answers]) =>
      element("span", { class: answers ? "up" : "down" }, `${name} ${answers ? "answers" : "does not answer"}`),
    ),
  );
}

let hideNotice: ReturnType<typeof setTimeout> | undefined;

function notify(error: unknown): void {
  const notice = byId("notice");
  notice.textContent = error instanceof Error ? error.message : String(error);
  notice.classList.add("shown");
  clearTimeout(hideNotice);
  hideNotice = setTimeout(() => {
    notice.classList.remove("shown");
  }, NOTICE_MS);
}
