// The board from end to end, where it runs: its API over HTTP, then its page in a real browser.
// BASE_URL says where (a job of Astraler's pipeline knows it as ASTRALER_ENVIRONMENT_URL), CHROMIUM which browser,
// SCREENSHOT (optional) where a picture goes. Without a browser the page is not tested, and that is said.
import { existsSync } from "node:fs";
import { api } from "./api.mjs";
import { browse } from "./browser.mjs";
import { base } from "./target.mjs";

const named = process.env["CHROMIUM"] ?? process.env["PLAYWRIGHT_CHROMIUM"];
const usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const chromium = named === undefined || named === "" ? usual.find((path) => existsSync(path)) : named;

console.log(`the board at ${base}`);
await api();
if (chromium === undefined) {
  console.log("skipped - the page: no Chromium is installed here, and CHROMIUM names none");
} else {
  await browse(chromium, process.env["SCREENSHOT"]);
}
