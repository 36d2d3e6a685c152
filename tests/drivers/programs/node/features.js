// What the programs of this folder share: a feature is run by CLIENTS clients at the same time, and counts its checks.

import { isDeepStrictEqual } from 'node:util'

export const CLIENTS = Number(process.env.CLIENTS || 8)
export const PREFIX = process.env.PREFIX || 'node_'
const DEADLINE = 30_000

class Client {
  #feature
  #ends = []

  constructor(feature, number) {
    this.#feature = feature
    this.number = number
    this.last = 'its start'
  }

  // The name of a table of this client's own.
  table(what) {
    return `${PREFIX}${what}_${this.number}`
  }

  check(holds, what) {
    if (!holds) throw new Error(what)
    this.last = what
    this.#feature.checks++
  }

  same(actual, expected, what) {
    this.check(
      isDeepStrictEqual(actual, expected),
      isDeepStrictEqual(actual, expected) ? what : `${what}: expected ${say(expected)}, got ${say(actual)}`,
    )
  }

  // The promise fails with this SQLSTATE (or code of the driver); gives the error.
  async fails(code, promise) {
    let error
    try {
      await promise
    } catch (caught) {
      error = caught
    }
    if (!error) throw new Error(`no error, but ${code} was expected, after ${this.last}`)
    this.same(error.code ?? error.message, code, `code of: ${error.message}`)
    return error
  }

  // Something to be called when the feature is over, however it went.
  atEnd(close) {
    this.#ends.push(close)
  }

  async end() {
    for (const close of this.#ends.splice(0)) await close()
  }

  // For what holds state on its server from one transaction to the next: one client at a time runs the step, the others
  // run plain queries meanwhile. `sum(a, b)` asks the server for the sum of two numbers.
  async inTurn(sum, step) {
    const feature = this.#feature
    const plain = async () => {
      const some = Math.floor(Math.random() * 1000)
      const got = await sum(some, this.number)
      if (Number(got) !== some + this.number) throw new Error(`a plain query answered ${say(got)}`)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    while (feature.turnTaken) await plain()
    if (feature.failure) throw new Error('another client failed')
    feature.turnTaken = true
    try {
      await step()
    } finally {
      feature.turnTaken = false
      feature.hadTheirTurn++
    }
    while (feature.hadTheirTurn < CLIENTS && !feature.failure) await plain()
  }
}

// Run `body(client)` for every client and print the feature's line; passed over where FEATURE names another one.
export async function feature(name, body) {
  if ((process.env.FEATURE || name) !== name) return
  const state = { checks: 0, hadTheirTurn: 0, turnTaken: false, failure: null }
  const clients = Array.from({ length: CLIENTS }, (_, number) => new Client(state, number))
  const work = async (client) => {
    try {
      await within(DEADLINE, body(client), () => `it did not end; last was: ${client.last}`)
    } catch (error) {
      const place = /(\w+\.js:\d+):\d+\)?$/m.exec(userFrames(error))
      state.failure ??= `client ${client.number}: ${error.code ?? ''} ${error.message} (${place ? place[1] : `after ${client.last}`})`
    }
  }
  await Promise.all(clients.map(work))
  for (const client of clients) {
    try {
      await within(5_000, client.end(), () => 'closing did not end')
    } catch (error) {
      state.failure ??= `client ${client.number}, at its end: ${error.message}`
    }
  }
  console.log(state.failure ? `not ok ${name} ${state.failure.replace(/\s+/g, ' ')}` : `ok ${name} ${state.checks}`)
}

export async function finish() {
  console.log('done')
  process.exit(0) // whatever a failed feature has left open
}

process.on('unhandledRejection', (error) => console.log(`not ok unhandled_rejection ${String(error?.stack).replace(/\s+/g, ' ')}`))

async function within(milliseconds, promise, why) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(why())), milliseconds)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

// Poll until `holds()` gives something true.
export async function eventually(holds, what) {
  const end = Date.now() + 10_000
  for (;;) {
    const got = await holds()
    if (got) return got
    if (Date.now() > end) throw new Error(`not within 10 s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

// What an earlier run may have left; `run(sql)` runs a text of several statements.
export function dropAll(run) {
  return run(`DO $$ DECLARE it text; BEGIN
    FOR it IN SELECT quote_ident(nspname) FROM pg_namespace WHERE starts_with(nspname, '${PREFIX}')
      LOOP EXECUTE 'DROP SCHEMA ' || it || ' CASCADE'; END LOOP;
    FOR it IN SELECT oid::regclass FROM pg_class WHERE starts_with(relname, '${PREFIX}') AND relkind = 'r'
      LOOP EXECUTE 'DROP TABLE ' || it || ' CASCADE'; END LOOP;
    FOR it IN SELECT oid::regprocedure FROM pg_proc WHERE starts_with(proname, '${PREFIX}')
      LOOP EXECUTE 'DROP ROUTINE ' || it || ' CASCADE'; END LOOP; END $$`)
}

function say(value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v))
  return text && text.length > 200 ? `${text.slice(0, 200)}…` : String(text)
}

function userFrames(error) {
  return String(error.stack)
    .split('\n')
    .filter((line) => /at /.test(line) && !/node_modules|node:|features\.js/.test(line))
    .slice(0, 1)
    .join('\n')
}
