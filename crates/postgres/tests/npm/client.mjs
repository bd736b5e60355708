// The drivers that workers use, unchanged, through the pool. Ends with status 0 when everything is as with a
// connection of their own.
import assert from "node:assert/strict";
import pg from "pg";
import postgres from "postgres";

const { PGHOST: host, PGUSER: user, PGPASSWORD: password, PGDATABASE: database } = process.env;
const port = 6432;

// npm `postgres`: named statements, unnamed ones, transactions, pipelines, cancel, errors.
for (const prepare of [true, false]) {
  const sql = postgres({ host: `${host}/.s.PGSQL.${port}`, path: `${host}/.s.PGSQL.${port}`, user, password, database, prepare, max: 6, fetch_types: true });
  await sql`DELETE FROM t`;
  await Promise.all(Array.from({ length: 60 }, (_, n) => sql`INSERT INTO t ${sql({ n, note: `note ${n}` })}`));
  for (let round = 0; round < 3; round++) {
    const rows = await sql`SELECT n, note FROM t WHERE n < ${10} ORDER BY n`;
    assert.deepEqual(rows.map((row) => row.n), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  }
  await assert.rejects(sql`SELECT ${1}::int / 0`, { code: "22012" });
  await assert.rejects(sql`SELECT nothing`, { code: "42703" });
  await assert.rejects(
    sql.begin(async (tx) => {
      await tx`UPDATE t SET note = 'changed'`;
      throw new Error("rolled back");
    }),
    /rolled back/,
  );
  const total = await sql.begin(async (tx) => {
    await tx`UPDATE t SET note = ${"new"} WHERE n = ${1}`;
    const [[row], [count]] = await Promise.all([tx`SELECT note FROM t WHERE n = ${1}`, tx`SELECT count(*)::int AS c FROM t`]);
    assert.equal(row.note, "new");
    return count.c;
  });
  assert.equal(total, 60);
  assert.equal((await sql`SELECT count(*)::int AS c FROM t WHERE note = 'changed'`)[0].c, 0);
  const json = await sql`SELECT ${sql.json({ a: [1, "x"] })}::jsonb AS j, ${[1, 2, 3]}::int[] AS a, ${null}::text AS n`;
  assert.deepEqual({ ...json[0] }, { j: { a: [1, "x"] }, a: [1, 2, 3], n: null });
  await sql.unsafe("SELECT 1; SELECT 2").simple();
  let seen = 0;
  await sql`SELECT generate_series(1, 1000) AS g`.cursor(100, (rows) => { seen += rows.length; });
  assert.equal(seen, 1000);
  const slow = sql`SELECT pg_sleep(20)`;
  setTimeout(() => slow.cancel(), 100);
  await assert.rejects(slow, { code: "57014" });
  await sql.end();
}

// npm `pg`.
const pool = new pg.Pool({ host, port, user, password, database, max: 6 });
await Promise.all(
  Array.from({ length: 60 }, (_, n) => pool.query({ name: `by-number-${n % 3}`, text: `SELECT $1::int + ${n % 3} AS s`, values: [n] }).then(({ rows }) => assert.equal(rows[0].s, n + (n % 3)))),
);
await assert.rejects(pool.query("SELECT $1::int / 0", [1]), { code: "22012" });
const client = await pool.connect();
await client.query("BEGIN");
await client.query("UPDATE t SET note = $1", ["x"]);
await client.query("ROLLBACK");
client.release();
assert.equal((await pool.query("SELECT count(*)::int AS c FROM t WHERE note = 'x'")).rows[0].c, 0);
await assert.rejects(pool.query("CREATE TABLE mine (n int)"), { code: "42501" });
await pool.end();

const wrong = new pg.Client({ host, port, user, password: "wrong", database });
await assert.rejects(wrong.connect(), { code: "28P01" });
console.log("all as expected");
