import { afterEach, beforeEach, expect, type MockInstance, test, vi } from "vitest";
import { Api } from "./memory";

let api: Api;
let logged: MockInstance<typeof console.error>;

beforeEach(() => {
  api = new Api();
  logged = vi.spyOn(console, "error").mockImplementation(() => undefined);
});

afterEach(() => {
  vi.useRealTimers();
});

test("all layers answer", async () => {
  const response = await api.ask("GET", "/api/health");
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({ ok: true, environment: "test", database: true, cache: true, storage: true });
  expect(logged).not.toHaveBeenCalled();
});

test.each([
  ["database", "board"],
  ["cache", "lists"],
  ["storage", "files"],
] as const)("without the %s it is not well, and says why in the log only", async (layer, store) => {
  vi.spyOn(api[store], "check").mockRejectedValue(new Error("connection to 10.0.0.1 refused"));
  const response = await api.ask("GET", "/api/health");
  expect(response.status).toBe(503);
  const layers = { database: true, cache: true, storage: true };
  expect(await response.json()).toEqual({ ok: false, environment: "test", ...layers, [layer]: false });
  expect(logged).toHaveBeenCalledWith(`health: ${layer}:`, "connection to 10.0.0.1 refused");
});

test("a layer that never answers counts as down", async () => {
  vi.useFakeTimers();
  vi.spyOn(api.files, "check").mockReturnValue(new Promise(() => undefined));
  const response = api.ask("GET", "/api/health");
  await vi.advanceTimersByTimeAsync(3000);
  expect((await response).status).toBe(503);
  expect(await (await response).json()).toMatchObject({ ok: false, database: true, storage: false });
  expect(logged).toHaveBeenCalledWith("health: storage:", "no answer within 3000 ms");
});
