//! A small application: one page, one worker that uses Redis and object storage, one migration.

use std::io;
use std::path::Path;

/// The worker's source. It needs no npm package.
pub const API_WORKER: &str = r#"
async function redis(env, ...command) {
  const response = await fetch(env.UPSTASH_REDIS_REST_URL, {
    method: "POST",
    headers: { authorization: `Bearer ${env.UPSTASH_REDIS_REST_TOKEN}` },
    body: JSON.stringify(command),
  });
  const answer = await response.json();
  if (answer.error) throw new Error(answer.error);
  return answer.result;
}

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/api/health") return Response.json({ ok: true, environment: env.APP_ENVIRONMENT, greeting: env.GREETING });
    if (pathname === "/api/count") return Response.json({ count: await redis(env, "INCR", "count") });
    if (pathname === "/api/slow") {
      await scheduler.wait(Number(new URL(request.url).searchParams.get("ms") ?? "1000"));
      return new Response("slow");
    }
    if (pathname.startsWith("/api/files/")) {
      const key = pathname.slice("/api/files/".length);
      if (request.method === "PUT") {
        await env.FILES.put(key, request.body);
        return new Response(null, { status: 204 });
      }
      const object = await env.FILES.get(key);
      return object ? new Response(object.body) : new Response("no such file", { status: 404 });
    }
    if (pathname === "/api/private") {
      try { return new Response(await (await fetch("http://127.0.0.1:22/")).text()); }
      catch (error) { return new Response(String(error), { status: 599 }); }
    }
    return new Response("not found", { status: 404 });
  },
};
"#;

const MANIFEST: &str = r#"name = "small"
domain = "small.example"

[workers.api]
path = "workers/api"
routes = ["/api/*"]

[assets]
directory = "public"

[environments.development.vars]
GREETING = "hello development"
"#;

const WRANGLER: &str = r#"{
  // One worker.
  "name": "api",
  "main": "index.js",
  "compatibility_date": "2026-10-01",
  "vars": { "GREETING": "hello" },
  "r2_buckets": [{ "binding": "FILES", "bucket_name": "files" }],
}
"#;

/// Writes the application into an empty folder.
pub fn small_application(folder: &Path) -> io::Result<()> {
    let files = [
        ("astraler.toml", MANIFEST),
        ("workers/api/wrangler.jsonc", WRANGLER),
        ("workers/api/index.js", API_WORKER),
        (
            "public/index.html",
            "<!doctype html><title>small</title><h1>small</h1>\n",
        ),
        (
            "migrations/0001_notes.sql",
            "CREATE TABLE notes (id bigint PRIMARY KEY, text text NOT NULL);\n",
        ),
    ];
    for (name, contents) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = std::fs::File::create(path)?;
        io::Write::write_all(&mut file, contents.as_bytes())?;
    }
    Ok(())
}
