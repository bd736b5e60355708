export const MAX_TITLE_LENGTH = 200;
export const MAX_NOTES_LENGTH = 4000;
export const MAX_FILE_NAME_LENGTH = 200;
export const MAX_ATTACHMENT_BYTES = 10 * 1024 * 1024;
export const MAX_ATTACHMENTS_PER_TASK = 20;
export const MAX_TASKS = 1000;
