// Runs in workerd and uses an R2 bucket as an application does. Answers "ok", or the first thing that is wrong.
function equal(actual, expected, what) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, got ${a}`);
}
async function throws(promise, text) {
  try {
    await promise;
  } catch (error) {
    if (!String(error).includes(text)) throw new Error(`expected an error with "${text}", got ${error}`);
    return;
  }
  throw new Error(`expected an error with "${text}", got none`);
}
const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, "0")).join("");
const digest = async (name, text) => hex(await crypto.subtle.digest(name, new TextEncoder().encode(text)));

async function objects(bucket) {
  const before = Date.now();
  const put = await bucket.put("a/hello.txt", "hello world", {
    httpMetadata: { contentType: "text/plain", cacheControl: "max-age=60", cacheExpiry: new Date(1_900_000_000_000) },
    customMetadata: { author: "zoë", empty: "" },
    sha256: await digest("SHA-256", "hello world"),
  });
  equal(put.key, "a/hello.txt", "key");
  equal(put.size, 11, "size");
  equal(put.etag, "5eb63bbbe01eeed093cb22bb8f5acdc3", "etag");
  equal(put.httpEtag, '"5eb63bbbe01eeed093cb22bb8f5acdc3"', "httpEtag");
  equal(put.uploaded.getTime() >= before - 5000, true, "uploaded");
  const got = await bucket.get("a/hello.txt");
  equal(await got.text(), "hello world", "text");
  equal(got.httpMetadata.contentType, "text/plain", "contentType");
  equal(got.httpMetadata.cacheExpiry.getTime(), 1_900_000_000_000, "cacheExpiry");
  equal(got.customMetadata, { author: "zoë", empty: "" }, "customMetadata");
  equal(hex(got.checksums.sha256), await digest("SHA-256", "hello world"), "sha256");
  equal(hex(got.checksums.md5), put.etag, "md5");
  const head = await bucket.head("a/hello.txt");
  equal([head.size, head.version], [11, put.version], "head");
  equal(await bucket.get("missing"), null, "a missing object");
  equal(await bucket.head("missing"), null, "a missing head");
  const unicode = "ключ/🚀 ü?#%.bin";
  await bucket.put(unicode, new Uint8Array([0, 255, 1]));
  equal([...new Uint8Array(await (await bucket.get(unicode)).arrayBuffer())], [0, 255, 1], "bytes");
  await bucket.put("empty", null);
  equal(await (await bucket.get("empty")).text(), "", "an empty object");
  for (const name of ["md5", "sha1", "sha384", "sha512"]) {
    await throws(bucket.put("bad", "x", { [name]: "0".repeat({ md5: 32, sha1: 40, sha384: 96, sha512: 128 }[name]) }), "10037");
  }
  equal(await bucket.head("bad"), null, "nothing is stored after a bad digest");
  await throws(bucket.put("k".repeat(1025), "x"), "10020");
  await throws(bucket.put("meta", "x", { customMetadata: { a: "v".repeat(9000) } }), "10012");
  await bucket.delete(["empty", unicode, "not there"]);
  equal(await bucket.head("empty"), null, "deleted");
  await bucket.delete("a/hello.txt");
  equal(await bucket.head("a/hello.txt"), null, "deleted alone");
}

async function ranges(bucket) {
  await bucket.put("digits", "0123456789");
  const range = async (range) => {
    const object = await bucket.get("digits", { range });
    return [await object.text(), object.size, object.range.offset, object.range.length];
  };
  equal(await range({ offset: 3 }), ["3456789", 10, 3, 7], "offset");
  equal(await range({ offset: 3, length: 2 }), ["34", 10, 3, 2], "offset and length");
  equal(await range({ length: 4 }), ["0123", 10, 0, 4], "length");
  equal(await range({ suffix: 3 }), ["789", 10, 7, 3], "suffix");
  equal(await range({ offset: 8, length: 100 }), ["89", 10, 8, 2], "a range that is longer");
  equal(await range(new Headers({ range: "bytes=2-4" })), ["234", 10, 2, 3], "a header");
  await throws(bucket.get("digits", { range: { offset: 10 } }), "10039");
}

async function conditions(bucket) {
  const first = await bucket.put("c", "one");
  equal(await bucket.put("c", "two", { onlyIf: { etagMatches: "other" } }), null, "put with another etag");
  equal(await bucket.put("new", "x", { onlyIf: { etagMatches: "any" } }), null, "put over nothing");
  equal(await bucket.put("c", "x".repeat(3_000_000), { onlyIf: { etagDoesNotMatch: "*" } }), null, "a large put refused");
  equal(await (await bucket.get("c")).text(), "one", "unchanged");
  const kept = await bucket.get("c", { onlyIf: { etagDoesNotMatch: first.etag } });
  equal([kept.etag, "body" in kept && kept.body !== undefined], [first.etag, false], "a reader that has it");
  const late = await bucket.get("c", { onlyIf: { uploadedAfter: new Date(first.uploaded.getTime() + 60_000) } });
  equal(late.body, undefined, "uploadedAfter");
  const early = await bucket.get("c", { onlyIf: { uploadedBefore: new Date(first.uploaded.getTime() + 60_000) } });
  equal(await early.text(), "one", "uploadedBefore");
  const headers = new Headers({ "if-none-match": `"nope", W/"${first.etag}"` });
  equal((await bucket.get("c", { onlyIf: headers })).body, undefined, "If-None-Match");
  equal((await bucket.put("c", "two", { onlyIf: { etagMatches: first.etag } })).size, 3, "put with its etag");
}

async function lists(bucket) {
  const keys = ["list/top"];
  for (const folder of ["x", "y", "z"]) for (let n = 0; n < 4; n++) keys.push(`list/${folder}/${n}`);
  for (const key of keys) await bucket.put(key, key, { customMetadata: { key }, httpMetadata: { contentType: "a/b" } });
  const all = await bucket.list({ prefix: "list/" });
  equal(all.objects.map((o) => o.key), keys, "all keys");
  equal([all.truncated, all.cursor, all.delimitedPrefixes], [false, undefined, []], "one page");
  let page, seen = [], pages = 0;
  do {
    page = await bucket.list({ prefix: "list/", limit: 5, cursor: page?.cursor });
    seen.push(...page.objects.map((o) => o.key));
    if (++pages > 10) throw new Error("the listing does not end");
  } while (page.truncated);
  equal([seen, pages], [keys, 3], "pages");
  const folders = await bucket.list({ prefix: "list/", delimiter: "/" });
  equal([folders.objects.map((o) => o.key), folders.delimitedPrefixes], [["list/top"], ["list/x/", "list/y/", "list/z/"]], "folders");
  const after = await bucket.list({ prefix: "list/", startAfter: "list/y/3" });
  equal(after.objects.length, 4, "startAfter");
  const rich = await bucket.list({ prefix: "list/top", include: ["customMetadata", "httpMetadata"] });
  equal([rich.objects[0].customMetadata, rich.objects[0].httpMetadata.contentType], [{ key: "list/top" }, "a/b"], "include");
  const poor = await bucket.list({ prefix: "list/top", include: ["httpMetadata"] });
  equal(poor.objects[0].customMetadata ?? {}, {}, "not included");
  await bucket.delete(keys);
  equal((await bucket.list({ prefix: "list/" })).objects, [], "all deleted");
}

async function multipart(bucket) {
  const size = 5 * 1024 * 1024;
  const part = (n) => new Uint8Array(size).fill(n);
  const upload = await bucket.createMultipartUpload("big", { customMetadata: { parts: "3" } });
  const same = bucket.resumeMultipartUpload("big", upload.uploadId);
  const parts = [await same.uploadPart(2, part(2)), await upload.uploadPart(1, part(1)), await upload.uploadPart(3, "end")];
  equal(await bucket.head("big"), null, "nothing before it is completed");
  const object = await upload.complete([parts[1], parts[0], parts[2]]);
  equal([object.size, object.etag.endsWith("-3")], [2 * size + 3, true], "joined");
  const seam = await bucket.get("big", { range: { offset: size - 1, length: 2 } });
  equal([...new Uint8Array(await seam.arrayBuffer())], [1, 2], "over the seam");
  const end = await bucket.get("big", { range: { suffix: 4 } });
  equal(await end.text(), "\u0002end", "the end");
  equal((await bucket.head("big")).customMetadata, { parts: "3" }, "its metadata");
  const other = await bucket.createMultipartUpload("other");
  const small = [await other.uploadPart(1, "a"), await other.uploadPart(2, "b")];
  await throws(other.complete(small), "10011");
  await throws(other.complete([{ partNumber: 1, etag: "wrong" }]), "10025");
  await other.abort();
  await throws(other.uploadPart(3, "c"), "10024");
  await bucket.delete("big");
}

async function streams(bucket, request) {
  const { readable, writable } = new FixedLengthStream(8_000_000);
  const put = bucket.put("stream", readable);
  const writer = writable.getWriter();
  for (let n = 0; n < 80; n++) await writer.write(new Uint8Array(100_000).fill(n));
  await writer.close();
  equal((await put).size, 8_000_000, "a stream");
  let total = 0;
  for await (const chunk of (await bucket.get("stream")).body) total += chunk.length;
  equal(total, 8_000_000, "read as a stream");
  const cancelled = (await bucket.get("stream")).body.getReader();
  await cancelled.read();
  await cancelled.cancel();
  await bucket.put("body", request.body);
  equal(await (await bucket.get("body")).text(), "from the request", "a request's body");
}

export default {
  async fetch(request, env) {
    try {
      await objects(env.BUCKET);
      await ranges(env.BUCKET);
      await conditions(env.BUCKET);
      await lists(env.BUCKET);
      await multipart(env.BUCKET);
      await streams(env.BUCKET, request);
      return new Response("ok");
    } catch (error) {
      return new Response(error.stack, { status: 500 });
    }
  },
};
