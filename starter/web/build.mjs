// Builds the page into web/dist: one script and one style sheet, whose names carry a hash of their contents.
import { build } from "esbuild";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const web = path.dirname(fileURLToPath(import.meta.url));
const dist = path.join(web, "dist");

await rm(dist, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: web,
  entryPoints: ["src/main.ts", "src/style.css"],
  outdir: dist,
  entryNames: "assets/[name]-[hash]",
  bundle: true,
  minify: true,
  sourcemap: true,
  format: "esm",
  target: ["es2022", "chrome110", "firefox115", "safari16.4"],
  metafile: true,
  logLevel: "warning",
});

/** @param {string} entry */
function output(entry) {
  const found = Object.entries(metafile.outputs).find(([, result]) => result.entryPoint === entry);
  if (found === undefined) throw new Error(`esbuild wrote nothing for ${entry}`);
  return `/${path.posix.relative("dist", found[0])}`;
}

const page = await readFile(path.join(web, "index.html"), "utf8");
await mkdir(dist, { recursive: true });
await writeFile(
  path.join(dist, "index.html"),
  page.replace("/src/main.ts", output("src/main.ts")).replace("/src/style.css", output("src/style.css")),
);
