import { type Column, COLUMNS, type Task } from "@board/contract";
import { element } from "./dom";

export interface CardActions {
  open(task: Task): void;
  move(task: Task, column: Column): void;
}

export const COLUMN_NAMES: Readonly<Record<Column, string>> = { todo: "To do", doing: "Doing", done: "Done" };

/** One task of a column: open it, drag it, or move it a column on with the keyboard. */
export function card(task: Task, actions: CardActions): HTMLElement {
  const title = element(
    "button",
    {
      type: "button",
      class: "title",
      click: () => {
        actions.open(task);
      },
    },
    task.title,
  );
  const drag = (event: Event): void => {
    (event as DragEvent).dataTransfer?.setData("text/plain", task.id);
  };
  const made = element("article", { class: "card", draggable: "true", "data-task": task.id, dragstart: drag }, title);
  if (task.notes !== "") made.append(element("p", { class: "notes" }, task.notes));
  made.append(element("div", { class: "foot" }, attachments(task), ...steps(task, actions)));
  return made;
}

function attachments(task: Task): HTMLElement {
  const count = task.attachments.length;
  if (count === 0) return element("span");
  const first = task.attachments[0]?.name ?? "";
  const more = count === 1 ? "" : ` and ${String(count - 1)} more`;
  return element("span", { class: "attached", title: task.attachments.map(({ name }) => name).join("\n") }, first + more);
}

function steps(task: Task, actions: CardActions): HTMLElement[] {
  const index = COLUMNS.indexOf(task.column);
  return [
    { to: COLUMNS[index - 1], sign: "←" },
    { to: COLUMNS[index + 1], sign: "→" },
  ].flatMap(({ to, sign }) => {
    if (to === undefined) return [];
    const click = (): void => {
      actions.move(task, to);
    };
    const label = `Move “${task.title}” to ${COLUMN_NAMES[to]}`;
    return [element("button", { type: "button", class: "step", "aria-label": label, title: label, click }, sign)];
  });
}
