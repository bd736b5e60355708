// Bundles workers as `wrangler deploy` would: one ES module each, with the module rules of wrangler's defaults.
// Standard input: {"workers":[{"name","main","directory","node_compat","out"}]}; standard output: {"workers":[{"name",
// "modules":[{"name","kind","file"}]}]} or {"errors":[{"worker","file","line","column","text"}]}.
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { builtinModules, createRequire } from "node:module";
import path from "node:path";

const require = createRequire(import.meta.url);
const esbuild = require("esbuild");

const input = JSON.parse(await new Response(process.stdin).text());
const KINDS = { ".wasm": "wasm", ".txt": "text", ".html": "text", ".sql": "text", ".bin": "data" };
const builtins = new Set(builtinModules.filter((name) => !name.startsWith("_")));

/** Files that are modules of their own: copied beside the bundle under a name made of their contents. */
function otherModules(modules, out) {
  return {
    name: "other-modules",
    setup(build) {
      build.onResolve({ filter: /\.(wasm|txt|html|sql|bin)(\?module)?$/ }, async (request) => {
        if (request.pluginData === "resolved") return undefined;
        const wanted = request.path.replace(/\?module$/, "");
        const resolved = await build.resolve(wanted, {
          importer: request.importer,
          resolveDir: request.resolveDir,
          kind: request.kind,
          pluginData: "resolved",
        });
        if (resolved.errors.length > 0) return undefined;
        const contents = await readFile(resolved.path);
        const hash = createHash("sha256").update(contents).digest("hex").slice(0, 16);
        const name = `./${hash}-${path.basename(resolved.path)}`;
        await writeFile(path.join(out, name), contents);
        if (!modules.some((module) => module.name === name)) {
          modules.push({ name, kind: KINDS[path.extname(resolved.path)], file: path.basename(name) });
        }
        return { path: name, external: true };
      });
    },
  };
}

/** Node's built-in modules come from the runtime, under their full names. */
const nodeBuiltins = {
  name: "node-builtins",
  setup(build) {
    build.onResolve({ filter: /^[a-z_/0-9]+$/ }, (request) =>
      builtins.has(request.path) ? { path: `node:${request.path}`, external: true } : undefined,
    );
  },
};

async function bundle(worker) {
  await mkdir(worker.out, { recursive: true });
  const modules = [{ name: "index.js", kind: "es_module", file: "index.js" }];
  await esbuild.build({
    entryPoints: [worker.main],
    absWorkingDir: worker.directory,
    outfile: path.join(worker.out, "index.js"),
    bundle: true,
    format: "esm",
    target: "es2024",
    platform: "neutral",
    mainFields: ["workerd", "worker", "browser", "module", "main"],
    conditions: ["workerd", "worker", "browser", "production"],
    external: ["node:*", "cloudflare:*", "workerd:*"],
    define: { "process.env.NODE_ENV": '"production"' },
    banner: worker.node_compat
      ? { js: 'import { createRequire as __createRequire } from "node:module";\nconst require = __createRequire("/");' }
      : {},
    sourcemap: "external",
    sourcesContent: true,
    legalComments: "none",
    logLevel: "silent",
    plugins: [otherModules(modules, worker.out), nodeBuiltins],
  });
  await relocate(worker);
  return { name: worker.name, modules };
}

/** esbuild names sources by their way from the bundle, which lies anywhere: here they are named from the worker's folder. */
async function relocate(worker) {
  const file = path.join(worker.out, "index.js.map");
  const map = JSON.parse(await readFile(file, "utf8"));
  map.sources = map.sources.map((source) =>
    // With a colon it is no file, but a name that esbuild gave.
    /^[^/]*:/.test(source) ? source : path.relative(worker.directory, path.resolve(worker.out, source)),
  );
  await writeFile(file, JSON.stringify(map));
}

const results = await Promise.allSettled(input.workers.map(bundle));
const errors = results.flatMap((result, index) =>
  result.status === "fulfilled"
    ? []
    : (result.reason.errors ?? [{ text: String(result.reason) }]).map((error) => ({
        worker: input.workers[index].name,
        file: error.location?.file ?? null,
        line: error.location?.line ?? null,
        column: error.location?.column ?? null,
        text: error.text,
      })),
);
process.stdout.write(JSON.stringify(errors.length > 0 ? { errors } : { workers: results.map((result) => result.value) }));
