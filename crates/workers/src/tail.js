// Gets what each request of a worker left behind, and writes one line for each exception that nobody caught: the
// runtime's own line has neither its stack nor the request's id. The line ends well below the longest line of a log.
const cut = (text, length) => (typeof text === "string" ? text.slice(0, length) : undefined);

export default {
  tail(events, env) {
    for (const event of events) {
      const request = event.event?.request;
      for (const exception of event.exceptions ?? []) {
        const path = request?.url && URL.canParse(request.url) ? new URL(request.url).pathname : undefined;
        const told = {
          worker: env.WORKER,
          name: cut(exception.name, 200),
          message: cut(exception.message, 1000),
          stack: cut(exception.stack, 4000),
          request_id: cut(request?.headers?.["x-request-id"], 64),
          method: cut(request?.method, 32),
          path: cut(path, 500),
        };
        console.error(`astraler.exception ${JSON.stringify(told)}`);
      }
    }
  },
};
