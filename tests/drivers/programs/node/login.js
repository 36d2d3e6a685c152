// Logs in once, by node-postgres, as the environment says, and tells who it is then.

import { readFileSync } from "node:fs";

import pg from "pg";

const { env } = process;
const file = (name) => (env[name] ? readFileSync(env[name]) : undefined);

const client = new pg.Client({
  ssl: env.PGSSLMODE === "disable" ? false : { ca: file("PGSSLROOTCERT"), cert: file("PGSSLCERT"), key: file("PGSSLKEY") },
  enableChannelBinding: env.PGCHANNELBINDING !== "disable",
});
try {
  await client.connect();
  const { rows } = await client.query("SELECT current_user AS name");
  console.log(rows[0].name);
  await client.end();
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
