// Where the board runs, and one way to ask it.
import { lookup } from "node:dns";
import * as http from "node:http";
import * as https from "node:https";

/** A job of a pipeline may set a variable to nothing: that is no address. */
const given = [process.env["BASE_URL"], process.env["ASTRALER_ENVIRONMENT_URL"]];
export const base = given.find((url) => url !== undefined && url !== "") ?? "http://localhost:3000";

const TIMEOUT_MS = 30_000;

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {http.IncomingHttpHeaders} headers
 * @property {Buffer} body
 * @property {() => any} json
 */

/**
 * One request of the board; `body` is sent as JSON unless it is bytes.
 *
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {Record<string, string>} [headers]
 * @returns {Promise<Answer>}
 */
export function ask(method, path, body, headers = {}) {
  const url = new URL(path, base);
  const bytes = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
  const type = bytes === body ? {} : { "content-type": "application/json" };
  const length = bytes === undefined ? {} : { "content-length": String(bytes.length) };
  const options = {
    method,
    headers: { ...type, ...length, ...headers },
    lookup: thisMachine,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  const { request } = url.protocol === "https:" ? https : http;
  return new Promise((resolve, reject) => {
    const sent = request(url, options, (response) => {
      /** @type {Buffer[]} */
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("error", reject);
      response.on("end", () => {
        const whole = Buffer.concat(pieces);
        const json = () => JSON.parse(whole.toString("utf8"));
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: whole, json });
      });
    });
    sent.on("error", reject);
    sent.end(bytes);
  });
}

/**
 * Names below `localhost` are this machine (RFC 6761), also where the resolver does not know it.
 *
 * @type {import("node:net").LookupFunction}
 */
function thisMachine(name, options, found) {
  if (!name.endsWith(".localhost")) return lookup(name, options, found);
  if (options.all === true) found(null, [{ address: "127.0.0.1", family: 4 }]);
  else found(null, "127.0.0.1", 4);
}

/**
 * @param {string} name
 * @param {() => Promise<void>} run
 */
export async function step(name, run) {
  const started = performance.now();
  await run();
  console.log(`ok - ${name} (${Math.round(performance.now() - started)} ms)`);
}
