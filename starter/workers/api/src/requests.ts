import type { Checked } from "@board/contract";
import { HttpError } from "@board/http";

/** Enough for the longest notes in the widest characters, escaped. */
const MAX_JSON_BYTES = 64 * 1024;

/** The JSON body of a request, checked; wrong input is an `HttpError` that says what is wrong. */
export async function readJson<Value>(request: Request, check: (input: unknown) => Checked<Value>): Promise<Value> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new HttpError(415, "not_json", "The body must be JSON, with content-type application/json.");
  }
  let input: unknown;
  try {
    input = JSON.parse(await readText(request, MAX_JSON_BYTES));
  } catch (error) {
    if (error instanceof HttpError) throw error;
    throw new HttpError(400, "not_json", "The body is no valid JSON.");
  }
  return valid(check(input));
}

export function valid<Value>(checked: Checked<Value>): Value {
  if (checked.ok) return checked.value;
  throw new HttpError(422, "invalid", checked.message, checked.field);
}

/** The bytes of a request; the platform's types leave open what its streams carry. */
export function bodyOf(request: Request): ReadableStream<Uint8Array> | null {
  return request.body as ReadableStream<Uint8Array> | null;
}

/** Browsers say where a request comes from; another site's pages may not write here. */
export function refuseForeignWrites(request: Request): void {
  if (request.method === "GET" || request.method === "HEAD") return;
  const site = request.headers.get("sec-fetch-site");
  if (site === "cross-site") {
    throw new HttpError(403, "foreign_site", "The board can be changed from its own pages only.");
  }
}

async function readText(request: Request, maxBytes: number): Promise<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  let text = "";
  let bytes = 0;
  const reader = bodyOf(request)?.getReader();
  for (;;) {
    const chunk = await reader?.read();
    if (chunk?.value === undefined) return text + decoder.decode();
    bytes += chunk.value.byteLength;
    if (bytes > maxBytes) {
      await reader?.cancel();
      throw new HttpError(413, "too_large", "The body is too large.");
    }
    text += decoder.decode(chunk.value, { stream: true });
  }
}
