import { type Attachment, MAX_ATTACHMENTS_PER_TASK, MAX_TASKS, type Task } from "@board/contract";
import type { Sql, TransactionSql } from "postgres";
import type { Board } from "./context";
import { append, type Place, place } from "./order";

interface AttachmentRow {
  id: string;
  name: string;
  content_type: string;
  size_bytes: number;
  created_at: string | Date;
}

interface TaskRow {
  id: string;
  title: string;
  notes: string;
  board_column: Task["column"];
  position: number;
  version: number;
  created_at: Date;
  updated_at: Date;
  attachments: AttachmentRow[];
}

/** Held while places are given, so that two moves at once do not give one place twice. */
const ORDER_LOCK = 7_261_001;
const SWEEP_AT_ONCE = 100;

/** The board in PostgreSQL. */
export function database(sql: Sql): Board {
  return {
    async check() {
      await sql`select 1`;
    },
    list: () => tasks(sql, null),
    task: (id) => task(sql, id),
    create: (input) =>
      sql.begin(async (sql) => {
        await lockOrder(sql);
        const present = await task(sql, input.id);
        if (present !== null) return { created: false, task: present };
        const [row] = await sql<{ last: number | null; count: number }[]>`
          select max(position) filter (where board_column = ${input.column}) as last, count(*)::integer as count
          from task`;
        if (row === undefined || row.count >= MAX_TASKS) return "full";
        await sql`
          insert into task (id, title, notes, board_column, position)
          values (${input.id}, ${input.title}, ${input.notes}, ${input.column}, ${append(row.last)})`;
        const created = await task(sql, input.id);
        if (created === null) throw new Error("a task that was just written is not there");
        return { created: true, task: created };
      }),
    edit: (id, edit) =>
      sql.begin(async (sql) => {
        const changed = await sql`
          update task set title = ${edit.title}, notes = ${edit.notes}, version = version + 1, updated_at = now()
          where id = ${id} and version = ${edit.version}`;
        const present = await task(sql, id);
        if (present === null) return "missing";
        return changed.count === 1 ? present : "outdated";
      }),
    move: (id, move) =>
      sql.begin(async (sql) => {
        await lockOrder(sql);
        if ((await task(sql, id)) === null) return "missing";
        const column = await sql<Place[]>`
          select id, position from task where board_column = ${move.column} order by position, id`;
        const places = JSON.stringify(place(column, id, move.before));
        // As text, because the driver would put a value for a JSON parameter into quotes once more.
        await sql`
          update task set position = new.position, updated_at = now(), board_column = ${move.column}
          from jsonb_to_recordset(${places}::text::jsonb) as new (id uuid, position integer)
          where task.id = new.id`;
        return tasks(sql, places);
      }),
    async remove(id) {
      return (await sql`delete from task where id = ${id}`).count === 1;
    },
    async attachment(id) {
      const [row] = await sql<(AttachmentRow & { object_key: string })[]>`
        select id, name, content_type, size_bytes, created_at, object_key
        from attachment where id = ${id} and stored_at is not null`;
      return row === undefined ? null : { ...attachment(row), objectKey: row.object_key };
    },
    async beginAttachment(input) {
      const begun = await sql`
        insert into attachment (id, task_id, name, content_type, size_bytes, object_key)
        select ${input.id}::uuid, task.id, ${input.name}::text, ${input.contentType}::text,
          ${input.sizeBytes}::integer, ${input.objectKey}::text
        from task
        where task.id = ${input.taskId}
          and (select count(*) from attachment where task_id = task.id) < ${MAX_ATTACHMENTS_PER_TASK}`;
      if (begun.count === 1) return "begun";
      return (await task(sql, input.taskId)) === null ? "missing" : "full";
    },
    async finishAttachment(id) {
      const [row] = await sql<AttachmentRow[]>`
        update attachment set stored_at = now() where id = ${id}
        returning id, name, content_type, size_bytes, created_at`;
      return row === undefined ? null : attachment(row);
    },
    async removeAttachment(id) {
      return (await sql`delete from attachment where id = ${id}`).count === 1;
    },
    async sweep(remove) {
      await sql`delete from attachment where stored_at is null and created_at < now() - interval '1 hour'`;
      await sql.begin(async (sql) => {
        const rows = await sql<{ object_key: string }[]>`
          select object_key from abandoned_object order by abandoned_at limit ${SWEEP_AT_ONCE}
          for update skip locked`;
        const keys = rows.map((row) => row.object_key);
        if (keys.length === 0) return;
        await remove(keys);
        await sql`
          delete from abandoned_object
          where object_key in (select jsonb_array_elements_text(${JSON.stringify(keys)}::text::jsonb))`;
      });
    },
  };
}

async function lockOrder(sql: TransactionSql): Promise<void> {
  await sql`select pg_advisory_xact_lock(${ORDER_LOCK})`;
}

async function task(sql: Sql | TransactionSql, id: string): Promise<Task | null> {
  return (await tasks(sql, JSON.stringify([{ id }])))[0] ?? null;
}

/** All tasks, or those of a JSON array of objects with an `id`. */
async function tasks(sql: Sql | TransactionSql, only: string | null): Promise<readonly Task[]> {
  const rows = await sql<TaskRow[]>`
    select id, title, notes, board_column, position, version, created_at, updated_at,
      coalesce((
        select jsonb_agg(jsonb_build_object('id', id, 'name', name, 'content_type', content_type,
          'size_bytes', size_bytes, 'created_at', created_at) order by created_at, id)
        from attachment where task_id = task.id and stored_at is not null
      ), '[]'::jsonb) as attachments
    from task
    where ${only}::text is null
      or id in (select (value ->> 'id')::uuid from jsonb_array_elements(${only}::text::jsonb))
    order by board_column, position, id`;
  return rows.map((row) => ({
    id: row.id,
    title: row.title,
    notes: row.notes,
    column: row.board_column,
    position: row.position,
    version: row.version,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
    attachments: row.attachments.map(attachment),
  }));
}

function attachment(row: AttachmentRow): Attachment {
  return {
    id: row.id,
    name: row.name,
    contentType: row.content_type,
    sizeBytes: row.size_bytes,
    createdAt: new Date(row.created_at).toISOString(),
  };
}
