// What Cloudflare would get: `wrangler deploy --dry-run` on every worker and on the page, without an account.
// The bundles go to .wrangler/dry-run.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

const WRANGLER = "wrangler@4.164.0";
const NODE = "node@24.21.0";
const FOLDERS = ["workers/api", "workers/auth", "workers/webhooks", "web"];
const TIMEOUT_MS = 300_000;

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
// This wrangler wants Node.js 22.12; where an older one is installed, npm brings a newer one for this run only.
const newEnough = major > 22 || (major === 22 && minor >= 12);
const packages = [...(newEnough ? [] : [NODE]), WRANGLER].flatMap((name) => ["--package", name]);

for (const folder of FOLDERS) {
  console.log(`\n${folder}`);
  const wrangler = ["wrangler", "deploy", "--dry-run", "--outdir", path.join(root, ".wrangler/dry-run", folder)];
  const result = spawnSync("npx", ["--yes", "--loglevel", "error", ...packages, "--", ...wrangler], {
    cwd: path.join(root, folder),
    stdio: "inherit",
    timeout: TIMEOUT_MS,
    env: { ...process.env, CI: "true", WRANGLER_SEND_METRICS: "false" },
  });
  if (result.status !== 0) {
    const cause = result.error?.message ?? result.signal ?? `status ${String(result.status)}`;
    console.error(`wrangler does not take ${folder} (${cause})`);
    process.exit(1);
  }
}
