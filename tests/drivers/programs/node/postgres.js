// postgres.js as applications use it: tagged templates, its pool, cursors, COPY streams, LISTEN, reserved connections.

import { pipeline as piped } from 'node:stream/promises'
import { Readable } from 'node:stream'
import postgres from 'postgres'
import { PREFIX, dropAll, eventually, feature, finish } from './features.js'

// One pool of the driver's; `max` connections. It is ended when the feature is over.
function pool(c, options = {}) {
  const sql = postgres({ max: 1, ssl: false, password: process.env.PGPASSWORD, onnotice: () => {}, ...options })
  c.atEnd(() => sql.end({ timeout: 3 }))
  return sql
}

const first = async (query) => Object.values((await query)[0] ?? { nothing: null })[0]

const sumBy = (sql) => (a, b) => first(sql`SELECT ${a}::int + ${b}::int`)

async function connecting(c) {
  const sql = pool(c, {
    connection: {
      application_name: `postgres.js ${c.number}`,
      statement_timeout: 20_001 + c.number,
      search_path: 'pg_catalog,public',
      options: `-c work_mem=${2049 + c.number}`,
    },
  })
  for (let i = 0; i < 5; i++) {
    c.same(await first(sql`SHOW application_name`), `postgres.js ${c.number}`, 'application_name')
    c.same(await first(sql`SHOW statement_timeout`), `${20_001 + c.number}ms`, 'statement_timeout')
    c.same(await first(sql`SHOW search_path`), 'pg_catalog,public', 'search_path')
    c.same(await first(sql`SHOW work_mem`), `${2049 + c.number}kB`, 'work_mem')
  }
  await c.fails('28P01', pool(c, { password: 'wrong' })`SELECT 1`)
  const primary = pool(c, { target_session_attrs: 'read-write', idle_timeout: 1, max_lifetime: 60 })
  c.same(await first(primary`SELECT ${c.number}::int`), c.number, 'of a server that can be written to')
  const parameters = {}
  const told = pool(c, { onparameter: (name, value) => (parameters[name] = value) })
  await told`SELECT 1`
  c.same([parameters.client_encoding, parameters.integer_datetimes], ['UTF8', 'on'], 'parameters told at login')
  const url = new URL('postgres://host')
  Object.assign(url, { host: `${process.env.PGHOST}:${process.env.PGPORT}`, username: process.env.PGUSER })
  Object.assign(url, { password: encodeURIComponent(process.env.PGPASSWORD), pathname: process.env.PGDATABASE })
  const byUrl = postgres(`${url}?application_name=by%20url`, { ssl: false, max: 1 })
  c.same(await first(byUrl`SHOW application_name`), 'by url', 'by a URL')
  await byUrl.end()
  await c.fails('CONNECTION_ENDED', byUrl`SELECT 1`)
}

// The same with statements prepared by name, which is usual, and without names.
const templates = (prepare) => async (c) => {
  const sql = pool(c, { prepare })
  const table = c.table(prepare ? 'templates' : 'unprepared')
  await sql`CREATE TABLE ${sql(table)} (id int PRIMARY KEY, name text, tags text[], data jsonb)`
  const rows = Array.from({ length: 20 }, (_, id) => ({ id, name: `it's ${id}`, tags: ['a', `b ${id}`], data: { id } }))
  c.same((await sql`INSERT INTO ${sql(table)} ${sql(rows)}`).count, 20, 'rows inserted')
  for (let i = 0; i < 12; i++) {
    const [row] = await sql`SELECT * FROM ${sql(table)} WHERE id = ${i}`
    c.same({ ...row }, rows[i], 'a row')
    const some = await sql`SELECT ${sql('id', 'name')} FROM ${sql(table)} WHERE id IN ${sql([i, i + 1])} ORDER BY id`
    c.same(some.map((r) => r.id), [i, i + 1], 'rows of a list')
    const wanted = i % 2 ? sql`AND name = ${rows[i].name}` : sql``
    c.same((await sql`SELECT id FROM ${sql(table)} WHERE id = ${i} ${wanted}`).count, 1, 'fragments')
    const changed = { name: `changed ${i}`, tags: sql.array(['x']) }
    const [back] = await sql`UPDATE ${sql(table)} SET ${sql(changed)} WHERE id = ${i} RETURNING name, tags`
    c.same([back.name, back.tags], [`changed ${i}`, ['x']], 'updated')
  }
  c.same((await sql`SELECT id FROM ${sql(table)} ORDER BY id LIMIT 2`.values()).map((r) => r[0]), [0, 1], 'values()')
  c.same((await sql`SELECT 'raw'`.raw())[0][0].toString(), 'raw', 'raw()')
  const seen = []
  await sql`SELECT generate_series(1, ${500}) AS g`.forEach((row) => seen.push(row.g))
  c.same(seen.length, 500, 'forEach')
  const several = await sql`SELECT 1 AS a; SELECT 2 AS b, 3 AS c`.simple()
  c.same(several.map((r) => ({ ...r[0] })), [{ a: 1 }, { b: 2, c: 3 }], 'simple()')
  const unsafe = await sql.unsafe('SELECT $1::int + $2::int AS n', [1, c.number], { prepare: false })
  c.same(unsafe[0].n, 1 + c.number, 'unsafe()')
  for (let i = 0; i < 3; i++) {
    c.same(await first(sql.unsafe('SELECT $1::int AS n', [i], { prepare: true })), i, 'unsafe(), prepared')
  }
  const described = await sql`SELECT id, name FROM ${sql(table)} WHERE id = ${1}`.describe()
  c.same([described.types, described.columns.map((d) => d.name)], [[23], ['id', 'name']], 'describe()')
  const large = 'x'.repeat(200_000) + c.number
  c.same(await first(sql`SELECT ${large}::text`), large, 'a large value')
  await sql`DROP TABLE ${sql(table)}`
}

// Many queries at once on few connections; the driver sends them without waiting for answers.
async function pipelined(c) {
  const sql = pool(c, { max: 2 })
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) => (i % 3 ? sql`SELECT ${i}::int AS i` : sql`SELECT ${c.number}::int AS i, 'other'`)),
    )
    c.same(answers.map((a) => a[0].i), [...Array(60)].map((_, i) => (i % 3 ? i : c.number)), 'answers in order')
    const outcomes = await Promise.allSettled(Array.from({ length: 60 }, (_, i) => sql`SELECT 10 / ${i % 5}::int AS d`))
    c.check(
      outcomes.every((o, i) => (i % 5 ? o.value[0].d === Math.trunc(10 / (i % 5)) : o.reason.code === '22012')),
      'errors go to their queries',
    )
  }
  c.same(await sql.begin((sql) => [1, 2, 3].map((n) => sql`SELECT ${n}::int AS n`)).then((all) => all.map((r) => r[0].n)),
    [1, 2, 3], 'a transaction sent at once')
}

async function transactions(c) {
  const sql = pool(c, { max: 2 })
  const table = c.table('transactions')
  await sql`CREATE TABLE ${sql(table)} (id int PRIMARY KEY)`
  const count = (by = sql) => first(by`SELECT count(*)::int FROM ${by(table)}`)
  for (let i = 0; i < 6; i++) {
    await c.fails('on purpose', sql.begin(async (sql) => {
      await sql`INSERT INTO ${sql(table)} VALUES (${i})`
      c.same(await count(sql), 1, 'inside')
      c.same(await first(sql`SELECT txid_current()`), await first(sql`SELECT txid_current()`), 'the same transaction')
      throw new Error('on purpose')
    }))
    c.same(await count(), 0, 'rolled back')
  }
  await sql.begin('ISOLATION LEVEL REPEATABLE READ READ WRITE', async (sql) => {
    c.same(await first(sql`SHOW transaction_isolation`), 'repeatable read', 'isolation')
    await sql`INSERT INTO ${sql(table)} VALUES (1)`
    await c.fails('23505', sql.savepoint(async (sql) => {
      await sql`INSERT INTO ${sql(table)} VALUES (2)`
      await sql`INSERT INTO ${sql(table)} VALUES (1)`
    }))
    await sql.savepoint('named', (sql) => sql`INSERT INTO ${sql(table)} VALUES (3)`)
    c.same(await count(sql), 2, 'after savepoints')
  })
  c.same((await sql`SELECT id FROM ${sql(table)} ORDER BY id`).map((r) => r.id), [1, 3], 'committed')
  await c.fails('25006', sql.begin('READ ONLY', (sql) => sql`DELETE FROM ${sql(table)}`))
  await Promise.all([...Array(10).keys()].map((i) => sql.begin((sql) => sql`INSERT INTO ${sql(table)} VALUES (${100 + i})`)))
  c.same(await count(), 12, 'by transactions at once')
  await sql`DROP TABLE ${sql(table)}`
}

async function reserving(c) {
  const sql = pool(c, { max: 2 })
  const reserved = await sql.reserve()
  try {
    await reserved`BEGIN`
    const id = await first(reserved`SELECT txid_current()`)
    for (let i = 0; i < 3; i++) {
      c.same(await first(reserved`SELECT txid_current()`), id, 'the same transaction')
    }
    await reserved`ROLLBACK`
    for (let i = 0; i < 5; i++) {
      c.same(await first(reserved`SELECT ${i}::int`), i, 'of the reserved one')
      c.same(await first(sql`SELECT ${i}::int`), i, 'of another')
    }
  } finally {
    reserved.release()
  }
  const again = await Promise.all([sql.reserve(), sql.reserve()])
  c.same(await Promise.all(again.map((one, i) => first(one`SELECT ${i}::int`))), [0, 1], 'both reserved')
  for (const one of again) one.release()
}

async function cursors(c) {
  const sql = pool(c)
  for (let round = 0; round < 3; round++) {
    const sizes = []
    await sql`SELECT generate_series(1, ${95}) AS g`.cursor(10, (rows) => void sizes.push(rows.length))
    c.same(sizes, [10, 10, 10, 10, 10, 10, 10, 10, 10, 5], 'portions')
    let sum = 0
    for await (const [row] of sql`SELECT generate_series(1, 50) AS g`.cursor()) sum += row.g
    c.same(sum, 1275, 'row by row')
    let seen = 0
    for await (const rows of sql`SELECT generate_series(1, 1000000)`.cursor(20)) if ((seen += rows.length) >= 60) break
    c.same(seen, 60, 'left early')
    await sql`SELECT generate_series(1, 1000000)`.cursor(5, () => sql.CLOSE)
    c.same(await first(sql`SELECT 1`), 1, 'after cursors left early')
    await sql.begin(async (sql) => {
      const inside = []
      await sql`SELECT generate_series(1, 25) AS g`.cursor(10, (rows) => void inside.push(rows.length))
      c.same(inside, [10, 10, 5], 'in a transaction')
    })
  }
  await c.fails('42P01', sql`SELECT * FROM no_such_table WHERE id = ${1}`.cursor(10, () => {}))
  c.same(await first(sql`SELECT 2`), 2, 'after an error')
}

async function copies(c) {
  const sql = pool(c)
  const table = c.table('copy')
  await sql`CREATE TABLE ${sql(table)} (id int PRIMARY KEY, t text)`
  const lines = Array.from({ length: 800 }, (_, i) => `${i}\trow ${i}\n`) // of more than 16 KB the driver may never see the end
  await piped(Readable.from(lines), await sql`COPY ${sql(table)} FROM STDIN`.writable())
  c.same(await first(sql`SELECT count(*)::int FROM ${sql(table)}`), 800, 'copied in')
  const chunks = []
  for await (const chunk of await sql`COPY (SELECT * FROM ${sql(table)} ORDER BY id) TO STDOUT`.readable()) chunks.push(chunk)
  c.same(Buffer.concat(chunks).toString(), lines.join(''), 'what went in comes out')
  await sql.begin(async (sql) => {
    await sql`TRUNCATE ${sql(table)}`
    await piped(Readable.from(['-1\tin a transaction\n']), await sql`COPY ${sql(table)} FROM STDIN`.writable())
    c.same(await first(sql`SELECT t FROM ${sql(table)}`), 'in a transaction', 'in a transaction')
    throw new Error('taken back')
  }).catch((error) => c.same(error.message, 'taken back', 'why it ended'))
  c.same(await first(sql`SELECT count(*)::int FROM ${sql(table)}`), 800, 'taken back')
  await c.fails('42P01', sql`COPY no_such_table FROM STDIN`.writable())
  c.same(await first(sql`SELECT count(*)::int FROM ${sql(table)}`), 800, 'after a refused copy')
  await sql`DROP TABLE ${sql(table)}`
}

async function types(c) {
  const sql = pool(c, { types: { bigint: postgres.BigInt } })
  const moment = new Date(Date.UTC(2024, 1, 29, 23, 59, 58, 123))
  const bytes = Buffer.from([0, 1, 255, c.number])
  for (let i = 0; i < 4; i++) {
    const [row] = await sql`SELECT ${true}::bool AS b, ${-7}::int2 AS s, ${2147483647}::int4 AS i, ${9223372036854775807n}::int8 AS l,
      ${1.5}::float4 AS f, ${-1e300}::float8 AS d, ${'12345678901234567890.000123'}::numeric AS n, ${'ä€😀'}::text AS t,
      ${bytes}::bytea AS y, ${moment}::timestamptz AS z, ${sql.json({ a: [1, null] })}::jsonb AS j, ${null}::text AS u,
      ${sql.array([1, 2, c.number], 1007)}::int4[] AS a, ${['a,b', '"q"', 'NULL', '']}::text[] AS w, '1 day'::interval AS v`
    const expected = {
      b: true, s: -7, i: 2147483647, l: 9223372036854775807n, f: 1.5, d: -1e300, n: '12345678901234567890.000123', t: 'ä€😀',
      y: bytes, z: moment, j: { a: [1, null] }, u: null, a: [1, 2, c.number], w: ['a,b', '"q"', 'NULL', ''], v: '1 day',
    }
    for (const [name, value] of Object.entries(expected)) c.same(row[name], value, name)
  }
  const camel = pool(c, { transform: { ...postgres.camel, undefined: null } })
  const [turned] = await camel`SELECT ${'x'}::text AS snake_case, ${undefined}::text AS not_given`
  c.same({ ...turned }, { snakeCase: 'x', notGiven: null }, 'names turned')
}

async function errors(c) {
  const notices = []
  const sql = pool(c, { onnotice: (notice) => notices.push(notice.message) })
  const table = c.table('errors')
  await sql`CREATE TABLE ${sql(table)} (id int PRIMARY KEY, n int CHECK (n > 0))`
  await sql`INSERT INTO ${sql(table)} VALUES (1, 1)`
  for (let i = 0; i < 4; i++) {
    await c.fails('42601', sql`SELEC ${1}`)
    await c.fails('42P01', sql`SELECT * FROM no_such_table WHERE id = ${1}`)
    const twice = await c.fails('23505', sql`INSERT INTO ${sql(table)} VALUES (${1}, 1)`)
    c.same([twice.table_name, twice.constraint_name, twice.detail], [table, `${table}_pkey`, 'Key (id)=(1) already exists.'], 'fields')
    await c.fails('23514', sql`INSERT INTO ${sql(table)} VALUES (${2}, ${-1})`)
    await c.fails('22012', sql`SELECT 1; SELECT 1/0`.simple())
    await c.fails('UNDEFINED_VALUE', sql`SELECT ${undefined}::text`)
    await sql.unsafe(`DO $$ BEGIN RAISE NOTICE 'notice ${i}'; END $$`)
    c.same(notices.at(-1), `notice ${i}`, 'a notice')
    c.same(await first(sql`SELECT count(*)::int FROM ${sql(table)}`), 1, 'after errors')
  }
  await sql`DROP TABLE ${sql(table)}`
}

// The driver prepares anew what PostgreSQL refuses after the result's columns changed.
async function schemaChanges(c) {
  const sql = pool(c)
  const table = c.table('changing')
  await sql`CREATE TABLE ${sql(table)} (id int)`
  await sql`INSERT INTO ${sql(table)} VALUES (1)`
  const all = () => sql`SELECT * FROM ${sql(table)} WHERE id = ${1}`
  for (let i = 0; i < 3; i++) c.same({ ...(await all())[0] }, { id: 1 }, 'before')
  await sql`ALTER TABLE ${sql(table)} ADD COLUMN more text DEFAULT 'new'`
  for (let i = 0; i < 3; i++) c.same({ ...(await all())[0] }, { id: 1, more: 'new' }, 'after ADD COLUMN')
  await sql`DROP TABLE ${sql(table)}`
}

async function cancels(c) {
  const sql = pool(c)
  const watcher = pool(c)
  await c.inTurn(sumBy(sql), async () => {
    const mark = c.table('cancel')
    const query = sql`SELECT pg_sleep(20) ${sql.unsafe(`/* ${mark} */`)}`.execute()
    const ended = query.then((rows) => rows, (error) => Promise.reject(error))
    ended.catch(() => {})
    await eventually(
      () => first(watcher`SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE ${`%pg_sleep(20) /* ${mark} */`}`),
      'the statement runs',
    )
    query.cancel()
    await c.fails('57014', ended)
    c.same(await first(sql`SELECT 1`), 1, 'after a cancel')
  })
  await c.fails('57014', sql.begin(async (sql) => {
    await sql`SET LOCAL statement_timeout = 50`
    await sql`SELECT pg_sleep(20)`
  }))
  c.same(await first(sql`SHOW statement_timeout`), '0', 'SET LOCAL ended')
}

async function listening(c) {
  const sql = pool(c)
  const channel = c.table('channel')
  const heard = []
  await c.inTurn(sumBy(sql), async () => {
    let ready = 0
    const { unlisten } = await sql.listen(channel, (payload) => heard.push(payload), () => ready++)
    c.same(ready, 1, 'told that it listens')
    for (let i = 0; i < 4; i++) {
      await sql.notify(channel, `payload ${i}`)
      await eventually(() => heard.length === i + 1, 'a notification')
      c.same(heard[i], `payload ${i}`, 'a notification')
    }
    await sql.begin(async (sql) => {
      await sql`SELECT pg_notify(${channel}, 'of a transaction')`
      c.same(heard.length, 4, 'nothing before the commit')
    })
    await eventually(() => heard.length === 5, 'a notification at commit')
    c.same(heard[4], 'of a transaction', 'a notification at commit')
    await unlisten()
    await sql.notify(channel, 'unheard')
    c.same(await first(sql`SELECT 1`), 1, 'a query after it')
    c.same(heard.length, 5, 'nothing after unlisten')
  })
}

async function largeObjects(c) {
  const sql = pool(c)
  const content = Buffer.alloc(50_000, `${c.number}.`)
  const oid = await first(sql`SELECT lo_from_bytea(0, ${content})`)
  c.check((await first(sql`SELECT lo_get(${oid})`)).equals(content), 'the whole')
  await sql.begin(async (sql) => {
    const handle = await first(sql`SELECT lo_open(${oid}, ${0x60000})`)
    c.same(await first(sql`SELECT lo_lseek(${handle}, 100, 0)`), 100, 'seek')
    c.same(await first(sql`SELECT lowrite(${handle}, ${Buffer.from('written')})`), 7, 'write')
  })
  c.same((await first(sql`SELECT lo_get(${oid}, 100, 7)`)).toString(), 'written', 'a part')
  c.same(await first(sql`SELECT lo_unlink(${oid})`), 1, 'unlink')
}

async function settings(c) {
  const sql = pool(c)
  await sql.unsafe(`SET statement_timeout = ${30_001 + c.number}`)
  await sql`SELECT set_config('myapp.tenant', ${`tenant ${c.number}`}, false)`
  await sql.unsafe(`SET work_mem TO '${3001 + c.number}kB'; SET TIME ZONE 'Etc/GMT+${c.number}'`)
  for (let i = 0; i < 6; i++) {
    c.same(await first(sql`SHOW statement_timeout`), `${30_001 + c.number}ms`, 'statement_timeout')
    c.same(await first(sql`SELECT current_setting('myapp.tenant')`), `tenant ${c.number}`, 'tenant')
    c.same(await first(sql`SHOW work_mem`), `${3001 + c.number}kB`, 'work_mem')
    c.same(await first(sql`SHOW TimeZone`), `Etc/GMT+${c.number}`, 'TimeZone')
  }
  await c.fails('taken back', sql.begin(async (sql) => {
    await sql`SET statement_timeout = 12345`
    c.same(await first(sql`SHOW statement_timeout`), '12345ms', 'inside')
    throw new Error('taken back')
  }))
  c.same(await first(sql`SHOW statement_timeout`), `${30_001 + c.number}ms`, 'taken back')
  await sql`RESET ALL`
  c.same(await first(sql`SHOW statement_timeout`), '0', 'after RESET ALL')
  const schema = c.table('schema')
  await sql.unsafe(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.here (owner int); INSERT INTO ${schema}.here VALUES (${c.number})`)
  await sql`SET search_path TO ${sql(schema)}, public`
  for (let i = 0; i < 4; i++) c.same(await first(sql`SELECT owner FROM here`), c.number, 'a table of the search_path')
  await sql`RESET search_path`
  await c.fails('42P01', sql`SELECT owner FROM here WHERE true`)
  await sql`DROP SCHEMA ${sql(schema)} CASCADE`
}

async function roles(c) {
  const sql = pool(c)
  const login = await first(sql`SELECT session_user`)
  const changed = c.number % 2 === 0
  if (changed) await sql`SET ROLE pg_read_all_stats`
  for (let i = 0; i < 6; i++) {
    c.same(await first(sql`SELECT current_user`), changed ? 'pg_read_all_stats' : login, 'current_user')
  }
  await sql`RESET ROLE`
  c.same(await first(sql`SELECT current_user`), login, 'after RESET ROLE')
}

async function tempTables(c) {
  const sql = pool(c)
  for (let round = 0; round < 5; round++) {
    await sql.begin(async (sql) => {
      await sql`CREATE TEMP TABLE scratch (id int) ON COMMIT DROP`
      await sql`INSERT INTO scratch SELECT generate_series(1, ${c.number + 1}::int)`
      c.same(await first(sql`SELECT count(*)::int FROM scratch`), c.number + 1, 'rows')
    })
    c.same(await first(sql`SELECT to_regclass('pg_temp.scratch')`), null, 'gone')
  }
  await c.inTurn(sumBy(sql), async () => {
    await sql`CREATE TEMP TABLE kept (id int PRIMARY KEY, t text)`
    for (let i = 0; i < 5; i++) {
      await sql`INSERT INTO kept ${sql({ id: i, t: `of ${c.number}` })}`
      c.same(await first(sql`SELECT count(*)::int FROM kept`), i + 1, 'rows kept')
    }
    await c.fails('taken back', sql.begin(async (sql) => {
      await sql`DELETE FROM kept`
      throw new Error('taken back')
    }))
    c.same(await first(sql`SELECT DISTINCT t FROM kept`), `of ${c.number}`, 'still mine')
    await sql`DROP TABLE kept`
  })
}

const lockBase = [...PREFIX].reduce((n, character) => (n * 31 + character.codePointAt(0)) % 1_000_000, 0) * 100

async function advisoryLocks(c) {
  const sql = pool(c)
  const other = pool(c)
  const held = (by) => first(by`SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`)
  for (let round = 0; round < 4; round++) {
    await sql.begin(async (sql) => {
      await sql`SELECT pg_advisory_xact_lock(${lockBase})`
      c.same(await held(sql), 1, 'held in a transaction')
    })
  }
  await c.inTurn(sumBy(sql), async () => {
    c.same(await first(sql`SELECT pg_try_advisory_lock(${lockBase + 1})`), true, 'locked')
    for (let i = 0; i < 4; i++) {
      c.same(await first(other`SELECT pg_try_advisory_xact_lock(${lockBase + 1})`), false, 'refused to another')
      c.same(await held(sql), 1, 'held')
    }
    c.same(await first(sql`SELECT pg_advisory_unlock(${lockBase + 1})`), true, 'unlocked')
  })
}

async function holdCursor(c) {
  const sql = pool(c)
  await c.inTurn(sumBy(sql), async () => {
    await sql.begin((sql) =>
      sql.unsafe(`DECLARE held CURSOR WITH HOLD FOR SELECT g * 10 + ${c.number} AS v FROM generate_series(1, 100) g`))
    for (let i = 0; i < 5; i++) {
      const rows = await sql`FETCH 20 FROM held`
      c.same([rows.length, rows[0].v], [20, (i * 20 + 1) * 10 + c.number], 'fetched')
    }
    await sql`CLOSE held`
    await c.fails('34000', sql`FETCH 1 FROM held`)
  })
}

async function sqlPrepare(c) {
  const sql = pool(c)
  await sql.unsafe(`PREPARE plan (int) AS SELECT $1 * 100 + ${c.number} AS v`)
  for (let i = 0; i < 6; i++) c.same(await first(sql.unsafe(`EXECUTE plan(${i})`)), i * 100 + c.number, 'executed')
  await c.fails('42P05', sql`PREPARE plan AS SELECT 1`)
  await sql`DEALLOCATE plan`
  await c.fails('26000', sql.unsafe('EXECUTE plan(1)'))
}

async function cleaned() {
  const sql = postgres({ max: 1, ssl: false, onnotice: () => {} })
  await dropAll((text) => sql.unsafe(text))
  await sql.end()
}

await cleaned()
await feature('connect', connecting)
await feature('templates', templates(true))
await feature('templates_unprepared', templates(false))
await feature('pipelined', pipelined)
await feature('transactions', transactions)
await feature('reserve', reserving)
await feature('cursor', cursors)
await feature('copy', copies)
await feature('types', types)
await feature('errors', errors)
await feature('schema_changes', schemaChanges)
await feature('cancel', cancels)
await feature('large_objects', largeObjects)
await feature('listen', listening)
await feature('settings', settings)
await feature('role', roles)
await feature('temp_tables', tempTables)
await feature('advisory_locks', advisoryLocks)
await feature('hold_cursor', holdCursor)
await feature('sql_prepare', sqlPrepare)
await cleaned()
await finish()
