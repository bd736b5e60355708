/** JSON answers and a router that fits on one page: all that the workers share. */

/** An error that a client is told about; everything else is a 500 without details. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field?: string,
  ) {
    super(message);
    this.name = "HttpError";
  }
}

export type Parameters = Readonly<Record<string, string>>;
export type Handler<Context> = (context: Context, parameters: Parameters) => Promise<Response> | Response;

export interface Route<Context> {
  readonly method: string;
  /** For example `/api/tasks/:id`. */
  readonly path: string;
  readonly handle: Handler<Context>;
}

/** Runs the route of a request; `HEAD` is answered as `GET` without its body. */
export async function dispatch<Context>(
  routes: readonly Route<Context>[],
  request: Request,
  context: Context,
): Promise<Response> {
  try {
    const path = new URL(request.url).pathname;
    const matching = routes.flatMap((route) => {
      const parameters = match(route.path, path);
      return parameters === undefined ? [] : [{ route, parameters }];
    });
    if (matching.length === 0) throw new HttpError(404, "not_found", `There is nothing at ${path}.`);
    const method = request.method === "HEAD" ? "GET" : request.method;
    const found = matching.find(({ route }) => route.method === method);
    if (found === undefined) return notAllowed(request.method, matching.map(({ route }) => route.method));
    const response = await found.route.handle(context, found.parameters);
    return request.method === "HEAD" ? new Response(null, response) : response;
  } catch (error) {
    return problem(error);
  }
}

export function json(value: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(JSON.stringify(value), {
    status,
    headers: {
      "content-type": "application/json; charset=utf-8",
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      ...headers,
    },
  });
}

/** Turns an error into an answer; what was not meant for clients goes to the log instead. */
export function problem(error: unknown): Response {
  if (error instanceof HttpError) {
    const field = error.field === undefined ? {} : { field: error.field };
    return json({ error: { code: error.code, message: error.message, ...field } }, error.status);
  }
  console.error("unexpected error", error instanceof Error ? (error.stack ?? error.message) : error);
  return json({ error: { code: "internal", message: "Something went wrong on our side. Please try again." } }, 500);
}

function notAllowed(method: string, methods: readonly string[]): Response {
  const allowed = methods.includes("GET") ? [...methods, "HEAD"] : methods;
  const message = `${method} is not possible here.`;
  return json({ error: { code: "method_not_allowed", message } }, 405, { allow: [...new Set(allowed)].join(", ") });
}

function match(pattern: string, path: string): Parameters | undefined {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return undefined;
  const parameters: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const value = given[index] ?? "";
    if (part.startsWith(":")) {
      if (value === "") return undefined;
      parameters[part.slice(1)] = value;
    } else if (part !== value) {
      return undefined;
    }
  }
  return parameters;
}
