import { checkAttachmentSize, checkFileName, contentType, isUuid, MAX_ATTACHMENTS_PER_TASK } from "@board/contract";
import { HttpError, json, type Parameters, type Route } from "@board/http";
import type { Context, StoredAttachment } from "./context";
import { attachmentHeaders } from "./download";
import { bodyOf, valid } from "./requests";
import { missingTask, taskId } from "./tasks";

export const attachmentRoutes: readonly Route<Context>[] = [
  { method: "GET", path: "/api/tasks/:id/attachments", handle: list },
  { method: "POST", path: "/api/tasks/:id/attachments", handle: add },
  { method: "GET", path: "/api/attachments/:id", handle: download },
  { method: "DELETE", path: "/api/attachments/:id", handle: remove },
];

async function list({ board }: Context, parameters: Parameters): Promise<Response> {
  const task = await board.task(taskId(parameters));
  if (task === null) throw missingTask();
  return json({ attachments: task.attachments });
}

/** The body is the file itself, and goes to storage as it arrives; its name is the parameter `name`. */
async function add(context: Context, parameters: Parameters): Promise<Response> {
  const { request, board, files, lists, defer } = context;
  const task = taskId(parameters);
  const name = valid(checkFileName(new URL(request.url).searchParams.get("name")));
  const sizeBytes = announcedSize(request);
  const body = bodyOf(request);
  if (body === null) throw new HttpError(422, "invalid", "The file is empty.", "file");
  const id = crypto.randomUUID();
  const type = contentType(request.headers.get("content-type"));
  const objectKey = `attachments/${task}/${id}`;
  const begun = await board.beginAttachment({ id, taskId: task, name, contentType: type, sizeBytes, objectKey });
  if (begun === "missing") throw missingTask();
  if (begun === "full") {
    throw new HttpError(409, "full", `A task has at most ${String(MAX_ATTACHMENTS_PER_TASK)} attachments.`);
  }
  try {
    await files.put(objectKey, body, sizeBytes, type);
  } catch (error) {
    await board.removeAttachment(id);
    defer(board.sweep((keys) => files.remove(keys)));
    throw error;
  }
  const attachment = await board.finishAttachment(id);
  if (attachment === null) {
    await files.remove([objectKey]);
    throw missingTask();
  }
  await lists.invalidate();
  return json(attachment, 201, { location: `/api/attachments/${id}` });
}

async function download({ request, board, files }: Context, parameters: Parameters): Promise<Response> {
  const attachment = await find(board, parameters);
  const headers = attachmentHeaders(attachment);
  // The bytes behind an id never change, so the id is their entity tag.
  if (request.headers.get("if-none-match")?.includes(headers.etag) === true) {
    return new Response(null, { status: 304, headers });
  }
  const full = { ...headers, "content-length": String(attachment.sizeBytes) };
  if (request.method === "HEAD") return new Response(null, { headers: full });
  const body = await files.get(attachment.objectKey);
  if (body === null) throw missingAttachment();
  return new Response(body, { headers: full });
}

async function remove({ board, lists, files, defer }: Context, parameters: Parameters): Promise<Response> {
  const attachment = await find(board, parameters);
  if (!(await board.removeAttachment(attachment.id))) throw missingAttachment();
  await lists.invalidate();
  defer(board.sweep((keys) => files.remove(keys)));
  return new Response(null, { status: 204 });
}

async function find(board: Context["board"], parameters: Parameters): Promise<StoredAttachment> {
  const id = parameters["id"];
  const attachment = isUuid(id) ? await board.attachment(id) : null;
  if (attachment === null) throw missingAttachment();
  return attachment;
}

/** Object storage wants to know the length beforehand, and the limit is checked before a byte is read. */
function announcedSize(request: Request): number {
  const length = request.headers.get("content-length");
  if (length === null || !/^\d+$/.test(length)) {
    throw new HttpError(411, "length_required", "The request must say how long the file is (content-length).");
  }
  const size = checkAttachmentSize(Number(length));
  if (size.ok) return size.value;
  throw new HttpError(Number(length) === 0 ? 422 : 413, "invalid", size.message, size.field);
}

function missingAttachment(): HttpError {
  return new HttpError(404, "no_attachment", "This attachment is not there any more.");
}
