# frozen_string_literal: true

# Ruby's pg as applications use it.

require "bigdecimal"
require "date"
require_relative "features"

def one(connection, text, values = nil)
  result = values ? connection.exec_params(text, values) : connection.exec(text)
  result.ntuples.zero? ? nil : result.getvalue(0, 0)
end

# Poll until the block gives something true.
def eventually(what)
  give_up = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 10
  loop do
    got = yield
    return got if got
    raise Features::Failed, "not within 10 s: #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > give_up

    sleep 0.01
  end
end

LOCK = Features::PREFIX.bytes.reduce(0) { |n, byte| ((n * 31) + byte) % 1_000_000 } * 100
HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"

Features.drop_all

Features.run("connect") do |c|
  connection = c.connect(
    application_name: "ruby #{c.number}",
    options: "-c statement_timeout=#{20_001 + c.number} -c work_mem=#{2049 + c.number}",
    client_encoding: "UTF8"
  )
  5.times do
    c.same(one(connection, "SHOW application_name"), "ruby #{c.number}", "application_name")
    c.same(one(connection, "SHOW statement_timeout"), "#{20_001 + c.number}ms", "statement_timeout")
    c.same(one(connection, "SHOW work_mem"), "#{2049 + c.number}kB", "work_mem")
  end
  c.check(connection.server_version >= 120_000, "server_version")
  c.same(connection.parameter_status("client_encoding"), "UTF8", "parameter_status")
  c.same(connection.status, PG::CONNECTION_OK, "status")
  connection.reset
  c.same(one(connection, "SHOW application_name"), "ruby #{c.number}", "application_name after a reset")
  c.same(PG::Connection.ping, PG::PQPING_OK, "ping")
  wrong = begin
    PG.connect(password: "wrong")
  rescue PG::ConnectionBad => e
    e
  end
  c.check(wrong.is_a?(PG::ConnectionBad) && wrong.message.include?("password"), "a wrong password")
end

Features.run("exec") do |c|
  connection = c.connect
  10.times do |i|
    result = connection.exec("SELECT #{i} AS number, 'text #{c.number}' AS words, NULL AS nothing")
    c.same(result.to_a, [{ "number" => i.to_s, "words" => "text #{c.number}", "nothing" => nil }], "a row")
    c.same([result.cmd_tuples, result.cmd_status, result.nfields], [1, "SELECT 1", 3], "its status")
  end
  c.same(connection.exec("SELECT 1; SELECT 2; SELECT 3").values, [["3"]], "the last of several")
  connection.send_query("SELECT 1; SELECT 2; SELECT 3")
  results = []
  while (result = connection.get_result)
    results << result.getvalue(0, 0)
  end
  c.same(results, %w[1 2 3], "all of several")
  c.same(connection.exec("").result_status, PG::PGRES_EMPTY_QUERY, "an empty query")
  connection.send_query("SELECT generate_series(1, 3000)")
  connection.set_single_row_mode
  seen = 0
  connection.get_result.stream_each { seen += 1 }
  connection.get_result
  c.same(seen, 3000, "row by row")
  notices = []
  connection.set_notice_receiver { |notice| notices << notice.error_field(PG::PG_DIAG_MESSAGE_PRIMARY) }
  connection.exec("DO $$ BEGIN RAISE NOTICE 'notice #{c.number}'; END $$")
  c.same(notices, ["notice #{c.number}"], "a notice")
end

Features.run("exec_params") do |c|
  connection = c.connect
  10.times do |i|
    c.same(one(connection, "SELECT $1::int + $2::int", [i, c.number]), (i + c.number).to_s, "a sum")
    c.same(one(connection, "SELECT $1::text", ["it's \\ #{i} ä€😀"]), "it's \\ #{i} ä€😀", "a text")
    c.same(one(connection, "SELECT $1::text", [nil]), nil, "null")
    binary = connection.exec_params("SELECT $1::bytea, $2::int4",
                                    [{ value: "\0\xFF#{c.number}".b, format: 1 }, { value: [i].pack("N"), format: 1, type: 23 }], 1)
    c.same(binary.values, [["\0\xFF#{c.number}".b, [i].pack("N")]], "binary")
  end
  large = ("x" * 300_000) + c.number.to_s
  c.same(one(connection, "SELECT $1::text", [large]), large, "a large value")
  c.fails(PG::InvalidTextRepresentation) { connection.exec_params("SELECT $1::int", ["x"]) }
  c.fails(PG::ProtocolViolation) { connection.exec_params("SELECT $1::int, $2::int", [1]) }
  c.same(one(connection, "SELECT 1"), "1", "after errors")
end

Features.run("prepared") do |c|
  connection = c.connect
  # The same names mean something else to each client.
  connection.prepare("mine", "SELECT $1::int * 1000 + #{c.number} AS n")
  connection.prepare("common", "SELECT $1::text || $2::text AS t")
  12.times do |i|
    c.same(connection.exec_prepared("mine", [i]).getvalue(0, 0), ((i * 1000) + c.number).to_s, "mine")
    c.same(connection.exec_prepared("common", ["a", c.number]).getvalue(0, 0), "a#{c.number}", "common")
  end
  described = connection.describe_prepared("common")
  c.same([described.nparams, described.paramtype(0), described.fname(0)], [2, 25, "t"], "describe_prepared")
  c.fails(PG::DuplicatePstatement) { connection.prepare("mine", "SELECT 1") }
  c.fails(PG::InvalidSqlStatementName) { connection.exec_prepared("never prepared") }
  c.fails(PG::UndefinedTable) { connection.prepare("wrong", "SELECT * FROM no_such_table") }
  connection.prepare("", "SELECT $1::int AS unnamed")
  c.same(connection.exec_prepared("", [5]).getvalue(0, 0), "5", "without a name")
  40.times { |i| connection.prepare("many #{i}", "SELECT #{i}, $1::int") }
  2.times do
    ok = (0...40).all? { |i| connection.exec_prepared("many #{i}", [c.number]).values == [[i.to_s, c.number.to_s]] }
    c.check(ok, "many names")
  end
  connection.exec("DEALLOCATE mine")
  c.fails(PG::InvalidSqlStatementName) { connection.exec_prepared("mine", [1]) }
  connection.prepare("mine", "SELECT 'another'")
  c.same(connection.exec_prepared("mine").getvalue(0, 0), "another", "prepared anew")
  connection.transaction do
    c.same(connection.exec_prepared("common", %w[x y]).getvalue(0, 0), "xy", "in a transaction")
  end
  connection.exec("DEALLOCATE ALL")
  c.fails(PG::InvalidSqlStatementName) { connection.exec_prepared("common", %w[x y]) }
end

Features.run("transactions") do |c|
  connection = c.connect
  table = c.table("transactions")
  connection.exec("CREATE TABLE #{table} (id int PRIMARY KEY)")
  count = -> { one(connection, "SELECT count(*) FROM #{table}").to_i }
  8.times do |i|
    begin
      connection.transaction do |inner|
        inner.exec_params("INSERT INTO #{table} VALUES ($1)", [i])
        c.same(count.call, 1, "inside")
        c.same(one(inner, "SELECT txid_current()"), one(inner, "SELECT txid_current()"), "the same transaction")
        c.same(inner.transaction_status, PG::PQTRANS_INTRANS, "transaction_status")
        raise "on purpose"
      end
    rescue RuntimeError => e
      c.same(e.message, "on purpose", "why it ended")
    end
    c.same(connection.transaction_status, PG::PQTRANS_IDLE, "transaction_status after it")
    c.same(count.call, 0, "rolled back")
  end
  connection.transaction do
    connection.exec("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    connection.exec("INSERT INTO #{table} VALUES (1)")
    connection.exec("SAVEPOINT s")
    c.fails(PG::UniqueViolation) { connection.exec("INSERT INTO #{table} VALUES (1)") }
    c.fails(PG::InFailedSqlTransaction) { connection.exec("SELECT 1") }
    connection.exec("ROLLBACK TO s")
    connection.exec("INSERT INTO #{table} VALUES (2)")
  end
  c.same(count.call, 2, "committed")
  connection.exec("DROP TABLE #{table}")
end

Features.run("errors") do |c|
  connection = c.connect
  table = c.table("errors")
  connection.exec("CREATE TABLE #{table} (id int PRIMARY KEY, n int CHECK (n > 0)); INSERT INTO #{table} VALUES (1, 1)")
  4.times do
    c.fails(PG::SyntaxError) { connection.exec("SELEC 1") }
    c.fails(PG::UndefinedTable) { connection.exec_params("SELECT * FROM no_such_table WHERE a = $1", [1]) }
    twice = c.fails(PG::UniqueViolation) { connection.exec("INSERT INTO #{table} VALUES (1, 1)") }
    c.same(twice.result.error_field(PG::PG_DIAG_CONSTRAINT_NAME), "#{table}_pkey", "constraint")
    c.same(twice.result.error_field(PG::PG_DIAG_SQLSTATE), "23505", "sqlstate")
    c.fails(PG::CheckViolation) { connection.exec_params("INSERT INTO #{table} VALUES (2, $1)", [-1]) }
    c.fails(PG::DivisionByZero) { connection.exec("SELECT 1; SELECT 1/0; SELECT 2") }
    c.fails(PG::DivisionByZero) { connection.exec("SELECT 1 / (2000 - g) FROM generate_series(1, 4000) g") }
    c.fails(PG::RaiseException) { connection.exec("DO $$ BEGIN RAISE EXCEPTION 'mine'; END $$") }
    c.same(one(connection, "SELECT count(*) FROM #{table}"), "1", "after errors")
  end
  connection.exec("DROP TABLE #{table}")
end

Features.run("types") do |c|
  connection = c.connect
  connection.type_map_for_results = PG::BasicTypeMapForResults.new(connection)
  connection.type_map_for_queries = PG::BasicTypeMapForQueries.new(connection)
  moment = Time.utc(2024, 2, 29, 23, 59, 58)
  4.times do
    row = connection.exec_params(
      "SELECT $1::bool AS b, $2::int8 AS l, $3::float8 AS f, $4::text AS t, $5::int8[] AS a, $6::text[] AS w, " \
      "$7::timestamptz AS z, '{\"a\": [1, null]}'::jsonb AS j, '2024-02-29'::date AS d, $8::text AS u, 1.25::numeric AS n",
      [true, (2**63) - 1, -1.5, "ä€😀", [1, 2, c.number], ["a,b", "\"q\"", "NULL", ""], moment, nil]
    )[0]
    c.same([row["b"], row["l"], row["f"], row["t"]], [true, (2**63) - 1, -1.5, "ä€😀"], "scalars")
    c.same([row["a"], row["w"]], [[1, 2, c.number], ["a,b", "\"q\"", "NULL", ""]], "arrays")
    c.same(row["z"].to_i, moment.to_i, "timestamptz")
    c.same([row["j"], row["d"], row["u"], row["n"]], [{ "a" => [1, nil] }, Date.new(2024, 2, 29), nil, BigDecimal("1.25")], "others")
  end
end

Features.run("copy") do |c|
  connection = c.connect
  table = c.table("copy")
  connection.exec("CREATE TABLE #{table} (id int PRIMARY KEY, t text)")
  lines = (0...3000).map { |i| "#{i}\trow #{i}\n" }
  result = connection.copy_data("COPY #{table} FROM STDIN") { lines.each { |line| connection.put_copy_data(line) } }
  c.same(result.cmd_tuples, 3000, "copied in")
  out = []
  connection.copy_data("COPY (SELECT * FROM #{table} ORDER BY id) TO STDOUT") do
    while (line = connection.get_copy_data)
      out << line
    end
  end
  c.same(out, lines, "what went in comes out")
  encoder = PG::TextEncoder::CopyRow.new
  connection.transaction do
    connection.copy_data("COPY #{table} FROM STDIN", encoder) { connection.put_copy_data([-1, "tab\there"]) }
    c.same(one(connection, "SELECT t FROM #{table} WHERE id = -1"), "tab\there", "by an encoder")
    connection.exec("DELETE FROM #{table} WHERE id = -1")
  end
  decoder = PG::TextDecoder::CopyRow.new
  connection.copy_data("COPY (SELECT 1, 'a b') TO STDOUT", decoder) do
    c.same(connection.get_copy_data, ["1", "a b"], "by a decoder")
    c.same(connection.get_copy_data, nil, "the end")
  end
  c.fails(PG::UniqueViolation) { connection.copy_data("COPY #{table} FROM STDIN") { connection.put_copy_data("1\tagain\n") } }
  begin
    connection.copy_data("COPY #{table} FROM STDIN") do
      connection.put_copy_data("90000\tnever\n")
      raise "on purpose"
    end
  rescue RuntimeError => e
    c.same(e.message, "on purpose", "why it ended")
  end
  c.same(one(connection, "SELECT count(*) FROM #{table}"), "3000", "after refused copies")
  connection.exec("DROP TABLE #{table}")
end

if PG::Connection.method_defined?(:enter_pipeline_mode)
  Features.run("pipeline") do |c|
    connection = c.connect
    connection.prepare("of pipeline", "SELECT $1::int * 10 + #{c.number}")
    4.times do
      connection.enter_pipeline_mode
      20.times { |i| connection.send_query_params("SELECT $1::int", [i]) }
      connection.pipeline_sync
      10.times { |i| connection.send_query_prepared("of pipeline", [i]) }
      connection.pipeline_sync
      20.times do |i|
        c.same(connection.get_result.getvalue(0, 0), i.to_s, "in order")
        c.same(connection.get_result, nil, "the end of a query")
      end
      c.same(connection.get_result.result_status, PG::PGRES_PIPELINE_SYNC, "the first sync")
      10.times do |i|
        c.same(connection.get_result.getvalue(0, 0), ((i * 10) + c.number).to_s, "prepared, in order")
        c.same(connection.get_result, nil, "the end of a query")
      end
      c.same(connection.get_result.result_status, PG::PGRES_PIPELINE_SYNC, "the second sync")
      # An error takes what follows it up to the sync.
      connection.send_query_params("SELECT 1 / $1::int", [0])
      connection.send_query_params("SELECT $1::int", [1])
      connection.pipeline_sync
      connection.send_query_params("SELECT $1::int", [2])
      connection.pipeline_sync
      statuses = []
      until statuses.count(PG::PGRES_PIPELINE_SYNC) == 2
        result = connection.get_result
        statuses << result.result_status if result
      end
      expected = [PG::PGRES_FATAL_ERROR, PG::PGRES_PIPELINE_ABORTED, PG::PGRES_PIPELINE_SYNC, PG::PGRES_TUPLES_OK, PG::PGRES_PIPELINE_SYNC]
      c.same(statuses, expected, "an error in a pipeline")
      # What is flushed is answered before the sync.
      connection.send_query_params("SELECT $1::text", ["flushed"])
      connection.send_flush_request
      c.same(connection.get_result.getvalue(0, 0), "flushed", "an answer before the sync")
      connection.get_result
      connection.pipeline_sync
      c.same(connection.get_result.result_status, PG::PGRES_PIPELINE_SYNC, "the last sync")
      connection.exit_pipeline_mode
      c.same(one(connection, "SELECT 1"), "1", "after the pipeline")
    end
  end
end

Features.run("large_objects") do |c|
  connection = c.connect
  content = (0...50_000).map { |i| ((i * 31) + c.number) % 256 }.pack("C*")
  2.times do
    oid = connection.transaction do
      id = connection.lo_creat
      handle = connection.lo_open(id, PG::INV_READ | PG::INV_WRITE)
      c.same(connection.lo_write(handle, content), content.bytesize, "written")
      connection.lo_close(handle)
      id
    end
    connection.transaction do
      handle = connection.lo_open(oid, PG::INV_READ | PG::INV_WRITE)
      c.same(connection.lo_read(handle, 100_000), content, "read")
      c.same(connection.lo_lseek(handle, 100, PG::SEEK_SET), 100, "seek")
      connection.lo_write(handle, "in the middle")
      c.same(connection.lo_tell(handle), 113, "tell")
      connection.lo_truncate(handle, 200)
      c.same(connection.lo_lseek(handle, 0, PG::SEEK_END), 200, "truncated")
      connection.lo_close(handle)
    end
    connection.transaction { connection.lo_unlink(oid) }
    c.same(one(connection, "SELECT count(*) FROM pg_largeobject_metadata WHERE oid = $1", [oid]), "0", "unlinked")
  end
end

Features.run("cursor") do |c|
  connection = c.connect
  3.times do
    connection.transaction do
      connection.exec("DECLARE usual SCROLL CURSOR FOR SELECT generate_series(1, 30)")
      c.same(connection.exec("FETCH 10 FROM usual").ntuples, 10, "portion")
      c.same(connection.exec("FETCH LAST FROM usual").getvalue(0, 0), "30", "last")
      c.same(connection.exec("FETCH PRIOR FROM usual").getvalue(0, 0), "29", "prior")
    end
    c.fails(PG::InvalidCursorName) { connection.exec("FETCH 1 FROM usual") }
  end
end

Features.run("cancel") do |c|
  connection = c.connect
  connection.exec("BEGIN")
  connection.exec("SET LOCAL statement_timeout = 50")
  c.fails(PG::QueryCanceled) { connection.exec("SELECT pg_sleep(20)") }
  connection.exec("ROLLBACK")
  watcher = c.connect
  c.in_turn(connection) do
    slow = "SELECT pg_sleep(20) /* #{c.table('cancel')} */"
    connection.send_query(slow)
    eventually("the statement runs") do
      one(watcher, "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query = $1", [slow])
    end
    c.same(connection.cancel, nil, "cancel")
    c.fails(PG::QueryCanceled) { connection.get_last_result }
    c.same(one(connection, "SELECT 1"), "1", "after a cancel")
  end
end

Features.run("notify") do |c|
  connection = c.connect
  other = c.connect
  channel = c.table("channel")
  c.in_turn(connection) do
    connection.exec("LISTEN #{channel}")
    3.times do |i|
      other.exec_params("SELECT pg_notify($1, $2)", [channel, "payload #{i}"])
      got = nil
      connection.wait_for_notify(10) { |name, _pid, payload| got = [name, payload] }
      c.same(got, [channel, "payload #{i}"], "a notification without a query")
    end
    connection.exec("NOTIFY #{channel}, 'to myself'")
    c.same(eventually("a notification to oneself") { connection.notifies }[:extra], "to myself", "a notification to oneself")
    connection.exec("UNLISTEN *")
    other.exec("NOTIFY #{channel}, 'unheard'")
    c.same(one(connection, "SELECT count(*) FROM pg_listening_channels()"), "0", "channels")
    c.same(connection.notifies, nil, "nothing after UNLISTEN")
  end
end

Features.run("settings") do |c|
  connection = c.connect
  connection.exec("SET statement_timeout = #{30_001 + c.number}")
  connection.exec_params("SELECT set_config('myapp.tenant', $1, false)", ["tenant #{c.number}"])
  connection.exec("SET work_mem TO '#{3001 + c.number}kB'; SET TIME ZONE 'Etc/GMT+#{c.number}'")
  6.times do
    c.same(one(connection, "SHOW statement_timeout"), "#{30_001 + c.number}ms", "statement_timeout")
    c.same(one(connection, "SELECT current_setting('myapp.tenant')"), "tenant #{c.number}", "tenant")
    c.same(one(connection, "SHOW work_mem"), "#{3001 + c.number}kB", "work_mem")
    c.same(one(connection, "SHOW TimeZone"), "Etc/GMT+#{c.number}", "TimeZone")
  end
  connection.exec("BEGIN")
  connection.exec("SET statement_timeout = 12345")
  connection.exec("SET LOCAL work_mem = '4321kB'")
  c.same(one(connection, "SHOW statement_timeout"), "12345ms", "inside")
  connection.exec("ROLLBACK")
  c.same(one(connection, "SHOW statement_timeout"), "#{30_001 + c.number}ms", "taken back")
  c.same(one(connection, "SHOW work_mem"), "#{3001 + c.number}kB", "after SET LOCAL")
  connection.exec("RESET ALL")
  c.same(one(connection, "SHOW statement_timeout"), "0", "after RESET ALL")
end

Features.run("encoding") do |c|
  connection = c.connect
  connection.set_client_encoding(c.number.even? ? "LATIN1" : "UTF8")
  5.times do
    c.same(one(connection, "SHOW client_encoding"), c.number.even? ? "LATIN1" : "UTF8", "client_encoding")
    c.same(one(connection, "SELECT chr(228)").bytes, c.number.even? ? [0xE4] : [0xC3, 0xA4], "a character")
  end
end

Features.run("search_path") do |c|
  connection = c.connect
  schema = c.table("schema")
  connection.exec("CREATE SCHEMA #{schema}; CREATE TABLE #{schema}.here (owner int); INSERT INTO #{schema}.here VALUES (#{c.number})")
  connection.exec("SET search_path TO #{schema}, public")
  connection.prepare("here", "SELECT owner FROM here")
  5.times do
    c.same(one(connection, "SHOW search_path"), "#{schema}, public", "search_path")
    c.same(one(connection, "SELECT owner FROM here"), c.number.to_s, "a table of mine")
    c.same(connection.exec_prepared("here").getvalue(0, 0), c.number.to_s, "prepared")
  end
  connection.exec("RESET search_path")
  c.fails(PG::UndefinedTable) { connection.exec("SELECT owner FROM here") }
  connection.exec("DROP SCHEMA #{schema} CASCADE")
end

Features.run("role") do |c|
  connection = c.connect
  login = one(connection, "SELECT session_user")
  connection.exec("SET ROLE pg_read_all_stats") if c.number.even?
  6.times { c.same(one(connection, "SELECT current_user"), c.number.even? ? "pg_read_all_stats" : login, "current_user") }
  connection.exec("RESET ROLE")
  c.same(one(connection, "SELECT current_user"), login, "after RESET ROLE")
end

Features.run("temp_tables") do |c|
  connection = c.connect
  5.times do
    connection.transaction do
      connection.exec("CREATE TEMP TABLE scratch (id int) ON COMMIT DROP")
      connection.exec_params("INSERT INTO scratch SELECT generate_series(1, $1::int)", [c.number + 1])
      c.same(one(connection, "SELECT count(*) FROM scratch"), (c.number + 1).to_s, "rows")
    end
    c.same(one(connection, "SELECT to_regclass('pg_temp.scratch')"), nil, "gone")
  end
end

Features.run("temp_tables_kept") do |c|
  connection = c.connect
  c.in_turn(connection) do
    connection.exec("CREATE TEMP TABLE scratch (id int PRIMARY KEY, t text)")
    5.times do |i|
      connection.exec_params("INSERT INTO scratch VALUES ($1, $2)", [i, "of #{c.number}"])
      c.same(one(connection, "SELECT count(*) FROM scratch"), (i + 1).to_s, "rows")
    end
    connection.exec("BEGIN; DELETE FROM scratch; ROLLBACK")
    c.same(one(connection, "SELECT DISTINCT t FROM scratch"), "of #{c.number}", "still mine")
    connection.exec("DROP TABLE scratch")
    c.same(one(connection, "SELECT to_regclass('pg_temp.scratch')"), nil, "gone")
  end
end

Features.run("advisory_locks") do |c|
  connection = c.connect
  5.times do
    connection.transaction do
      connection.exec_params("SELECT pg_advisory_xact_lock($1)", [LOCK])
      c.same(one(connection, "SELECT pg_try_advisory_xact_lock($1)", [LOCK + 1 + c.number]), "t", "my own")
      c.same(one(connection, HELD), "2", "held")
    end
    c.same(one(connection, HELD), "0", "let go")
  end
end

Features.run("advisory_locks_kept") do |c|
  connection = c.connect
  other = c.connect
  c.in_turn(connection) do
    c.same(one(connection, "SELECT pg_try_advisory_lock($1)", [LOCK + 50]), "t", "locked")
    4.times do
      c.same(one(other, "SELECT pg_try_advisory_xact_lock($1)", [LOCK + 50]), "f", "refused to another")
      c.same(one(connection, HELD), "1", "held")
    end
    c.same(one(connection, "SELECT pg_advisory_unlock($1)", [LOCK + 50]), "t", "unlocked")
    c.same(one(connection, "SELECT pg_advisory_unlock($1)", [LOCK + 50]), "f", "unlocked only once")
  end
end

Features.run("hold_cursor") do |c|
  connection = c.connect
  c.in_turn(connection) do
    connection.transaction do
      connection.exec("DECLARE held CURSOR WITH HOLD FOR SELECT g * 10 + #{c.number} FROM generate_series(1, 100) g")
    end
    5.times do |i|
      result = connection.exec("FETCH 20 FROM held")
      c.same([result.ntuples, result.getvalue(0, 0)], [20, ((((i * 20) + 1) * 10) + c.number).to_s], "fetched")
    end
    connection.exec("CLOSE held")
    c.fails(PG::InvalidCursorName) { connection.exec("FETCH 1 FROM held") }
  end
end

Features.run("sql_prepare") do |c|
  connection = c.connect
  connection.exec("PREPARE plan (int) AS SELECT $1 * 100 + #{c.number}")
  6.times { |i| c.same(one(connection, "EXECUTE plan(#{i})"), ((i * 100) + c.number).to_s, "executed") }
  c.fails(PG::DuplicatePstatement) { connection.exec("PREPARE plan AS SELECT 1") }
  connection.exec("DEALLOCATE plan")
  c.fails(PG::InvalidSqlStatementName) { connection.exec("EXECUTE plan(1)") }
  connection.exec("PREPARE plan AS SELECT 'another'")
  c.same(one(connection, "EXECUTE plan"), "another", "prepared anew")
  connection.exec("DEALLOCATE ALL")
  c.fails(PG::InvalidSqlStatementName) { connection.exec("EXECUTE plan") }
end

# A statement is one of the session's, whichever way it was prepared.
Features.run("sql_prepare_mixed") do |c|
  connection = c.connect
  connection.exec("PREPARE plan (int) AS SELECT $1 * 100 + #{c.number}")
  connection.prepare("by_protocol", "SELECT $1::int + #{c.number}")
  4.times do |i|
    c.same(connection.exec_prepared("plan", [i]).getvalue(0, 0), ((i * 100) + c.number).to_s, "of SQL, by the protocol")
    c.same(one(connection, "EXECUTE by_protocol(#{i})"), (i + c.number).to_s, "of the protocol, by SQL")
  end
  c.fails(PG::DuplicatePstatement) { connection.prepare("plan", "SELECT 1") }
  c.fails(PG::DuplicatePstatement) { connection.exec("PREPARE by_protocol AS SELECT 1") }
  connection.exec("DEALLOCATE by_protocol; DEALLOCATE plan")
  c.fails(PG::InvalidSqlStatementName) { connection.exec_prepared("by_protocol", [1]) }
  c.fails(PG::InvalidSqlStatementName) { connection.exec_prepared("plan", [1]) }
end

Features.drop_all
puts "done"
$stdout.flush
exit!(0) # whatever a failed feature has left open
