// A service that has keys in a table of its own, and knows nothing of what follows it.
// It reads one command a line from its standard input, and answers each with a line.
import { createInterface } from "node:readline";
import pg from "pg";

const db = new pg.Pool({ connectionString: process.env.SERVICE_DSN, max: 4 });

const commands = {
  install: () => db.query(`CREATE TABLE public.system_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), label text NOT NULL, key_hash text NOT NULL, permissions text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), last_used_at timestamptz)`),
  create: async ({ label, hash, permissions }) => {
    const { rows } = await db.query(
      "INSERT INTO system_keys (label, key_hash, permissions) VALUES ($1, $2, $3) RETURNING id", [label, hash, permissions]);
    return rows[0].id;
  },
  revoke: async ({ id }) => (await db.query("DELETE FROM system_keys WHERE id = $1", [id])).rowCount,
  permit: async ({ id, permissions }) => (await db.query("UPDATE system_keys SET permissions = $2 WHERE id = $1", [id, permissions])).rowCount,
  use: async ({ id }) => (await db.query("UPDATE system_keys SET last_used_at = now() WHERE id = $1", [id])).rowCount,
  list: async () => (await db.query("SELECT id, label, permissions, last_used_at FROM system_keys ORDER BY created_at")).rows,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { name, ...values } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: (await commands[name](values)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
await db.end();
