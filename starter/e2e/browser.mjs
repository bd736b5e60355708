// The page in a real browser, through the edge: add a task with an attachment, reload, see it, move it, delete it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";
import { ask, base, step } from "./target.mjs";

/**
 * @param {string} executablePath the Chromium to start
 * @param {string | undefined} screenshot where a picture goes
 */
export async function browse(executablePath, screenshot) {
  // Its own sandbox starts neither for root nor inside of another one, and so not in most jobs.
  const inside = process.getuid?.() === 0 || process.env["CI"] !== undefined;
  const browser = await chromium.launch({
    executablePath,
    args: inside ? ["--no-sandbox", "--disable-dev-shm-usage"] : [],
  });
  try {
    await use(browser, screenshot);
  } finally {
    await browser.close();
  }
}

/**
 * @param {import("playwright-core").Browser} browser
 * @param {string | undefined} screenshot
 */
async function use(browser, screenshot) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 600 }, acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  /** @type {string[]} */
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  // Boards are shared: a title of its own lets a run stand beside other tasks, and beside other runs.
  const title = `Write the release notes ${randomUUID().slice(0, 8)}`;
  const notes = "What is new & what breaks; thank <everybody>.";
  const file = { name: "Änderungen 1.0.txt", mimeType: "text/plain", buffer: Buffer.from(`changes of ${title}\n`) };

  await page.goto(base);
  await page.getByText("Database answers").waitFor();
  await page.getByText("Cache answers").waitFor();
  await page.getByText("Storage answers").waitFor();
  await step("adds a task with an attachment", async () => {
    await page.getByRole("button", { name: "New task" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Title").fill(title);
    await dialog.getByLabel("Notes").fill(notes);
    await dialog.getByLabel("Attach files").setInputFiles(file);
    await dialog.getByRole("button", { name: "Add task" }).click();
    await dialog.waitFor({ state: "detached" });
    await card("todo").waitFor();
  });

  await step("sees both after a reload", async () => {
    await page.reload();
    await card("todo").waitFor();
    assert.equal(await card("todo").locator(".notes").textContent(), notes, "notes are text, never markup");
    assert.equal(await card("todo").locator(".attached").textContent(), file.name);
  });

  await step("gets the attachment back byte by byte", async () => {
    await card("todo").getByRole("button", { name: title, exact: true }).click();
    const download = page.waitForEvent("download");
    await page.getByRole("dialog").getByRole("link", { name: file.name }).click();
    const saved = await download;
    assert.equal(saved.suggestedFilename(), file.name);
    assert.deepEqual(await readFile(await saved.path()), file.buffer);
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  });

  await step("moves the task, and another visitor sees it there", async () => {
    await card("todo").getByRole("button", { name: /to Doing$/ }).click();
    await card("doing").waitFor();
    const visitor = await (await browser.newContext()).newPage();
    await visitor.goto(base);
    await visitor.locator(`[data-column=doing] [data-task]`, { hasText: title }).waitFor();
    await visitor.context().close();
  });

  if (screenshot !== undefined) {
    await fill();
    await page.reload();
    await card("doing").waitFor();
    await page.getByText("Storage answers").waitFor();
    await page.screenshot({ path: screenshot });
  }

  await step("deletes the task with its attachment", async () => {
    await card("doing").getByRole("button", { name: title, exact: true }).click();
    const link = await page.getByRole("dialog").getByRole("link", { name: file.name }).getAttribute("href");
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await card("doing").waitFor({ state: "detached" });
    assert.equal((await ask("GET", link ?? "")).status, 404);
  });
  assert.deepEqual(errors, [], "the browser's console has errors");

  /** @param {string} column */
  function card(column) {
    return page.locator(`[data-column=${column}] [data-task]`, { hasText: title });
  }

  /** More tasks, so that the picture shows a board in use. */
  async function fill() {
    /** @type {[string, string, string][]} */
    const tasks = [
      ["Sign-in by e-mail link", "Magic links first, passkeys after the beta.", "todo"],
      ["Import from CSV", "The sales team has 4,000 rows to bring along.", "todo"],
      ["Dark mode", "", "done"],
      ["Attachments up to 10 MB", "Streamed to object storage as they arrive.", "done"],
    ];
    for (const [title, notes, column] of tasks) {
      const answer = await ask("POST", "/api/tasks", { id: randomUUID(), title, notes, column });
      assert.equal(answer.status, 201);
    }
  }
}
