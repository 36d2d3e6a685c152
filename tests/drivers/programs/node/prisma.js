// What Prisma's query engine does, by node-postgres: statements s0, s1, … are parsed and described first, executed later, as
// often as wanted, with nothing but Bind and Execute; rows are read by the description of the first time.

import pg from 'pg'
import { PREFIX, dropAll, feature, finish } from './features.js'

// Parse and Describe of a named statement. Gives its columns.
class Prepare {
  constructor(name, text, done) {
    Object.assign(this, { name, text, columns: [], callback: done })
  }

  submit(connection) {
    connection.stream.cork()
    connection.parse({ name: this.name, text: this.text, types: [] })
    connection.describe({ type: 'S', name: this.name })
    connection.sync()
    connection.stream.uncork()
  }

  handleRowDescription(message) {
    this.columns = message.fields.map((field) => ({ name: field.name, parse: pg.types.getTypeParser(field.dataTypeID) }))
  }

  handleError(error) {
    this.callback(error)
  }

  handleReadyForQuery() {
    this.callback(null, this.columns)
  }
}

// Bind and Execute of a statement prepared before. Gives rows and the number of rows touched.
class Execute {
  constructor(name, columns, values, done) {
    Object.assign(this, { name, columns, values, rows: [], count: 0, wrong: null, callback: done })
  }

  submit(connection) {
    connection.stream.cork()
    connection.bind({ statement: this.name, values: this.values, valueMapper: asText })
    connection.execute({ portal: '', rows: 0 })
    connection.sync()
    connection.stream.uncork()
  }

  handleDataRow(message) {
    if (message.fields.length !== this.columns.length) {
      this.wrong = new Error(`a row of ${message.fields.length} columns, described were ${this.columns.length}`)
    }
    const named = this.columns.map(({ name, parse }, i) => [name, message.fields[i] == null ? null : parse(message.fields[i])])
    this.rows.push(Object.fromEntries(named))
  }

  handleCommandComplete(message) {
    this.count = Number(/\d+$/.exec(message.text)?.[0] ?? 0)
  }

  handleEmptyQuery() {}

  handleError(error) {
    this.callback(error)
  }

  handleReadyForQuery() {
    this.callback(this.wrong, { rows: this.rows, count: this.count })
  }
}

class Close {
  constructor(name, done) {
    Object.assign(this, { name, callback: done })
  }

  submit(connection) {
    connection.close({ type: 'S', name: this.name })
    connection.sync()
  }

  handleError(error) {
    this.callback(error)
  }

  handleReadyForQuery() {
    this.callback(null)
  }
}

const asText = (value) =>
  value == null ? null : typeof value === 'object' ? JSON.stringify(value) : String(value)

// A connection of the engine, with its cache of statements by text.
class Engine {
  #statements = new Map()
  #count = 0

  constructor(client, cacheSize) {
    this.client = client
    this.cacheSize = cacheSize
  }

  #submit(Kind, ...inputs) {
    return new Promise((resolve, reject) => {
      this.client.query(new Kind(...inputs, (error, result) => (error ? reject(error) : resolve(result))))
    })
  }

  async prepare(text) {
    let statement = this.#statements.get(text)
    if (statement) this.#statements.delete(text)
    else {
      const name = `s${this.#count++}`
      statement = { name, columns: await this.#submit(Prepare, name, text) }
    }
    this.#statements.set(text, statement)
    if (this.#statements.size > this.cacheSize) {
      const [oldest, { name }] = this.#statements.entries().next().value
      this.#statements.delete(oldest)
      await this.#submit(Close, name)
    }
    return statement
  }

  async query(text, ...values) {
    const { name, columns } = await this.prepare(text)
    return (await this.#submit(Execute, name, columns, values)).rows
  }

  async one(text, ...values) {
    return Object.values((await this.query(text, ...values))[0] ?? { nothing: null })[0]
  }

  async execute(text, ...values) {
    const { name, columns } = await this.prepare(text)
    return (await this.#submit(Execute, name, columns, values)).count
  }

  // What is sent as one text, without preparing: BEGIN, COMMIT, migrations.
  raw(text) {
    return this.client.query(text)
  }

  bind(name, columns = [], values = []) {
    return this.#submit(Execute, name, columns, values)
  }

  // Forget all statements, and begin again with s0.
  async reset() {
    await this.raw('DEALLOCATE ALL')
    this.#statements.clear()
    this.#count = 0
  }

  async transaction(work, isolation) {
    await this.raw('BEGIN')
    try {
      if (isolation) await this.raw(`SET TRANSACTION ISOLATION LEVEL ${isolation}`)
      const result = await work(this)
      await this.raw('COMMIT')
      return result
    } catch (error) {
      await this.raw('ROLLBACK')
      throw error
    }
  }
}

async function engine(c, cacheSize = 100) {
  const client = new pg.Client({ application_name: 'prisma' })
  client.on('error', () => {})
  c.atEnd(() => client.end())
  await client.connect()
  return new Engine(client, cacheSize)
}

const sumBy = (one) => (a, b) => one.one('SELECT $1::int + $2::int AS sum', a, b)

async function manyStatements(c) {
  const engines = await Promise.all([engine(c), engine(c), engine(c)])
  for (const [k, one] of engines.entries()) {
    await one.raw('DEALLOCATE ALL')
    // All are parsed and described before the first is executed, so they are executed on another server than that.
    for (let i = 0; i < 40; i++) await one.prepare(`SELECT $1::int AS "v${i}", '${c.number}.${k}' AS "of"`)
  }
  for (let round = 0; round < 3; round++) {
    await Promise.all(engines.map(async (one, k) => {
      for (let i = 0; i < 40; i++) {
        const [row] = await one.query(`SELECT $1::int AS "v${i}", '${c.number}.${k}' AS "of"`, round)
        if (row[`v${i}`] !== round || row.of !== `${c.number}.${k}`) throw new Error(`s${i} answered ${JSON.stringify(row)}`)
      }
      c.check(true, 'each statement is its own')
    }))
  }
}

// As with its option pgbouncer=true: each query in a transaction that begins by forgetting all statements.
async function deallocateAll(c) {
  const one = await engine(c)
  for (let i = 0; i < 10; i++) {
    await one.transaction(async () => {
      await one.reset()
      c.same(await one.one(`SELECT $1::int + ${i} AS n`, c.number), c.number + i, 's0, each time another')
      c.same(await one.one(`SELECT $1::text || '${i}' AS t`, 'x'), `x${i}`, 's1')
      c.same(await one.one(`SELECT $1::int + ${i} AS n`, 5), 5 + i, 's0 again')
    })
  }
  await one.reset()
  await c.fails('26000', one.bind('s0'))
  const { name, columns } = await one.prepare('SELECT 7 AS seven')
  c.same((await one.bind(name, columns)).rows, [{ seven: 7 }], 'prepared anew')
  await one.raw('DEALLOCATE s0')
  await c.fails('26000', one.bind('s0'))
  c.same(await one.one('SELECT $1::int AS n', 1), 1, 'after all')
}

async function cacheEviction(c) {
  const one = await engine(c, 5)
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 15; i++) c.same(await one.one(`SELECT $1::int * ${i} AS n`, round), round * i, 'of few kept')
  }
  await c.fails('26000', one.bind('s0'))
  const single = await engine(c, 1)
  for (let i = 0; i < 10; i++) c.same(await single.one(`SELECT $1::int AS n${i % 3}`, i), i, 'of one kept')
}

async function models(c) {
  const [one, other] = [await engine(c), await engine(c)]
  const [user, post] = [c.table('User'), c.table('Post')]
  await one.raw(`CREATE TABLE "${user}" ("id" SERIAL PRIMARY KEY, "email" TEXT NOT NULL UNIQUE, "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE "${post}" ("id" SERIAL PRIMARY KEY, "title" TEXT NOT NULL, "data" JSONB, "authorId" INTEGER NOT NULL REFERENCES "${user}" ("id") ON DELETE CASCADE)`)
  const insertUser = `INSERT INTO "public"."${user}" ("email") VALUES ($1) RETURNING "public"."${user}"."id"`
  const insertPost = `INSERT INTO "public"."${post}" ("title","data","authorId") VALUES ($1,$2,$3) RETURNING "id", "title"`
  const select = `SELECT "public"."${post}"."id", "public"."${post}"."title", "public"."${post}"."data" FROM "public"."${post}" WHERE "authorId" IN ($1,$2) AND 1=1 ORDER BY "id" ASC OFFSET $3`
  for (let i = 0; i < 6; i++) {
    await one.transaction(async () => {
      const id = await one.one(insertUser, `user ${i}`)
      c.same(id, i + 1, 'a user')
      for (const title of ['first', 'second']) {
        c.same((await one.query(insertPost, title, { i }, id))[0].title, title, 'a post')
      }
    })
    const posts = await other.query(select, i + 1, -1, 0)
    c.same(posts.map((row) => [row.title, row.data]), [['first', { i }], ['second', { i }]], 'posts, by another connection')
  }
  const [users] = [await one.query(`SELECT COUNT(*)::int FROM (SELECT "id" FROM "public"."${user}" WHERE 1=1 OFFSET $1) AS "sub"`, 0)]
  c.same(users[0].count, 6, 'count')
  c.same(await other.execute(`UPDATE "public"."${post}" SET "title" = $1 WHERE ("id" IN ($2,$3) AND 1=1)`, 'changed', 1, 2), 2, 'updated')
  const twice = await c.fails('23505', one.transaction(async () => {
    await one.one(insertUser, 'new')
    await one.one(insertUser, 'user 1')
  }))
  c.same(twice.constraint, `${user}_email_key`, 'constraint')
  c.same(await one.one(`SELECT COUNT(*)::int AS n FROM "${user}"`), 6, 'rolled back')
  c.same(await one.execute(`DELETE FROM "public"."${user}" WHERE 1=1`), 6, 'deleted')
  await one.raw(`DROP TABLE "${post}"; DROP TABLE "${user}"`)
}

async function transactions(c) {
  const one = await engine(c)
  for (const level of ['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE']) {
    await one.transaction(async () => {
      c.same(await one.one('SHOW transaction_isolation'), level.toLowerCase(), 'isolation')
      const id = await one.one('SELECT txid_current() AS id')
      for (let i = 0; i < 3; i++) c.same(await one.one('SELECT txid_current() AS id'), id, 'the same transaction')
    }, level)
    c.same(await one.one('SHOW transaction_isolation'), 'read committed', 'after it')
  }
  const prepareInside = await c.fails('42P01', one.transaction(() => one.query('SELECT * FROM "no_such_table" WHERE a = $1', 1)))
  c.check(prepareInside.message.includes('no_such_table'), 'what is missing')
  for (let i = 0; i < 4; i++) {
    await c.fails('22012', one.transaction(() => one.one('SELECT 1 / $1::int AS d', 0)))
    await c.fails('25P02', one.transaction(async () => {
      await one.one('SELECT 1 / $1::int AS d', 0).catch(() => {})
      await one.one('SELECT $1::int AS n', 1)
    }))
    c.same(await one.one('SELECT 6 / $1::int AS d', 3), 2, 'after errors')
  }
  // Parsed in a transaction that is rolled back, a statement is there all the same.
  await c.fails('on purpose', one.transaction(async () => {
    await one.prepare(`SELECT 'kept ${c.number}' AS t`)
    throw new Error('on purpose')
  }))
  c.same(await one.one(`SELECT 'kept ${c.number}' AS t`), `kept ${c.number}`, 'a statement of a rolled back transaction')
}

// Migrations: one connection holds a session's lock, looks into the catalogues, runs scripts.
async function migrations(c) {
  const one = await engine(c)
  const other = await engine(c)
  const lock = [...PREFIX].reduce((n, character) => (n * 31 + character.codePointAt(0)) % 1_000_000, 72707369)
  const table = c.table('migrations')
  await c.inTurn(sumBy(one), async () => {
    await one.raw(`SELECT pg_advisory_lock(${lock})`)
    c.same(await other.one('SELECT pg_try_advisory_xact_lock($1::bigint)', lock), false, 'locked for others')
    await one.raw(`CREATE TABLE "${table}" (id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, logs TEXT)`)
    for (let i = 0; i < 3; i++) {
      c.same(await one.execute(`INSERT INTO "${table}" (id, checksum) VALUES ($1, $2)`, `m${i}`, 'x'), 1, 'a migration noted')
      await one.raw(`-- CreateTable\nCREATE TABLE "${table}_${i}" (a INT);\n\n-- AlterTable\nALTER TABLE "${table}_${i}" ADD COLUMN b INT;`)
      c.same(await other.one('SELECT pg_try_advisory_xact_lock($1::bigint)', lock), false, 'still locked')
    }
    const found = await one.query(
      `SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position`, `${table}_2`)
    c.same(found, [{ column_name: 'a', data_type: 'integer' }, { column_name: 'b', data_type: 'integer' }], 'introspected')
    await one.raw([0, 1, 2].map((i) => `DROP TABLE "${table}_${i}";`).join('\n'))
    await one.raw(`DROP TABLE "${table}"`)
    c.same(await one.one('SELECT pg_advisory_unlock($1::bigint)', lock), true, 'unlocked')
  })
}

// The schema of the connection string, set by the engine after login.
async function schemas(c) {
  const schema = c.table('schema')
  const one = await engine(c)
  await one.raw(`CREATE SCHEMA "${schema}"; CREATE TABLE "${schema}".here (owner int); INSERT INTO "${schema}".here VALUES (${c.number})`)
  await one.raw(`SET search_path = "${schema}"`)
  for (let i = 0; i < 5; i++) {
    c.same(await one.one('SELECT owner FROM here'), c.number, 'a table of mine, by the same text as others')
    c.same(await one.one('SELECT current_schema()'), schema, 'current_schema')
  }
  await one.raw('RESET search_path')
  await one.raw(`DROP SCHEMA "${schema}" CASCADE`)
}

async function settings(c) {
  const one = await engine(c)
  await one.raw(`SET statement_timeout = ${30_001 + c.number}`)
  await one.one("SELECT set_config('myapp.tenant', $1, false)", `tenant ${c.number}`)
  for (let i = 0; i < 5; i++) {
    c.same(await one.one('SHOW statement_timeout'), `${30_001 + c.number}ms`, 'statement_timeout')
    c.same(await one.one("SELECT current_setting('myapp.tenant')"), `tenant ${c.number}`, 'tenant')
    await one.transaction(async () => {
      await one.one("SELECT set_config('myapp.local', $1, true)", `local ${c.number}`)
      c.same(await one.one("SELECT current_setting('myapp.local')"), `local ${c.number}`, 'of the transaction')
    })
    c.same(await one.one("SELECT coalesce(current_setting('myapp.local', true), '')"), '', 'after the transaction')
  }
  if (c.number % 2) await one.raw('SET ROLE pg_read_all_stats')
  for (let i = 0; i < 3; i++) c.same(await one.one('SELECT current_user = session_user AS own'), !(c.number % 2), 'role')
  await one.raw('RESET ALL; RESET ROLE')
  c.same(await one.one('SHOW statement_timeout'), '0', 'after RESET ALL')
}

async function rowLevelSecurity(c) {
  const one = await engine(c)
  for (let i = 0; i < 6; i++) {
    await one.transaction(async () => {
      await one.execute("SELECT set_config('app.user', $1, TRUE)", String(c.number * 100 + i))
      c.same(await one.one("SELECT current_setting('app.user')::int AS n"), c.number * 100 + i, 'of this transaction')
    })
  }
}

async function tempTables(c) {
  const one = await engine(c)
  await c.inTurn(sumBy(one), async () => {
    await one.raw('CREATE TEMP TABLE scratch (id int)')
    for (let i = 0; i < 4; i++) {
      c.same(await one.execute('INSERT INTO scratch VALUES ($1)', i), 1, 'inserted')
      c.same(await one.one('SELECT count(*)::int AS n FROM scratch'), i + 1, 'rows')
    }
    await one.raw('DROP TABLE scratch')
  })
}

async function holdCursor(c) {
  const one = await engine(c)
  await c.inTurn(sumBy(one), async () => {
    await one.transaction(() => one.raw(`DECLARE held CURSOR WITH HOLD FOR SELECT g + ${c.number} AS v FROM generate_series(1, 40) g`))
    for (let i = 0; i < 4; i++) c.same((await one.query('FETCH 10 FROM held'))[0].v, i * 10 + 1 + c.number, 'fetched')
    await one.raw('CLOSE held')
  })
}

async function sqlPrepare(c) {
  const one = await engine(c)
  await one.raw(`PREPARE plan (int) AS SELECT $1 * 100 + ${c.number} AS v`)
  for (let i = 0; i < 5; i++) {
    c.same((await one.raw(`EXECUTE plan(${i})`)).rows, [{ v: i * 100 + c.number }], 'executed')
    c.same(await one.one('SELECT $1::int AS n', i), i, 'a statement of the engine')
  }
  await one.raw('DEALLOCATE plan')
  await c.fails('26000', one.raw('EXECUTE plan(1)'))
}

async function cleaned() {
  const client = new pg.Client()
  await client.connect()
  await dropAll((sql) => client.query(sql))
  await client.end()
}

await cleaned()
await feature('many_statements', manyStatements)
await feature('deallocate_all', deallocateAll)
await feature('cache_eviction', cacheEviction)
await feature('models', models)
await feature('transactions', transactions)
await feature('row_level_security', rowLevelSecurity)
await feature('migrations', migrations)
await feature('schemas', schemas)
await feature('settings', settings)
await feature('temp_tables', tempTables)
await feature('hold_cursor', holdCursor)
await feature('sql_prepare', sqlPrepare)
await cleaned()
await finish()
