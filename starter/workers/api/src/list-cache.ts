import type { Task } from "@board/contract";
import type { ListCache } from "./context";

/** The three commands of Redis that the cache needs; values are plain text. */
export interface Redis {
  ping(): Promise<unknown>;
  mget(...keys: string[]): Promise<(string | null)[]>;
  set(key: string, value: string, options?: { ex: number }): Promise<unknown>;
}

export const GENERATION_KEY = "board:v1:generation";
export const LIST_KEY = "board:v1:list";
/** Bounds how long a list can be outdated when a write could not reach the cache. */
export const LIST_SECONDS = 30;

interface Entry {
  readonly generation: string;
  readonly tasks: readonly Task[];
}

/**
 * A cached list counts only while the generation that its reader saw *before* reading the database is the current
 * one; each write ends with a new generation. So a slow reader cannot bring back what a write has just replaced.
 * The board works without its cache: errors are logged, and the database answers.
 */
export function listCache(redis: Redis, newGeneration: () => string): ListCache {
  return {
    async check() {
      await redis.ping();
    },
    async read(load) {
      const seen = await look(redis);
      if (seen?.tasks !== undefined) return seen.tasks;
      const generation = seen === null ? null : (seen.generation ?? (await begin(redis, newGeneration())));
      const tasks = await load();
      if (generation !== null) {
        await quietly(redis.set(LIST_KEY, JSON.stringify({ generation, tasks }), { ex: LIST_SECONDS }));
      }
      return tasks;
    },
    async invalidate() {
      await quietly(redis.set(GENERATION_KEY, newGeneration()));
    },
  };
}

interface Seen {
  readonly generation: string | null;
  readonly tasks?: readonly Task[];
}

async function look(redis: Redis): Promise<Seen | null> {
  const values = await quietly(redis.mget(GENERATION_KEY, LIST_KEY));
  if (values === null) return null;
  const generation = values[0] ?? null;
  const entry = parse(values[1] ?? null);
  if (generation !== null && entry?.generation === generation) return { generation, tasks: entry.tasks };
  return { generation };
}

/** The first generation; the database is read after it began. */
async function begin(redis: Redis, generation: string): Promise<string | null> {
  return (await quietly(redis.set(GENERATION_KEY, generation))) === null ? null : generation;
}

function parse(text: string | null): Entry | null {
  if (text === null) return null;
  try {
    return JSON.parse(text) as Entry;
  } catch {
    return null;
  }
}

async function quietly<Value>(work: Promise<Value>): Promise<Value | null> {
  try {
    return await work;
  } catch (error) {
    console.warn("the cache does not answer", error instanceof Error ? error.message : error);
    return null;
  }
}
