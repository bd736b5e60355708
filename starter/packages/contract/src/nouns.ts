export const COLUMNS = ["todo", "doing", "done"] as const;

export type Column = (typeof COLUMNS)[number];

export interface Attachment {
  readonly id: string;
  readonly name: string;
  readonly contentType: string;
  readonly sizeBytes: number;
  readonly createdAt: string;
}

export interface Task {
  readonly id: string;
  readonly title: string;
  readonly notes: string;
  readonly column: Column;
  /** Order within the column; smaller is higher. */
  readonly position: number;
  /** Grows with each change of title or notes: an edit names the version that it was made from. */
  readonly version: number;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly attachments: readonly Attachment[];
}

export interface TaskList {
  readonly tasks: readonly Task[];
}

export interface NewTask {
  /** Chosen by the client, so that a request which is sent twice makes one task. */
  readonly id: string;
  readonly title: string;
  readonly notes: string;
  readonly column: Column;
}

export interface TaskEdit {
  readonly title: string;
  readonly notes: string;
  readonly version: number;
}

export interface TaskMove {
  readonly column: Column;
  /** The task above which it goes; `null` is the end of the column. */
  readonly before: string | null;
}

/** Every error of the API has this form. */
export interface Problem {
  readonly error: {
    /** For programs. */
    readonly code: string;
    /** For people. */
    readonly message: string;
    /** The input that is wrong. */
    readonly field?: string;
  };
}

export function isColumn(value: unknown): value is Column {
  return COLUMNS.some((column) => column === value);
}
