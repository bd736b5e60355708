import { HttpError } from "@board/http";
import { expect, test } from "vitest";
import { refuseForeignWrites, valid } from "../src/requests";

function refusal(method: string, site: string | null): HttpError | null {
  const headers = site === null ? new Headers() : new Headers({ "sec-fetch-site": site });
  try {
    refuseForeignWrites(new Request("https://board.example/api/tasks", { method, headers }));
    return null;
  } catch (error) {
    if (error instanceof HttpError) return error;
    throw error;
  }
}

test.each(["POST", "PATCH", "DELETE", "PUT"])("another site's page may not %s", (method) => {
  expect(refusal(method, "cross-site")).toMatchObject({ status: 403, code: "foreign_site" });
  for (const site of ["same-origin", "same-site", "none", null]) expect(refusal(method, site)).toBeNull();
});

test.each(["GET", "HEAD"])("anybody may link to what %s shows", (method) => {
  expect(refusal(method, "cross-site")).toBeNull();
});

test("checked input is passed on, and wrong input says what is wrong", () => {
  expect(valid({ ok: true, value: 7 })).toBe(7);
  expect(() => valid({ ok: false, field: "title", message: "A task needs a title." })).toThrow(
    new HttpError(422, "invalid", "A task needs a title.", "title"),
  );
});
