// The unchanged client of Upstash against our REST API. Ends with status 0 when everything is as there.
import assert from "node:assert/strict";
import { Redis } from "@upstash/redis";

const { REST_URL: url, REST_TOKEN: token, REST_READ_TOKEN: readToken } = process.env;
const options = { enableTelemetry: false, retry: false };
const redis = new Redis({ url, token, ...options });
const plain = new Redis({ url, token, responseEncoding: false, ...options });

assert.equal(await redis.ping(), "PONG");
assert.equal(await redis.set("text", "grüße \u{1f600}", { ex: 100 }), "OK");
assert.equal(await redis.get("text"), "grüße \u{1f600}");
assert.equal(await plain.get("text"), "grüße \u{1f600}");
assert.ok((await redis.ttl("text")) > 90);
assert.equal(await redis.set("text", "no", { nx: true }), null);
await redis.set("json", { a: [1, null, true] });
assert.deepEqual(await redis.get("json"), { a: [1, null, true] });
assert.equal(await redis.get("missing"), null);

assert.equal(await redis.hset("hash", { a: 1, b: "two", c: { d: 3 } }), 3);
assert.deepEqual(await redis.hgetall("hash"), { a: 1, b: "two", c: { d: 3 } });
assert.equal(await redis.lpush("list", 1, 2, 3), 3);
assert.deepEqual(await redis.lrange("list", 0, -1), [3, 2, 1]);
await redis.zadd("zset", { score: 1, member: "a" }, { score: 2.5, member: "b" });
assert.deepEqual(await redis.zrange("zset", 0, -1, { withScores: true }), ["a", 1, "b", 2.5]);
await redis.sadd("set", "a", "b");
assert.deepEqual((await redis.smembers("set")).sort(), ["a", "b"]);
const id = await redis.xadd("stream", "*", { field: "value" });
assert.deepEqual(await redis.xrange("stream", "-", "+"), { [id]: { field: "value" } });
const [cursor, keys] = await redis.scan(0, { match: "*", count: 1000 });
assert.equal(cursor, "0");
assert.ok(keys.includes("json"));
assert.equal(await redis.eval("return ARGV[1] .. KEYS[1]", ["k"], ["v"]), "vk");
const script = redis.createScript("return redis.call('INCR', KEYS[1])");
assert.equal(await script.exec(["counter"], []), 1);
assert.equal(await script.exec(["counter"], []), 2);

const pipeline = redis.pipeline();
pipeline.set("p", 1).incr("p").get("p");
assert.deepEqual(await pipeline.exec(), ["OK", 2, 2]);
const kept = await redis.pipeline().incr("text").get("p").exec({ keepErrors: true });
assert.match(kept[0].error, /not an integer/);
assert.equal(kept[1].result, 2);
assert.deepEqual(await redis.multi().incr("p").incr("p").exec(), [3, 4]);
// What the client sends at once, it batches into a pipeline by itself.
const many = await Promise.all(Array.from({ length: 50 }, (_, n) => redis.set(`auto:${n}`, n)));
assert.ok(many.every((answer) => answer === "OK"));

await assert.rejects(redis.incr("text"), /not an integer/);
await assert.rejects(redis.multi().set("p", 1).incr("text").exec(), /not an integer/);
const reader = new Redis({ url, token: readToken, ...options });
assert.equal(await reader.get("p"), 1);
await assert.rejects(reader.set("p", 5), /NOPERM/);
const stranger = new Redis({ url, token: "wrong", ...options });
await assert.rejects(stranger.get("p"), /Unauthorized/);
console.log("all as expected");
