/** The API of the board. Read `context.ts` for what handlers work with, `tasks.ts` and `attachments.ts` for them. */

import { dispatch, problem } from "@board/http";
import { Redis } from "@upstash/redis/cloudflare";
import postgres from "postgres";
import { attachmentRoutes } from "./attachments";
import { database } from "./database";
import type { Env } from "./env";
import { files } from "./files";
import { healthRoutes } from "./health";
import { listCache } from "./list-cache";
import { refuseForeignWrites } from "./requests";
import { taskRoutes } from "./tasks";

const ROUTES = [...healthRoutes, ...taskRoutes, ...attachmentRoutes];
const CACHE_TIMEOUT_MS = 2000;

export default {
  async fetch(request: Request, env: Env, execution: ExecutionContext): Promise<Response> {
    // Connections belong to one request, as Workers demand; the pool behind Hyperdrive is what lasts.
    const sql = postgres(env.HYPERDRIVE.connectionString, {
      max: 3,
      prepare: false,
      fetch_types: false,
      connect_timeout: 5,
    });
    const redis = new Redis({
      url: env.UPSTASH_REDIS_REST_URL,
      token: env.UPSTASH_REDIS_REST_TOKEN,
      automaticDeserialization: false,
      enableTelemetry: false,
      retry: { retries: 1 },
      signal: () => AbortSignal.timeout(CACHE_TIMEOUT_MS),
    });
    const deferred: Promise<unknown>[] = [];
    try {
      refuseForeignWrites(request);
      return await dispatch(ROUTES, request, {
        request,
        environment: env.APP_ENVIRONMENT,
        board: database(sql),
        lists: listCache(redis, () => crypto.randomUUID()),
        files: files(env.FILES),
        defer: (work) => deferred.push(work.catch(logged)),
      });
    } catch (error) {
      return problem(error);
    } finally {
      execution.waitUntil(Promise.all(deferred).then(() => sql.end({ timeout: 5 })));
    }
  },
} satisfies ExportedHandler<Env>;

function logged(error: unknown): void {
  console.error("deferred work failed", error instanceof Error ? (error.stack ?? error.message) : error);
}
