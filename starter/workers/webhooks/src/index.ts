/** Reserved for the platform's webhook service: until a service is connected, this worker says so. */

import { dispatch, HttpError, json, problem, type Route } from "@board/http";

export interface Env {
  readonly APP_ENVIRONMENT: string;
}

const routes: readonly Route<Env>[] = [
  {
    method: "GET",
    path: "/webhooks/health",
    handle: (env) => json({ ok: true, environment: env.APP_ENVIRONMENT, connected: false }),
  },
];

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const response = await dispatch(routes, request, env);
    if (response.status !== 404) return response;
    return problem(new HttpError(404, "not_connected", "Webhooks: no service is connected to this board yet."));
  },
};
