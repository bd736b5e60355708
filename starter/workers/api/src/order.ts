/** Places in a column are integers with gaps: a move writes one row, and rarely a whole column. */

export interface Place {
  readonly id: string;
  readonly position: number;
}

export const GAP = 1024;
/** PostgreSQL's `integer` ends a little above. */
export const MAX_POSITION = 2_000_000_000;

/** Position after all of a column. */
export function append(last: number | null): number {
  return last === null ? GAP : last + GAP;
}

/**
 * The rows to write so that task `id` stands above `before`, or at the end where that is `null` or not there.
 * `column` is the target column in its order; the task may be in it already.
 */
export function place(column: readonly Place[], id: string, before: string | null): readonly Place[] {
  const others = column.filter((task) => task.id !== id);
  const found = before === null ? -1 : others.findIndex((task) => task.id === before);
  const index = found === -1 ? others.length : found;
  const above = others[index - 1];
  const below = others[index];
  const position = between(above?.position ?? null, below?.position ?? null);
  if (position !== null) return [{ id, position }];
  const ordered = [...others.slice(0, index), { id }, ...others.slice(index)];
  return ordered.map((task, rank) => ({ id: task.id, position: (rank + 1) * GAP }));
}

/** A position strictly between two, or `null` when there is none. */
function between(above: number | null, below: number | null): number | null {
  if (below === null) {
    const position = append(above);
    return position <= MAX_POSITION ? position : null;
  }
  if (above === null) {
    const position = below - GAP;
    return position >= -MAX_POSITION ? position : null;
  }
  const middle = Math.floor((above + below) / 2);
  return middle > above && middle < below ? middle : null;
}
