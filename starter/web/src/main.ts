import type { TaskList } from "@board/contract";

const response = await fetch("/api/tasks");
const list = (await response.json()) as TaskList;
document.querySelector("#board")?.append(...list.tasks.map((task) => task.title));
