import { json, type Route } from "@board/http";
import type { Context } from "./context";

const TIMEOUT_MS = 3000;

export const healthRoutes: readonly Route<Context>[] = [{ method: "GET", path: "/api/health", handle: health }];

/** 200 only when every layer has answered just now. */
async function health({ environment, board, lists, files }: Context): Promise<Response> {
  const [database, cache, storage] = await Promise.all([
    answers("database", board.check()),
    answers("cache", lists.check()),
    answers("storage", files.check()),
  ]);
  const ok = database && cache && storage;
  return json({ ok, environment, database, cache, storage }, ok ? 200 : 503);
}

async function answers(layer: string, check: Promise<void>): Promise<boolean> {
  let stop = (): void => undefined;
  const late = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`no answer within ${String(TIMEOUT_MS)} ms`));
    }, TIMEOUT_MS);
    stop = () => {
      clearTimeout(timer);
    };
  });
  try {
    await Promise.race([check, late]);
    return true;
  } catch (error) {
    console.error(`health: ${layer}:`, error instanceof Error ? error.message : error);
    return false;
  } finally {
    stop();
  }
}
