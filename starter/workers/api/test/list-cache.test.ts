import type { Task } from "@board/contract";
import { beforeEach, describe, expect, type MockInstance, test, vi } from "vitest";
import { GENERATION_KEY, LIST_KEY, LIST_SECONDS, listCache, type Redis } from "../src/list-cache";

/** The commands of Redis that the cache uses; `down` makes them fail. */
class MemoryRedis implements Redis {
  readonly values = new Map<string, string>();
  readonly seconds = new Map<string, number | undefined>();
  down = false;

  ping(): Promise<unknown> {
    return this.run(() => "PONG");
  }

  mget(...keys: string[]): Promise<(string | null)[]> {
    return this.run(() => keys.map((key) => this.values.get(key) ?? null));
  }

  set(key: string, value: string, options?: { ex: number }): Promise<unknown> {
    return this.run(() => {
      this.values.set(key, value);
      this.seconds.set(key, options?.ex);
      return "OK";
    });
  }

  private async run<Value>(command: () => Value): Promise<Value> {
    await Promise.resolve();
    if (this.down) throw new Error("connection refused");
    return command();
  }
}

function task(title: string): Task {
  return {
    id: "0190a4c4-7b5e-7cc1-9f3a-1c2d3e4f5a6b",
    title,
    notes: "",
    column: "todo",
    position: 1024,
    version: 1,
    createdAt: "2026-11-01T00:00:00.000Z",
    updatedAt: "2026-11-01T00:00:00.000Z",
    attachments: [],
  };
}

let redis: MemoryRedis;
let generations: number;
let cache: ReturnType<typeof listCache>;
let warned: MockInstance<typeof console.warn>;

beforeEach(() => {
  redis = new MemoryRedis();
  generations = 0;
  cache = listCache(redis, () => `g${String((generations += 1))}`);
  warned = vi.spyOn(console, "warn").mockImplementation(() => undefined);
});

describe("reading", () => {
  test("asks the database once, then the cache", async () => {
    const load = vi.fn(() => Promise.resolve([task("one")]));
    expect(await cache.read(load)).toEqual([task("one")]);
    expect(await cache.read(load)).toEqual([task("one")]);
    expect(load).toHaveBeenCalledTimes(1);
    expect(redis.seconds.get(LIST_KEY)).toBe(LIST_SECONDS);
  });

  test("remembers an empty board, too", async () => {
    const load = vi.fn(() => Promise.resolve([]));
    await cache.read(load);
    expect(await cache.read(load)).toEqual([]);
    expect(load).toHaveBeenCalledTimes(1);
  });

  test("sees what a write has changed", async () => {
    await cache.read(() => Promise.resolve([task("old")]));
    await cache.invalidate();
    expect(await cache.read(() => Promise.resolve([task("new")]))).toEqual([task("new")]);
  });

  test("cannot bring back what a write has replaced meanwhile", async () => {
    // A slow reader has the old rows in hand while a write ends.
    const slow = await cache.read(async () => {
      const rows = [task("old")];
      await cache.invalidate();
      return rows;
    });
    expect(slow).toEqual([task("old")]);
    expect(await cache.read(() => Promise.resolve([task("new")]))).toEqual([task("new")]);
  });

  test("passes over what is no list of this generation", async () => {
    redis.values.set(GENERATION_KEY, "g");
    for (const text of ["{", "null", "7", '{"tasks":[]}', '{"generation":"older","tasks":[]}']) {
      redis.values.set(LIST_KEY, text);
      expect(await cache.read(() => Promise.resolve([task("true")]))).toEqual([task("true")]);
    }
  });

  test("fails when the database does, and remembers nothing", async () => {
    await expect(cache.read(() => Promise.reject(new Error("no database")))).rejects.toThrow("no database");
    expect(redis.values.has(LIST_KEY)).toBe(false);
  });
});

describe("without Redis", () => {
  test("the database answers each time, and the log says why", async () => {
    redis.down = true;
    const load = vi.fn(() => Promise.resolve([task("one")]));
    expect(await cache.read(load)).toEqual([task("one")]);
    expect(await cache.read(load)).toEqual([task("one")]);
    expect(load).toHaveBeenCalledTimes(2);
    expect(warned).toHaveBeenCalledWith("the cache does not answer", "connection refused");
  });

  test("a write is no failure", async () => {
    redis.down = true;
    await cache.invalidate();
    expect(warned).toHaveBeenCalledTimes(1);
  });

  test("a list is not stored when the first generation could not begin", async () => {
    const set = vi.spyOn(redis, "set").mockRejectedValueOnce("read only");
    expect(await cache.read(() => Promise.resolve([task("one")]))).toEqual([task("one")]);
    expect(set).toHaveBeenCalledTimes(1);
    expect(warned).toHaveBeenCalledWith("the cache does not answer", "read only");
  });

  test("the check fails", async () => {
    await cache.check();
    redis.down = true;
    await expect(cache.check()).rejects.toThrow("connection refused");
  });
});
