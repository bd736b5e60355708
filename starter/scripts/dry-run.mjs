// What Cloudflare would get: `wrangler deploy --dry-run` on every worker and on the page, without an account.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

const WRANGLER = "wrangler@4.164.0";
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
// This wrangler wants Node.js 22.12; where an older one is installed, npm brings a newer one for this run only.
const node = major > 22 || (major === 22 && minor >= 12) ? [] : ["--package", "node@24"];

for (const folder of ["workers/api", "workers/auth", "workers/webhooks", "web"]) {
  console.log(`\n${folder}`);
  const wrangler = ["wrangler", "deploy", "--dry-run", "--outdir", path.join(root, folder, "dist/wrangler")];
  const result = spawnSync("npx", ["--yes", ...node, "--package", WRANGLER, "--", ...wrangler], {
    cwd: path.join(root, folder),
    stdio: "inherit",
    timeout: 300_000,
    env: { ...process.env, WRANGLER_SEND_METRICS: "false", CI: "true" },
  });
  if (result.error !== undefined) console.error(result.error.message);
  if (result.status !== 0) process.exit(1);
}
