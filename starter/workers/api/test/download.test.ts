import { describe, expect, test } from "vitest";
import { attachmentHeaders, contentDisposition } from "../src/download";

/** The two names of a header, as RFC 6266 lets a client read them. */
function names(header: string): readonly [string, string] {
  const match = /^attachment; filename="([^"\\]*)"; filename\*=UTF-8''([\w!#$&+.^`|~%-]*)$/.exec(header);
  if (match === null) throw new Error(`no valid header: ${header}`);
  return [match[1] ?? "", decodeURIComponent(match[2] ?? "")];
}

describe("the name of a download", () => {
  test.each([
    ["report.pdf", "report.pdf"],
    ["Änderungen für José.txt", "Anderungen fur Jose.txt"],
    ['a"b\\c%20.txt', "a_b_c_20.txt"],
    ["it's (1)*.txt", "it's (1)*.txt"],
    ["日本🦀.png", "___.png"],
    ["a; filename=evil.exe", "a; filename=evil.exe"],
  ])("%j is safe in a header, and kept whole", (name, ascii) => {
    expect(names(contentDisposition(name))).toEqual([ascii, name]);
  });

  test("may hold half a character", () => {
    expect(names(contentDisposition("a\ud83e.txt"))).toEqual(["a_.txt", "a\ufffd.txt"]);
  });
});

test("a page that somebody attached is no page of ours", () => {
  const file = { id: "1", name: "x.html", contentType: "text/html", sizeBytes: 1, createdAt: "2026-11-01T00:00:00Z" };
  const headers = attachmentHeaders(file);
  expect(headers["content-disposition"]).toMatch(/^attachment;/);
  expect(headers["content-security-policy"]).toBe("default-src 'none'; sandbox");
  expect(new Headers(headers).get("x-content-type-options")).toBe("nosniff");
});
