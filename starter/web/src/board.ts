import { type Column, COLUMNS, type Task } from "@board/contract";
import { card, type CardActions, COLUMN_NAMES } from "./card";
import { element } from "./dom";

export interface BoardActions extends CardActions {
  /** A card was dropped: `before` is the task it was dropped on, or `null` for the end of the column. */
  drop(id: string, column: Column, before: string | null): void;
}

/** Draws all columns anew, and gives the focus back to the card that had it. */
export function drawBoard(place: HTMLElement, tasks: readonly Task[], actions: BoardActions): void {
  const focused = document.activeElement?.closest<HTMLElement>("[data-task]")?.dataset["task"];
  place.replaceChildren(...COLUMNS.map((column) => drawColumn(column, tasks, actions)));
  place.setAttribute("aria-busy", "false");
  if (focused !== undefined) {
    place.querySelector<HTMLElement>(`[data-task="${CSS.escape(focused)}"] .title`)?.focus();
  }
}

function drawColumn(column: Column, tasks: readonly Task[], actions: BoardActions): HTMLElement {
  const mine = tasks.filter((task) => task.column === column).sort((a, b) => a.position - b.position);
  const over = (event: Event): void => {
    event.preventDefault();
  };
  const drop = (event: Event): void => {
    event.preventDefault();
    const id = (event as DragEvent).dataTransfer?.getData("text/plain");
    const target = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-task]") : null;
    const before = target?.dataset["task"] ?? null;
    if (id !== undefined && id !== "" && id !== before) actions.drop(id, column, before);
  };
  const name = COLUMN_NAMES[column];
  return element(
    "section",
    { class: `column ${column}`, "aria-label": name, "data-column": column, dragover: over, drop },
    element("h2", {}, name, element("span", { class: "count" }, String(mine.length))),
    ...mine.map((task) => card(task, actions)),
    ...(mine.length === 0 ? [element("p", { class: "empty" }, "Nothing here.")] : []),
  );
}
