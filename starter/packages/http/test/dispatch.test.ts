import { beforeEach, describe, expect, type MockInstance, test, vi } from "vitest";
import { dispatch, HttpError, json, problem, type Route } from "../src/index";

interface Context {
  readonly greeting: string;
}

const ROUTES: readonly Route<Context>[] = [
  { method: "GET", path: "/things", handle: ({ greeting }) => json({ greeting }, 200, { etag: '"1"' }) },
  { method: "POST", path: "/things", handle: () => json({ made: true }, 201) },
  { method: "GET", path: "/things/:id/parts/:part", handle: (_, parameters) => json(parameters) },
  { method: "DELETE", path: "/things/:id", handle: () => new Response(null, { status: 204 }) },
  {
    method: "GET",
    path: "/refused",
    handle: () => {
      throw new HttpError(409, "taken", "It is taken.", "name");
    },
  },
  { method: "GET", path: "/broken", handle: () => Promise.reject(new Error("password of the database")) },
];

function ask(method: string, path: string): Promise<Response> {
  return dispatch(ROUTES, new Request(`https://board.example${path}`, { method }), { greeting: "hello" });
}

describe("a route", () => {
  test("is found by method and path, and gets the context", async () => {
    const response = await ask("GET", "/things?page=2");
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ greeting: "hello" });
    expect((await ask("POST", "/things")).status).toBe(201);
  });

  test("gets the parameters of its path", async () => {
    expect(await (await ask("GET", "/things/7/parts/left")).json()).toEqual({ id: "7", part: "left" });
  });

  test.each(["/", "/thing", "/things/", "/things/7/parts/", "/things/7/parts/left/more", "/THINGS"])(
    "is not at %s",
    async (path) => {
      const response = await ask("GET", path);
      expect(response.status).toBe(404);
      expect(await response.json()).toEqual({ error: { code: "not_found", message: `There is nothing at ${path}.` } });
    },
  );

  test("answers HEAD with the head of GET, without its body", async () => {
    const response = await ask("HEAD", "/things");
    expect(response.status).toBe(200);
    expect(response.headers.get("etag")).toBe('"1"');
    expect(await response.text()).toBe("");
  });

  test("that does not know the method says which ones there are", async () => {
    const response = await ask("PUT", "/things");
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("GET, POST, HEAD");
    expect((await ask("HEAD", "/things/7")).headers.get("allow")).toBe("DELETE");
  });
});

describe("an answer in JSON", () => {
  test("is never cached or taken for another type, unless its route says otherwise", () => {
    const plain = json({}).headers;
    expect(plain.get("content-type")).toBe("application/json; charset=utf-8");
    expect(plain.get("cache-control")).toBe("no-store");
    expect(plain.get("x-content-type-options")).toBe("nosniff");
    expect(json({}, 200, { "cache-control": "max-age=5" }).headers.get("cache-control")).toBe("max-age=5");
  });
});

describe("an error", () => {
  let logged: MockInstance<typeof console.error>;

  beforeEach(() => {
    logged = vi.spyOn(console, "error").mockImplementation(() => undefined);
  });

  test("that is meant for clients tells them code, message and field, and is not logged", async () => {
    const response = await ask("GET", "/refused");
    expect(response.status).toBe(409);
    expect(await response.json()).toEqual({ error: { code: "taken", message: "It is taken.", field: "name" } });
    expect(logged).not.toHaveBeenCalled();
  });

  test("that is not meant for clients is logged, and tells them nothing", async () => {
    const response = await ask("GET", "/broken");
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(text).toContain('"internal"');
    expect(text).not.toContain("password");
    expect(logged.mock.calls.flat().join(" ")).toContain("password of the database");
  });

  test("that is no Error is logged as it is", () => {
    expect(problem("out of order").status).toBe(500);
    expect(logged).toHaveBeenCalledWith("unexpected error", "out of order");
  });
});
