import type { Files } from "./context";

/** R2, with streams whose length is known beforehand: R2 takes no others. */
export function files(bucket: R2Bucket): Files {
  return {
    async check() {
      // An object that is not there is an answer, too; a bucket that does not answer throws.
      await bucket.head("health-check");
    },
    async put(key, body, sizeBytes, contentType) {
      const { readable, writable } = new FixedLengthStream(sizeBytes);
      const stop = new AbortController();
      const copied = body.pipeTo(writable, { signal: stop.signal });
      const stored = bucket.put(key, readable, { httpMetadata: { contentType } });
      // When one end fails, the other must not wait for it.
      stored.catch((error: unknown) => {
        stop.abort(error);
      });
      await Promise.all([stored, copied]);
    },
    async get(key) {
      const object = await bucket.get(key);
      return object === null ? null : object.body;
    },
    async remove(keys) {
      if (keys.length > 0) await bucket.delete(keys);
    },
  };
}
