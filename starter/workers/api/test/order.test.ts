import { describe, expect, test } from "vitest";
import { append, GAP, MAX_POSITION, type Place, place } from "../src/order";

/** The ids of a column in order, after rows were written. */
function after(column: readonly Place[], written: readonly Place[]): readonly string[] {
  const positions = new Map([...column, ...written].map((task) => [task.id, task.position]));
  const rows = [...positions].sort(([, a], [, b]) => a - b);
  expect(new Set(rows.map(([, position]) => position)).size).toBe(rows.length);
  return rows.map(([id]) => id);
}

/** Repeatable random numbers (mulberry32), so that a failure can be looked at. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const COLUMN = [
  { id: "a", position: GAP },
  { id: "b", position: 2 * GAP },
  { id: "c", position: 3 * GAP },
] as const;

test("a new task goes to the end", () => {
  expect(append(null)).toBe(GAP);
  expect(append(5 * GAP)).toBe(6 * GAP);
});

describe("a move writes one row", () => {
  test.each([
    ["x", "a", ["x", "a", "b", "c"]],
    ["x", "b", ["a", "x", "b", "c"]],
    ["x", null, ["a", "b", "c", "x"]],
    ["c", "a", ["c", "a", "b"]],
    ["a", null, ["b", "c", "a"]],
    ["a", "c", ["b", "a", "c"]],
    ["b", "c", ["a", "b", "c"]],
    ["x", "gone", ["a", "b", "c", "x"]],
  ])("of %s above %s", (id, before, order) => {
    const written = place(COLUMN, id, before);
    expect(written).toHaveLength(1);
    expect(after(COLUMN, written)).toEqual(order);
  });

  test("into an empty column", () => {
    expect(place([], "x", null)).toEqual([{ id: "x", position: GAP }]);
  });
});

describe("a move writes the whole column", () => {
  test("when two neighbours have no gap left", () => {
    const column = [
      { id: "a", position: 7 },
      { id: "b", position: 8 },
    ];
    const written = place(column, "x", "b");
    expect(written.map((task) => task.position)).toEqual([GAP, 2 * GAP, 3 * GAP]);
    expect(after(column, written)).toEqual(["a", "x", "b"]);
  });

  test("when positions would leave PostgreSQL's integers", () => {
    const high = [{ id: "a", position: MAX_POSITION }];
    expect(after(high, place(high, "x", null))).toEqual(["a", "x"]);
    const low = [{ id: "a", position: -MAX_POSITION }];
    expect(after(low, place(low, "x", "a"))).toEqual(["x", "a"]);
    for (const task of [...place(high, "x", null), ...place(low, "x", "a")]) {
      expect(Math.abs(task.position)).toBeLessThanOrEqual(MAX_POSITION);
    }
  });
});

test.each([1, 2, 3, 4, 5])("any number of moves keeps the order that people saw (seed %d)", (seed) => {
  const next = random(seed);
  let order = Array.from({ length: 12 }, (_, index) => `t${String(index)}`);
  let column: readonly Place[] = order.map((id, index) => ({ id, position: (index + 1) * GAP }));
  let rewrites = 0;
  for (let round = 0; round < 1000; round += 1) {
    const id = order[next(order.length)] ?? "";
    const others = order.filter((other) => other !== id);
    // Mostly into the same gap, which is what uses it up.
    const index = next(3) === 0 ? next(others.length + 1) : 1;
    order = [...others.slice(0, index), id, ...others.slice(index)];
    const written = place(column, id, others[index] ?? null);
    if (written.length > 1) rewrites += 1;
    expect(after(column, written)).toEqual(order);
    const positions = new Map([...column, ...written].map((task) => [task.id, task.position]));
    column = order.map((task) => ({ id: task, position: positions.get(task) ?? Number.NaN }));
  }
  expect(rewrites).toBeGreaterThan(0);
  expect(rewrites).toBeLessThan(200);
});
