import { expect, test } from "vitest";
import worker from "../src/index";

function ask(method: string, path: string): Promise<Response> {
  return worker.fetch(new Request(`https://board.example${path}`, { method }), { APP_ENVIRONMENT: "staging" });
}

test("says in which environment it runs, and that no service is connected", async () => {
  const response = await ask("GET", "/auth/health");
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({ ok: true, environment: "staging", connected: false });
});

test.each(["/auth", "/auth/v1/anything"])("%s waits for the service", async (path) => {
  const response = await ask("POST", path);
  expect(response.status).toBe(404);
  expect(await response.json()).toEqual({
    error: { code: "not_connected", message: "Sign-in: no service is connected to this board yet." },
  });
});

test("keeps answers that are not about missing routes", async () => {
  const response = await ask("DELETE", "/auth/health");
  expect(response.status).toBe(405);
  expect(response.headers.get("allow")).toBe("GET, HEAD");
});
