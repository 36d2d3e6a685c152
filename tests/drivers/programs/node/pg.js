// node-postgres with pg-cursor, pg-query-stream and pg-copy-streams, as applications use them.

import { pipeline as piped } from 'node:stream/promises'
import { Readable } from 'node:stream'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { PREFIX, dropAll, eventually, feature, finish } from './features.js'

// A connected client; all else comes from the PG* variables. It is closed when the feature is over.
async function connect(c, options = {}) {
  const client = new pg.Client(options)
  client.on('error', () => {}) // reported by the query it hits
  c.atEnd(() => client.end())
  await client.connect()
  return client
}

const one = async (client, text, values) => Object.values((await client.query(text, values)).rows[0] ?? { nothing: null })[0]

const sumBy = (client) => (a, b) => one(client, 'SELECT $1::int + $2::int', [a, b])

async function connecting(c) {
  const client = await connect(c, {
    application_name: `node ${c.number}`,
    statement_timeout: 20_001 + c.number,
    lock_timeout: 10_001 + c.number,
    idle_in_transaction_session_timeout: 30_001 + c.number,
    options: `-c work_mem=${2049 + c.number} -c search_path=pg_catalog,public`,
    keepAlive: true,
  })
  for (let i = 0; i < 5; i++) {
    c.same(await one(client, 'SHOW application_name'), `node ${c.number}`, 'application_name')
    c.same(await one(client, 'SHOW statement_timeout'), `${20_001 + c.number}ms`, 'statement_timeout')
    c.same(await one(client, 'SHOW lock_timeout'), `${10_001 + c.number}ms`, 'lock_timeout')
    c.same(await one(client, 'SHOW idle_in_transaction_session_timeout'), `${30_001 + c.number}ms`, 'idle timeout')
    c.same(await one(client, 'SHOW work_mem'), `${2049 + c.number}kB`, 'work_mem')
    c.same(await one(client, 'SHOW search_path'), 'pg_catalog,public', 'search_path')
  }
  const wrong = new pg.Client({ password: 'wrong' })
  wrong.on('error', () => {})
  await c.fails('28P01', wrong.connect())
  const { PGUSER: user, PGPASSWORD: password, PGHOST: host, PGPORT: port, PGDATABASE: database } = process.env
  const url = `postgres://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}?application_name=by%20url`
  const byUrl = await connect(c, { connectionString: url })
  c.same(await one(byUrl, 'SHOW application_name'), 'by url', 'a connection string')
  await byUrl.end()
  await c.fails('Client was closed and is not queryable', byUrl.query('SELECT 1'))
}

async function simpleQueries(c) {
  const client = await connect(c)
  for (let i = 0; i < 10; i++) {
    const result = await client.query(`SELECT ${i} AS number, 'text ${c.number}' AS words, NULL AS nothing`)
    c.same(result.rows, [{ number: i, words: `text ${c.number}`, nothing: null }], 'a row')
    c.same([result.command, result.rowCount, result.fields.length], ['SELECT', 1, 3], 'the result')
  }
  const table = c.table('simple')
  const several = await client.query(
    `CREATE TABLE ${table} (id int); INSERT INTO ${table} SELECT generate_series(1, 7); SELECT count(*) FROM ${table};
     UPDATE ${table} SET id = id + 1 WHERE id > 3; DROP TABLE ${table}`,
  )
  c.same(several.map((r) => r.command), ['CREATE', 'INSERT', 'SELECT', 'UPDATE', 'DROP'], 'commands')
  c.same(several.map((r) => r.rowCount), [null, 7, 1, 4, null], 'counts')
  c.same((await client.query({ text: 'SELECT 1, 2, 2', rowMode: 'array' })).rows, [[1, 2, 2]], 'rows as arrays')
  for (const text of ['', ';', '-- only a comment']) c.same((await client.query(text)).rows, [], 'an empty query')
  c.same((await client.query('SELECT generate_series(1, 20000) AS g')).rows.at(-1), { g: 20000 }, 'many rows')
  const notices = []
  client.on('notice', (notice) => notices.push(notice.message))
  await client.query(`DO $$ BEGIN RAISE NOTICE 'notice of ${c.number}'; END $$`)
  c.same(notices, [`notice of ${c.number}`], 'a notice')
}

async function parameters(c) {
  const client = await connect(c)
  for (let i = 0; i < 10; i++) {
    c.same(await one(client, 'SELECT $1::int + $2', [i, c.number]), i + c.number, 'a sum')
    c.same(await one(client, 'SELECT $1::text', [`it's \\ ${i} ä€😀`]), `it's \\ ${i} ä€😀`, 'a text')
    c.same(await one(client, 'SELECT $1::text', [null]), null, 'null')
    c.same(await one(client, 'SELECT $1::text', [undefined]), null, 'undefined')
    c.same(await one(client, 'SELECT id FROM unnest($1::int[]) AS id WHERE id = ANY($2)', [[1, 2, 3], [3, 4]]), 3, 'arrays')
  }
  const large = 'x'.repeat(300_000) + c.number
  c.same(await one(client, 'SELECT $1::text', [large]), large, 'a large value')
  const many = Array.from({ length: 2000 }, (_, i) => i)
  c.same(await one(client, `SELECT ${many.map((i) => `$${i + 1}::int`).join(' + ')}`, many), 1999 * 1000, 'many parameters')
  c.same((await client.query({ text: 'SELECT $1::int AS a', values: [7], binary: true })).rows, [{ a: 7 }], 'binary') // beyond ASCII the driver misreads it
  const paged = await client.query({ text: 'SELECT generate_series(1, $1) AS g', values: [100], rows: 10 })
  c.same(paged.rows.length, 100, 'rows by portions')
  await c.fails('08P01', client.query('SELECT $1::int', [1, 2]))
  await c.fails('22P02', client.query('SELECT $1::int', ['not a number']))
  c.same(await one(client, 'SELECT 1'), 1, 'after errors')
}

async function prepared(c) {
  const client = await connect(c)
  // The same name means something else to each client.
  const mine = { name: 'mine', text: `SELECT $1::int * 1000 + ${c.number} AS n` }
  for (let i = 0; i < 12; i++) {
    c.same((await client.query({ ...mine, values: [i] })).rows[0].n, i * 1000 + c.number, 'mine')
    const common = { name: 'common', text: 'SELECT $1::text || $2::text AS t', values: ['a', `${c.number}`] }
    c.same((await client.query(common)).rows[0].t, `a${c.number}`, 'common')
    c.same((await client.query({ name: 'mine', values: [i] })).rows[0].n, i * 1000 + c.number, 'by its name alone')
  }
  await c.fails(
    "Prepared statements must be unique - 'mine' was used for a different statement",
    client.query({ name: 'mine', text: 'SELECT 1' }),
  )
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 60; i++) {
      const got = await client.query({ name: `many ${i}`, text: `SELECT ${i} AS i, $1::int AS n`, values: [c.number] })
      if (got.rows[0].i !== i || got.rows[0].n !== c.number) throw new Error(`statement ${i}: ${got.rows[0].i}`)
    }
    c.check(true, 'many names')
  }
  for (let i = 0; i < 4; i++) {
    await c.fails('42P01', client.query({ name: 'wrong', text: 'SELECT * FROM no_such_table WHERE a = $1', values: [1] }))
    await c.fails('22012', client.query({ name: 'divide', text: 'SELECT 1 / $1::int AS d', values: [0] }))
    c.same((await client.query({ name: 'divide', text: 'SELECT 1 / $1::int AS d', values: [1] })).rows[0].d, 1, 'divided')
  }
  await client.query('BEGIN')
  for (let i = 0; i < 5; i++) c.same((await client.query({ ...mine, values: [i] })).rows[0].n, i * 1000 + c.number, 'mine')
  await client.query('ROLLBACK')
}

// All sent at once; the driver holds them back until the one before is answered.
async function queued(c) {
  const client = await connect(c)
  const table = c.table('queued')
  await sequence(c, client, table)
}

// All sent at once, really: the answers come when they come.
async function pipelined(c) {
  const client = await connect(c, { pipeline: true })
  const table = c.table('pipelined')
  await sequence(c, client, table)
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.allSettled(
      Array.from({ length: 100 }, (_, i) =>
        client.query({ name: `of ten ${i % 10}`, text: `SELECT 100 / $1::int AS d, ${i % 10} AS i`, values: [i % 7] }),
      ),
    )
    c.same(answers.filter((a) => a.status === 'rejected').map((a) => a.reason.code).length, 15, 'refused ones')
    c.check(
      answers.every((a, i) => (a.status === 'rejected') === (i % 7 === 0) && (i % 7 === 0 || a.value.rows[0].i === i % 10)),
      'each answer belongs to its query',
    )
  }
}

async function sequence(c, client, table) {
  const sent = [client.query(`CREATE TABLE ${table} (id int PRIMARY KEY, t text)`), client.query('BEGIN')]
  for (let i = 0; i < 30; i++) {
    sent.push(client.query(`INSERT INTO ${table} VALUES ($1, $2) RETURNING id`, [i, `row ${i}`]))
    sent.push(client.query({ name: 'select', text: `SELECT count(*)::int FROM ${table}` }))
  }
  sent.push(client.query('COMMIT'))
  const results = await Promise.all(sent)
  c.same(results.slice(2, 62).map((r) => Object.values(r.rows[0])[0]), [...Array(60)].map((_, i) => (i >> 1) + (i & 1)), 'in order')
  const outcomes = await Promise.allSettled([
    client.query('BEGIN'),
    client.query(`INSERT INTO ${table} VALUES (100)`),
    client.query(`INSERT INTO ${table} VALUES (1)`),
    client.query('SELECT 1'),
    client.query('ROLLBACK'),
    client.query('SELECT 2 AS two'),
    client.query(`BEGIN; DELETE FROM ${table}; COMMIT`),
    client.query(`SELECT count(*)::int AS n FROM ${table}`),
  ])
  c.same(outcomes.map((o) => o.reason?.code ?? 'ok'), ['ok', 'ok', '23505', '25P02', 'ok', 'ok', 'ok', 'ok'], 'outcomes')
  c.same([outcomes[5].value.rows[0].two, outcomes[7].value.rows[0].n], [2, 0], 'after them')
  await client.query(`DROP TABLE ${table}`)
}

async function transactions(c) {
  const client = await connect(c)
  const table = c.table('transactions')
  await client.query(`CREATE TABLE ${table} (id int PRIMARY KEY)`)
  const count = () => one(client, `SELECT count(*)::int FROM ${table}`)
  for (let i = 0; i < 8; i++) {
    await client.query('BEGIN')
    await client.query(`INSERT INTO ${table} VALUES ($1)`, [i])
    c.same(await count(), 1, 'inside')
    const id = await one(client, 'SELECT txid_current()')
    c.same(await one(client, 'SELECT txid_current()'), id, 'the same transaction')
    await client.query(i % 2 ? 'ROLLBACK' : 'ABORT')
    c.same(await count(), 0, 'after it')
  }
  await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE')
  c.same(await one(client, 'SHOW transaction_isolation'), 'serializable', 'isolation')
  await client.query(`INSERT INTO ${table} VALUES (1)`)
  await client.query('SAVEPOINT s')
  await c.fails('23505', client.query(`INSERT INTO ${table} VALUES ($1)`, [1]))
  await c.fails('25P02', client.query('SELECT 1'))
  await client.query('ROLLBACK TO SAVEPOINT s')
  await client.query(`INSERT INTO ${table} VALUES (2)`)
  await client.query('RELEASE SAVEPOINT s')
  await client.query('COMMIT AND CHAIN')
  c.same(await one(client, 'SHOW transaction_isolation'), 'serializable', 'chained')
  await client.query('COMMIT')
  c.same(await count(), 2, 'committed')
  await client.query('BEGIN')
  await c.fails('22012', client.query('SELECT 1/0'))
  c.same((await client.query('COMMIT')).command, 'ROLLBACK', 'COMMIT of a failed transaction')
  await client.query('BEGIN READ ONLY')
  await c.fails('25006', client.query(`DELETE FROM ${table}`))
  await client.query('END')
  await client.query(`DROP TABLE ${table}`)
}

async function pools(c) {
  const pool = new pg.Pool({ max: 3, idleTimeoutMillis: 50 })
  c.atEnd(() => pool.end())
  const table = c.table('pool')
  await pool.query(`CREATE TABLE ${table} (id int PRIMARY KEY, n int)`)
  await pool.query(`INSERT INTO ${table} SELECT g, 100 FROM generate_series(0, 4) g`)
  const move = async (from, to) => {
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      const ids = [from, to].sort()
      await client.query(`SELECT FROM ${table} WHERE id = ANY($1) ORDER BY id FOR UPDATE`, [ids])
      await client.query({ name: 'add', text: `UPDATE ${table} SET n = n + $1 WHERE id = $2`, values: [-1, from] })
      await client.query({ name: 'add', text: `UPDATE ${table} SET n = n + $1 WHERE id = $2`, values: [1, to] })
      await client.query('COMMIT')
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    } finally {
      client.release()
    }
  }
  await Promise.all(Array.from({ length: 30 }, (_, i) => move(i % 5, (i * 3 + 1) % 5)))
  c.same(Number((await pool.query(`SELECT sum(n) FROM ${table}`)).rows[0].sum), 500, 'the sum')
  const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => pool.query('SELECT $1::int AS i', [i])))
  c.same(answers.map((a) => a.rows[0].i), [...Array(30).keys()], 'answers')
  await c.fails('42P01', pool.query('SELECT * FROM no_such_table'))
  await eventually(() => pool.totalCount === 0, 'idle ones are closed')
  c.same((await pool.query('SELECT 1 AS a')).rows, [{ a: 1 }], 'after all were closed')
  await pool.query(`DROP TABLE ${table}`)
}

async function types(c) {
  const client = await connect(c)
  const moment = new Date(Date.UTC(2024, 1, 29, 23, 59, 58, 123))
  const bytes = Buffer.from([0, 1, 255, c.number])
  const values = {
    bool: true, int2: -7, int4: -2147483648, float4: 1.5, float8: -1e300, text: 'ä€😀', bytea: bytes, timestamptz: moment,
    jsonb: { a: [1, null, { b: 'c' }] }, 'int4[]': [1, null, c.number], 'text[]': ['a,b', '"q"', 'NULL', '', null],
    int8: '9223372036854775807', numeric: '12345678901234567890.000123', uuid: '0d9c0b9e-0000-4000-8000-00000000000a',
    inet: '10.0.0.1', 'int4range': '[1,5)', 'bool[]': [true, false], 'float8[]': [1.5, -2], 'bytea[]': [bytes],
  }
  const columns = Object.keys(values).map((type, i) => `$${i + 1}::${type} AS "${type}"`)
  for (let i = 0; i < 4; i++) {
    const name = i < 2 ? undefined : 'types'
    const { rows } = await client.query({ name, text: `SELECT ${columns}`, values: Object.values(values) })
    for (const [type, value] of Object.entries(values)) c.same(rows[0][type], value, type)
  }
  const row = (await client.query("SELECT '1 day 02:00'::interval AS i, '(1,2)'::point AS p, 'NaN'::float8 AS n")).rows[0]
  c.same([row.i.days, row.i.hours, row.p, row.n], [1, 2, { x: 1, y: 2 }, NaN], 'objects')
  const own = await connect(c, { types: { getTypeParser: (oid) => (oid === 20 ? BigInt : (text) => text) } })
  c.same((await own.query('SELECT 5::int8 AS b, 5::int4 AS t')).rows, [{ b: 5n, t: '5' }], 'own parsers')
}

async function errors(c) {
  const client = await connect(c)
  const table = c.table('errors')
  await client.query(`CREATE TABLE ${table} (id int PRIMARY KEY, n int CHECK (n > 0)); INSERT INTO ${table} VALUES (1, 1)`)
  for (let i = 0; i < 4; i++) {
    await c.fails('42601', client.query('SELEC 1'))
    await c.fails('42601', client.query('SELEC $1', [1]))
    const twice = await c.fails('23505', client.query(`INSERT INTO ${table} VALUES ($1, 1)`, [1]))
    c.same([twice.table, twice.constraint, twice.detail], [table, `${table}_pkey`, 'Key (id)=(1) already exists.'], 'its fields')
    await c.fails('23514', client.query(`INSERT INTO ${table} VALUES (2, -1)`))
    const raised = await c.fails('P0001', client.query("DO $$ BEGIN RAISE EXCEPTION 'mine' USING HINT = 'a hint'; END $$"))
    c.same([raised.message, raised.hint, raised.severity], ['mine', 'a hint', 'ERROR'], 'what was raised')
    await c.fails('22012', client.query('SELECT 1; SELECT 1/0; SELECT 2'))
    await c.fails('22012', client.query('SELECT 1 / (2000 - g) FROM generate_series(1, 4000) g'))
    await c.fails('22012', client.query('SELECT 1 / ($1 - g) FROM generate_series(1, 4000) g', [2000]))
    c.same(await one(client, `SELECT count(*)::int FROM ${table}`), 1, 'after errors')
  }
  await client.query(`DROP TABLE ${table}`)
}

async function cursors(c) {
  const client = await connect(c)
  for (let round = 0; round < 4; round++) {
    if (round % 2) await client.query('BEGIN')
    const cursor = client.query(new Cursor('SELECT g, g * $1::int AS t FROM generate_series(1, 100) g', [c.number]))
    for (const [size, got] of [[1, 1], [30, 30], [69, 69], [10, 0]]) {
      const rows = await cursor.read(size)
      c.same(rows.length, got, 'rows of a portion')
      if (got) c.same(rows[0].t, rows[0].g * c.number, 'the first of them')
    }
    await cursor.close()
    const early = client.query(new Cursor('SELECT generate_series(1, 1000000)'))
    c.same((await early.read(5)).length, 5, 'the first five')
    await early.close()
    c.same(await one(client, 'SELECT 1'), 1, 'after a cursor closed early')
    if (round % 2) await client.query('COMMIT')
  }
  const failing = client.query(new Cursor('SELECT 1 / (50 - g) AS d FROM generate_series(1, 100) g'))
  c.same((await failing.read(10)).length, 10, 'before the error')
  await c.fails('22012', failing.read(90))
  await c.fails('42P01', client.query(new Cursor('SELECT * FROM no_such_table')).read(1))
  c.same(await one(client, 'SELECT 2'), 2, 'after errors')
}

async function queryStreams(c) {
  const client = await connect(c)
  for (let round = 0; round < 3; round++) {
    const stream = client.query(new QueryStream('SELECT generate_series(1, $1) AS g', [3000], { batchSize: 100, highWaterMark: 50 }))
    let sum = 0
    for await (const row of stream) sum += row.g
    c.same(sum, 3000 * 3001 / 2, 'the sum of a stream')
    const left = client.query(new QueryStream('SELECT generate_series(1, 1000000) AS g', [], { rowMode: 'array' }))
    for await (const [g] of left) if (g === 250) break
    c.same(await one(client, 'SELECT 1'), 1, 'after a stream left early')
  }
  const failing = client.query(new QueryStream('SELECT 1 / (500 - g) AS d FROM generate_series(1, 1000) g'))
  await c.fails('22012', (async () => { for await (const _ of failing); })())
  c.same(await one(client, 'SELECT 2'), 2, 'after an error')
}

async function copies(c) {
  const client = await connect(c)
  const table = c.table('copy')
  await client.query(`CREATE TABLE ${table} (id int PRIMARY KEY, t text)`)
  const lines = Array.from({ length: 5000 }, (_, i) => `${i},"row, ${i}"\n`)
  const into = client.query(copyFrom(`COPY ${table} FROM STDIN (FORMAT csv)`))
  await piped(Readable.from(lines), into)
  c.same(into.rowCount, 5000, 'rows copied in')
  const out = client.query(copyTo(`COPY (SELECT * FROM ${table} ORDER BY id) TO STDOUT (FORMAT csv)`))
  const chunks = []
  for await (const chunk of out) chunks.push(chunk)
  c.same(Buffer.concat(chunks).toString(), lines.join(''), 'what went in comes out')
  const binary = []
  for await (const chunk of client.query(copyTo(`COPY ${table} TO STDOUT (FORMAT binary)`))) binary.push(chunk)
  await client.query('BEGIN')
  await client.query(`TRUNCATE ${table}`)
  const again = client.query(copyFrom(`COPY ${table} FROM STDIN (FORMAT binary)`))
  await piped(Readable.from(binary), again)
  c.same(await one(client, `SELECT count(*)::int FROM ${table}`), 5000, 'copied in, binary')
  await client.query('ROLLBACK')
  await c.fails('23505', piped(Readable.from(['1,again\n']), client.query(copyFrom(`COPY ${table} FROM STDIN (FORMAT csv)`))))
  await c.fails('22P02', piped(Readable.from(['x,y\n']), client.query(copyFrom(`COPY ${table} FROM STDIN (FORMAT csv)`))))
  await c.fails('42P01', piped(Readable.from(['x\n']), client.query(copyFrom('COPY no_such_table FROM STDIN'))))
  const broken = Readable.from((function* () {
    yield '90000,never\n'
    throw Object.assign(new Error('the source broke'), { code: 'SOURCE' })
  })())
  await c.fails('SOURCE', piped(broken, client.query(copyFrom(`COPY ${table} FROM STDIN (FORMAT csv)`))))
  c.same(await one(client, `SELECT count(*)::int FROM ${table}`), 5000, 'after refused copies')
  await c.fails('57014', client.query(`COPY ${table} FROM STDIN`))
  c.same((await client.query({ text: `SELECT count(*)::int AS n FROM ${table}` })).rows[0].n, 5000, 'after a copy without a source')
  await client.query(`DROP TABLE ${table}`)
}

async function cancels(c) {
  const client = await connect(c)
  await client.query('BEGIN')
  await client.query('SET LOCAL statement_timeout = 50')
  await c.fails('57014', client.query('SELECT pg_sleep(20)'))
  await client.query('ROLLBACK')
  const watcher = await connect(c)
  await c.inTurn(sumBy(client), async () => {
    const slow = `SELECT pg_sleep(20) /* ${c.table('cancel')} */`
    const active = () => one(watcher, "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query = $1", [slow])
    // By a cancel request on another connection, as the driver does it.
    const query = new pg.Query(slow)
    const ended = new Promise((resolve, reject) => query.once('error', reject).once('end', resolve))
    ended.catch(() => {})
    client.query(query)
    await eventually(active, 'the statement runs')
    const canceller = new pg.Client()
    canceller.on('error', () => {})
    canceller.connection.on('error', () => {})
    canceller.cancel(client, query)
    await c.fails('57014', ended)
    // By the function, as an administrator does it.
    const sleeping = client.query(slow)
    sleeping.catch(() => {})
    const pid = await eventually(active, 'the statement runs again')
    c.same(await one(watcher, 'SELECT pg_cancel_backend($1)', [pid]), true, 'pg_cancel_backend')
    await c.fails('57014', sleeping)
    c.same(await one(client, 'SELECT 1'), 1, 'after cancels')
  })
}

async function largeObjects(c) {
  const client = await connect(c)
  const content = Buffer.alloc(50_000, `${c.number}.`)
  const oid = await one(client, 'SELECT lo_from_bytea(0, $1)', [content])
  c.check((await one(client, 'SELECT lo_get($1)', [oid])).equals(content), 'the whole')
  await client.query('BEGIN')
  const handle = await one(client, 'SELECT lo_open($1, 393216)', [oid])
  c.same(await one(client, 'SELECT lo_lseek($1, 100, 0)', [handle]), 100, 'seek')
  c.same(await one(client, 'SELECT lowrite($1, $2)', [handle, Buffer.from('written')]), 7, 'write')
  c.same(await one(client, 'SELECT lo_tell($1)', [handle]), 107, 'tell')
  await client.query('SELECT lo_close($1)', [handle])
  await client.query('COMMIT')
  c.same((await one(client, 'SELECT lo_get($1, 100, 7)', [oid])).toString(), 'written', 'a part')
  c.same(await one(client, 'SELECT lo_unlink($1)', [oid]), 1, 'unlink')
  await c.fails('42704', client.query('SELECT lo_get($1)', [oid]))
}

async function listening(c) {
  const client = await connect(c)
  const other = await connect(c)
  const channel = c.table('channel')
  const heard = []
  client.on('notification', (n) => heard.push(`${n.channel} ${n.payload}`))
  await c.inTurn(sumBy(client), async () => {
    await client.query(`LISTEN ${channel}`)
    for (let i = 0; i < 3; i++) {
      await other.query('SELECT pg_notify($1, $2)', [channel, `payload ${i}`])
      await eventually(() => heard.length === i + 1, 'a notification without a query')
      c.same(heard[i], `${channel} payload ${i}`, 'a notification')
    }
    await client.query(`NOTIFY ${channel}, 'to myself'`)
    await eventually(() => heard.length === 4, 'a notification to oneself')
    c.same(heard[3], `${channel} to myself`, 'a notification to oneself')
    c.same(await one(client, 'SELECT pg_listening_channels()'), channel, 'channels')
    await client.query('UNLISTEN *')
    await other.query(`NOTIFY ${channel}, 'unheard'`)
    c.same(await one(client, 'SELECT count(*)::int FROM pg_listening_channels()'), 0, 'no channels')
    c.same(heard.length, 4, 'nothing after UNLISTEN')
  })
}

async function settings(c) {
  const client = await connect(c)
  await client.query(`SET statement_timeout = ${30_001 + c.number}`)
  await client.query("SELECT set_config('myapp.tenant', $1, false)", [`tenant ${c.number}`])
  await client.query(`SET work_mem TO '${3001 + c.number}kB'; SET TIME ZONE 'Etc/GMT+${c.number}'`)
  for (let i = 0; i < 6; i++) {
    c.same(await one(client, 'SHOW statement_timeout'), `${30_001 + c.number}ms`, 'statement_timeout')
    c.same(await one(client, "SELECT current_setting('myapp.tenant')"), `tenant ${c.number}`, 'tenant')
    c.same(await one(client, 'SHOW work_mem'), `${3001 + c.number}kB`, 'work_mem')
    c.same(await one(client, 'SHOW TimeZone'), `Etc/GMT+${c.number}`, 'TimeZone')
  }
  await client.query('BEGIN')
  await client.query('SET statement_timeout = 12345')
  await client.query("SET LOCAL work_mem = '4321kB'")
  c.same(await one(client, 'SHOW statement_timeout'), '12345ms', 'inside')
  await client.query('ROLLBACK')
  c.same(await one(client, 'SHOW statement_timeout'), `${30_001 + c.number}ms`, 'taken back')
  c.same(await one(client, 'SHOW work_mem'), `${3001 + c.number}kB`, 'after SET LOCAL')
  await client.query('BEGIN; SET statement_timeout = 23456; COMMIT')
  c.same(await one(client, 'SHOW statement_timeout'), '23456ms', 'kept')
  await client.query('RESET ALL')
  const fresh = await connect(c)
  for (const name of ['statement_timeout', 'work_mem', 'TimeZone']) {
    c.same(await one(client, `SHOW ${name}`), await one(fresh, `SHOW ${name}`), `${name} after RESET ALL`)
  }
  c.same(await one(client, "SELECT current_setting('myapp.tenant', true)"), '', 'tenant after RESET ALL')
}

async function searchPath(c) {
  const client = await connect(c)
  const schema = c.table('schema')
  await client.query(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.here (owner int); INSERT INTO ${schema}.here VALUES (${c.number})`)
  await client.query(`SET search_path TO ${schema}, public`)
  for (let i = 0; i < 5; i++) {
    c.same(await one(client, 'SHOW search_path'), `${schema}, public`, 'search_path')
    c.same(await one(client, 'SELECT owner FROM here'), c.number, 'a table of mine')
    c.same((await client.query({ name: 'here', text: 'SELECT owner FROM here' })).rows[0].owner, c.number, 'prepared')
  }
  await client.query('RESET search_path')
  await c.fails('42P01', client.query('SELECT owner FROM here'))
  await client.query(`DROP SCHEMA ${schema} CASCADE`)
}

async function roles(c) {
  const client = await connect(c)
  const login = await one(client, 'SELECT session_user')
  const changed = c.number % 2 === 0
  if (changed) await client.query('SET ROLE pg_read_all_stats')
  for (let i = 0; i < 6; i++) {
    c.same(await one(client, 'SELECT current_user'), changed ? 'pg_read_all_stats' : login, 'current_user')
    c.same(await one(client, 'SELECT session_user'), login, 'session_user')
  }
  await client.query('RESET ROLE')
  c.same(await one(client, 'SELECT current_user'), login, 'after RESET ROLE')
}

async function tempTables(c) {
  const client = await connect(c)
  for (let round = 0; round < 5; round++) {
    await client.query('BEGIN')
    await client.query('CREATE TEMP TABLE scratch (id int) ON COMMIT DROP')
    await client.query('INSERT INTO scratch SELECT generate_series(1, $1)', [c.number + 1])
    c.same(await one(client, 'SELECT count(*)::int FROM scratch'), c.number + 1, 'rows')
    await client.query('COMMIT')
    c.same(await one(client, "SELECT to_regclass('pg_temp.scratch')"), null, 'gone')
  }
}

async function tempTablesKept(c) {
  const client = await connect(c)
  await c.inTurn(sumBy(client), async () => {
    await client.query('CREATE TEMP TABLE scratch (id int PRIMARY KEY, t text)')
    for (let i = 0; i < 5; i++) {
      await client.query({ name: 'fill', text: 'INSERT INTO scratch VALUES ($1, $2)', values: [i, `of ${c.number}`] })
      c.same(await one(client, 'SELECT count(*)::int FROM scratch'), i + 1, 'rows')
    }
    await client.query('BEGIN; DELETE FROM scratch; ROLLBACK')
    c.same(await one(client, 'SELECT DISTINCT t FROM scratch'), `of ${c.number}`, 'still mine')
    await client.query('DROP TABLE scratch')
    c.same(await one(client, "SELECT to_regclass('pg_temp.scratch')"), null, 'gone')
  })
}

const lockBase = [...PREFIX].reduce((n, character) => (n * 31 + character.codePointAt(0)) % 1_000_000, 0) * 100
const held = "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"

async function advisoryLocks(c) {
  const client = await connect(c)
  for (let round = 0; round < 5; round++) {
    await client.query('BEGIN')
    await client.query('SELECT pg_advisory_xact_lock($1)', [lockBase])
    c.same(await one(client, 'SELECT pg_try_advisory_xact_lock($1)', [lockBase + 1 + c.number]), true, 'my own')
    c.same(await one(client, held), 2, 'held')
    await client.query('COMMIT')
    c.same(await one(client, held), 0, 'let go')
  }
}

async function advisoryLocksKept(c) {
  const client = await connect(c)
  const other = await connect(c)
  await c.inTurn(sumBy(client), async () => {
    c.same(await one(client, 'SELECT pg_try_advisory_lock($1)', [lockBase + 50]), true, 'locked')
    for (let i = 0; i < 4; i++) {
      c.same(await one(other, 'SELECT pg_try_advisory_xact_lock($1)', [lockBase + 50]), false, 'refused to another')
      c.same(await one(client, held), 1, 'held')
    }
    c.same(await one(client, 'SELECT pg_advisory_unlock($1)', [lockBase + 50]), true, 'unlocked')
    c.same(await one(client, 'SELECT pg_advisory_unlock($1)', [lockBase + 50]), false, 'unlocked only once')
  })
}

async function holdCursor(c) {
  const client = await connect(c)
  await c.inTurn(sumBy(client), async () => {
    await client.query('BEGIN')
    await client.query(`DECLARE held CURSOR WITH HOLD FOR SELECT g * 10 + ${c.number} AS v FROM generate_series(1, 100) g`)
    await client.query('COMMIT')
    for (let i = 0; i < 5; i++) {
      const { rows } = await client.query('FETCH 20 FROM held')
      c.same([rows.length, rows[0].v], [20, (i * 20 + 1) * 10 + c.number], 'fetched')
    }
    await client.query('CLOSE held')
    await c.fails('34000', client.query('FETCH 1 FROM held'))
  })
  await client.query('BEGIN')
  await client.query('DECLARE usual SCROLL CURSOR FOR SELECT generate_series(1, 30) AS v')
  c.same((await client.query('FETCH 10 FROM usual')).rows.length, 10, 'in a transaction')
  c.same((await client.query('FETCH LAST FROM usual')).rows, [{ v: 30 }], 'last')
  await client.query('COMMIT')
}

async function sqlPrepare(c) {
  const client = await connect(c)
  await client.query(`PREPARE plan (int) AS SELECT $1 * 100 + ${c.number} AS v`)
  for (let i = 0; i < 6; i++) c.same(await one(client, `EXECUTE plan(${i})`), i * 100 + c.number, 'executed')
  await c.fails('42P05', client.query('PREPARE plan AS SELECT 1'))
  await client.query('DEALLOCATE plan')
  await c.fails('26000', client.query('EXECUTE plan(1)'))
  await client.query("PREPARE plan AS SELECT 'another'")
  c.same(await one(client, 'EXECUTE plan'), 'another', 'prepared anew')
  await client.query('DEALLOCATE ALL')
  await c.fails('26000', client.query('EXECUTE plan'))
  await client.query('BEGIN')
  await client.query('PREPARE inner_plan AS SELECT 5')
  c.same(await one(client, 'EXECUTE inner_plan'), 5, 'in a transaction')
  await client.query('DEALLOCATE inner_plan')
  await client.query('COMMIT')
}

async function cleaned() {
  const client = new pg.Client()
  await client.connect()
  await dropAll((sql) => client.query(sql))
  await client.end()
}

await cleaned()
await feature('connect', connecting)
await feature('simple_queries', simpleQueries)
await feature('parameters', parameters)
await feature('prepared', prepared)
await feature('queued', queued)
await feature('pipelined', pipelined)
await feature('transactions', transactions)
await feature('pool', pools)
await feature('types', types)
await feature('errors', errors)
await feature('cursor', cursors)
await feature('query_stream', queryStreams)
await feature('copy', copies)
await feature('cancel', cancels)
await feature('large_objects', largeObjects)
await feature('listen', listening)
await feature('settings', settings)
await feature('search_path', searchPath)
await feature('role', roles)
await feature('temp_tables', tempTables)
await feature('temp_tables_kept', tempTablesKept)
await feature('advisory_locks', advisoryLocks)
await feature('advisory_locks_kept', advisoryLocksKept)
await feature('hold_cursor', holdCursor)
await feature('sql_prepare', sqlPrepare)
await cleaned()
await finish()
