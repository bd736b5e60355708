import type { Attachment } from "@board/contract";

/** A file comes from a stranger: it is saved, never shown as a page of ours, and never taken for another type. */
export function attachmentHeaders(attachment: Attachment) {
  return {
    "content-type": attachment.contentType,
    "content-disposition": contentDisposition(attachment.name),
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-cache",
    etag: `"${attachment.id}"`,
  };
}

/** RFC 6266: an ASCII name for the oldest clients, and the true one as RFC 8187 writes it. */
export function contentDisposition(name: string): string {
  const ascii = name.normalize("NFKD").replace(/\p{Mark}/gu, "").replace(/[^\x20-\x7e]|["\\%]/gu, "_");
  const encoded = encodeURIComponent(name.toWellFormed()).replace(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`;
}
