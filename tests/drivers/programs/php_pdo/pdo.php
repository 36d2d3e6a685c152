<?php

declare(strict_types=1);

/** PDO's PostgreSQL driver as applications use it. */

require __DIR__ . '/features.php';

set_error_handler(function (int $level, string $message, string $file, int $line): never {
    throw new ErrorException($message, 0, $level, $file, $line);
});

/** The first column of the first row. */
function one(PDO $connection, string $sql, array $parameters = []): mixed
{
    $statement = $connection->prepare($sql);
    $statement->execute($parameters);
    $value = $statement->fetchColumn();
    $statement->closeCursor();
    return $value;
}

$lock = array_reduce(str_split(PREFIX), fn (int $n, string $c): int => ($n * 31 + ord($c)) % 1_000_000, 0) * 100;
$held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";

dropAll();

feature('connect', function (Client $c): void {
    $timeout = 20_001 + $c->number;
    $memory = 2049 + $c->number;
    $connection = $c->connect("application_name='php {$c->number}';options='-c statement_timeout=$timeout -c work_mem=$memory'");
    for ($i = 0; $i < 5; $i++) {
        $c->same(one($connection, 'SHOW application_name'), "php {$c->number}", 'application_name');
        $c->same(one($connection, 'SHOW statement_timeout'), "{$timeout}ms", 'statement_timeout');
        $c->same(one($connection, 'SHOW work_mem'), "{$memory}kB", 'work_mem');
    }
    $c->check(version_compare((string) $connection->getAttribute(PDO::ATTR_SERVER_VERSION), '12', '>='), 'server version');
    $c->check(str_contains((string) $connection->getAttribute(PDO::ATTR_CONNECTION_STATUS), 'OK'), 'status');
    try {
        new PDO(sprintf('pgsql:host=%s;port=%s;sslmode=disable', getenv('PGHOST'), getenv('PGPORT')), getenv('PGUSER'), 'wrong');
        $c->check(false, 'a wrong password was accepted');
    } catch (PDOException $problem) {
        $c->check(str_contains($problem->getMessage(), 'password'), 'a wrong password');
    }
});

feature('queries', function (Client $c): void {
    $connection = $c->connect();
    for ($i = 0; $i < 10; $i++) {
        $rows = $connection->query("SELECT $i AS number, 'text {$c->number}' AS words, NULL AS nothing")->fetchAll(PDO::FETCH_ASSOC);
        $c->same($rows, [['number' => $i, 'words' => "text {$c->number}", 'nothing' => null]], 'a row');
    }
    $table = $c->table('queries');
    $connection->exec("CREATE TABLE $table (id int); INSERT INTO $table SELECT generate_series(1, 7)");
    $c->same($connection->exec("UPDATE $table SET id = id + 1 WHERE id > 3"), 4, 'rows touched');
    $c->same($connection->query("SELECT id FROM $table ORDER BY id")->fetchAll(PDO::FETCH_COLUMN), [1, 2, 3, 5, 6, 7, 8], 'a column');
    $c->same($connection->query("SELECT id, id * 2 FROM $table WHERE id < 3 ORDER BY id")->fetchAll(PDO::FETCH_KEY_PAIR), [1 => 2, 2 => 4], 'pairs');
    $c->same($connection->quote("it's \\"), "'it''s \\'", 'quote');
    $c->same(count($connection->query('SELECT generate_series(1, 20000)')->fetchAll()), 20_000, 'many rows');
    $connection->exec("DROP TABLE $table");
});

// Prepared on the server, which is usual; by PDO itself; and never kept.
foreach (
    [
        'prepared' => [PDO::ATTR_EMULATE_PREPARES => false],
        'prepared_emulated' => [PDO::ATTR_EMULATE_PREPARES => true],
        'prepares_disabled' => [PDO::ATTR_EMULATE_PREPARES => false, PDO::PGSQL_ATTR_DISABLE_PREPARES => true],
    ] as $name => $attributes
) {
    feature($name, function (Client $c) use ($attributes, $name): void {
        $connection = $c->connect('', $attributes);
        $table = $c->table($name);
        $connection->exec("CREATE TABLE $table (id int PRIMARY KEY, t text, b bool, y bytea)");
        // All clients have the same names for different statements.
        $insert = $connection->prepare("INSERT INTO $table VALUES (:id, :t, :b, :y)");
        $select = $connection->prepare("SELECT t, b, y FROM $table WHERE id = ?");
        for ($i = 0; $i < 12; $i++) {
            $insert->bindValue('id', $i, PDO::PARAM_INT);
            $insert->bindValue('t', $i % 3 ? "it's \\ $i ä€😀" : null);
            $insert->bindValue('b', $i % 2 === 0, PDO::PARAM_BOOL);
            $insert->bindValue('y', "\0\xFF{$c->number}", PDO::PARAM_LOB);
            $insert->execute();
            $c->same($insert->rowCount(), 1, 'inserted');
            $select->execute([$i]);
            $row = $select->fetch(PDO::FETCH_ASSOC);
            $c->same([$row['t'], $row['b']], [$i % 3 ? "it's \\ $i ä€😀" : null, $i % 2 === 0], 'selected');
            $c->same(stream_get_contents($row['y']), "\0\xFF{$c->number}", 'bytes');
        }
        // Each of these is deallocated when the next is made.
        for ($i = 0; $i < 30; $i++) {
            $statement = $connection->prepare("SELECT $i || ':' || ?::text");
            $statement->execute([$c->number]);
            $c->same($statement->fetchColumn(), "$i:{$c->number}", 'of many');
        }
        for ($i = 0; $i < 3; $i++) {
            $c->fails('23505', fn () => $connection->prepare("INSERT INTO $table VALUES (?)")->execute([1]));
            $c->fails('42P01', fn () => $connection->prepare('SELECT * FROM no_such_table WHERE a = ?')->execute([1]));
            $c->fails('22012', fn () => $connection->prepare('SELECT 1 / ?::int')->execute([0]));
        }
        $connection->beginTransaction();
        $select->execute([1]);
        $c->same($select->fetchColumn(), "it's \\ 1 ä€😀", 'in a transaction');
        $connection->rollBack();
        unset($insert, $select, $statement);
        $connection->exec("DROP TABLE $table");
        $large = str_repeat('x', 200_000) . $c->number;
        $c->same(one($connection, 'SELECT ?::text', [$large]), $large, 'a large value');
    });
}

feature('transactions', function (Client $c): void {
    $connection = $c->connect();
    $table = $c->table('transactions');
    $connection->exec("CREATE TABLE $table (id serial PRIMARY KEY, t text)");
    for ($i = 0; $i < 8; $i++) {
        $connection->beginTransaction();
        $c->check($connection->inTransaction(), 'inTransaction');
        $connection->prepare("INSERT INTO $table (t) VALUES (?)")->execute(["row $i"]);
        $c->same((int) $connection->lastInsertId(), $i + 1, 'lastInsertId');
        $c->same((int) $connection->lastInsertId("{$table}_id_seq"), $i + 1, 'lastInsertId of a sequence');
        $c->same(one($connection, 'SELECT txid_current()'), one($connection, 'SELECT txid_current()'), 'the same transaction');
        $connection->rollBack();
        $c->check(!$connection->inTransaction(), 'not inTransaction');
        $c->same(one($connection, "SELECT count(*) FROM $table"), 0, 'rolled back');
    }
    $connection->beginTransaction();
    $connection->exec("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; INSERT INTO $table VALUES (1, 'a'); SAVEPOINT s");
    $c->fails('23505', fn () => $connection->exec("INSERT INTO $table VALUES (1, 'b')"));
    $c->fails('25P02', fn () => $connection->query('SELECT 1'));
    $connection->exec('ROLLBACK TO s');
    $connection->exec("INSERT INTO $table VALUES (2, 'c')");
    $connection->commit();
    $c->same(one($connection, "SELECT count(*) FROM $table"), 2, 'committed');
    $connection->exec('BEGIN');
    $c->check($connection->inTransaction(), 'inTransaction after BEGIN');
    $connection->exec('ROLLBACK');
    $connection->exec("DROP TABLE $table");
});

feature('types', function (Client $c): void {
    $connection = $c->connect();
    for ($i = 0; $i < 4; $i++) {
        $row = $connection->query("SELECT true AS b, 9223372036854775807 AS l, 1.5::float8 AS f, 12.50::numeric AS n, '{1,2}'::int[] AS a,"
            . " '{\"a\": 1}'::jsonb AS j, '2024-02-29 23:59:58'::timestamp AS t, null AS u, '0d9c0b9e-0000-4000-8000-00000000000a'::uuid AS g")
            ->fetch(PDO::FETCH_ASSOC);
        $c->same($row, ['b' => true, 'l' => PHP_INT_MAX, 'f' => '1.5', 'n' => '12.50', 'a' => '{1,2}', 'j' => '{"a": 1}',
            't' => '2024-02-29 23:59:58', 'u' => null, 'g' => '0d9c0b9e-0000-4000-8000-00000000000a'], 'values');
        $columns = $connection->query('SELECT 1::int8 AS a, 2::text AS b');
        $c->same([$columns->getColumnMeta(0)['native_type'], $columns->getColumnMeta(1)['native_type']], ['int8', 'text'], 'metadata');
    }
});

feature('errors', function (Client $c): void {
    $connection = $c->connect();
    $table = $c->table('errors');
    $connection->exec("CREATE TABLE $table (id int PRIMARY KEY, n int CHECK (n > 0)); INSERT INTO $table VALUES (1, 1)");
    for ($i = 0; $i < 4; $i++) {
        $c->fails('42601', fn () => $connection->exec('SELEC 1'));
        $twice = $c->fails('23505', fn () => $connection->exec("INSERT INTO $table VALUES (1, 1)"));
        $c->check(str_contains($twice->getMessage(), "{$table}_pkey"), 'constraint');
        $c->fails('23514', fn () => $connection->exec("INSERT INTO $table VALUES (2, -1)"));
        $c->fails('22012', fn () => $connection->exec('SELECT 1; SELECT 1/0; SELECT 2'));
        $c->fails('22012', fn () => $connection->query('SELECT 1 / (2000 - g) FROM generate_series(1, 4000) g'));
        $c->fails('P0001', fn () => $connection->exec("DO $$ BEGIN RAISE EXCEPTION 'mine'; END $$"));
        $c->fails('HY093', fn () => $connection->prepare('SELECT ?::int')->execute([1, 2]));
        $c->same(one($connection, "SELECT count(*) FROM $table"), 1, 'after errors');
    }
    $connection->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_SILENT);
    $c->same($connection->exec('SELEC 1'), false, 'silent');
    $c->same($connection->errorCode(), '42601', 'errorCode');
    $connection->exec("DROP TABLE $table");
});

feature('copy', function (Client $c): void {
    $connection = $c->connect();
    $table = $c->table('copy');
    $connection->exec("CREATE TABLE $table (id int PRIMARY KEY, t text)");
    $lines = array_map(fn (int $i): string => "$i\trow $i", range(0, 2999));
    $c->check($connection->pgsqlCopyFromArray($table, $lines), 'copied in');
    $out = array_map(rtrim(...), $connection->pgsqlCopyToArray($table));
    $c->same($out, $lines, 'what went in comes out');
    $connection->beginTransaction();
    $connection->exec("TRUNCATE $table");
    $c->check($connection->pgsqlCopyFromArray($table, ['7|seven', '8|\\N'], '|', '\\\\N', 'id, t'), 'with a delimiter');
    $c->same($connection->query("SELECT id, t FROM $table ORDER BY id")->fetchAll(PDO::FETCH_KEY_PAIR), [7 => 'seven', 8 => null], 'rows');
    $connection->rollBack();
    $file = tempnam(sys_get_temp_dir(), 'copy');
    $c->check($connection->pgsqlCopyToFile($table, $file), 'into a file');
    $connection->exec("TRUNCATE $table");
    $c->check($connection->pgsqlCopyFromFile($table, $file), 'from a file');
    unlink($file);
    $c->same(one($connection, "SELECT count(*) FROM $table"), 3000, 'all of it');
    $c->fails('23505', fn () => $connection->pgsqlCopyFromArray($table, ["1\tagain"]));
    $c->fails('42P01', fn () => $connection->pgsqlCopyFromArray('no_such_table', ['1']));
    $c->same(one($connection, "SELECT count(*) FROM $table"), 3000, 'after refused copies');
    $connection->exec("DROP TABLE $table");
});

feature('large_objects', function (Client $c): void {
    $connection = $c->connect();
    $content = str_repeat("{$c->number}.", 25_000);
    for ($round = 0; $round < 2; $round++) {
        $connection->beginTransaction();
        $oid = $connection->pgsqlLOBCreate();
        $stream = $connection->pgsqlLOBOpen($oid, 'w');
        $c->same(fwrite($stream, $content), strlen($content), 'written');
        fclose($stream);
        $connection->commit();
        $connection->beginTransaction();
        $stream = $connection->pgsqlLOBOpen($oid, 'r');
        $c->same(stream_get_contents($stream), $content, 'read');
        $c->same(fseek($stream, 1000), 0, 'seek');
        $c->same(fread($stream, 4), substr($content, 1000, 4), 'a part');
        fclose($stream);
        $connection->commit();
        $connection->beginTransaction();
        $c->check($connection->pgsqlLOBUnlink($oid), 'unlinked');
        $connection->commit();
        $c->same(one($connection, 'SELECT count(*) FROM pg_largeobject_metadata WHERE oid = ?', [$oid]), 0, 'gone');
    }
});

feature('cursor', function (Client $c): void {
    $connection = $c->connect();
    for ($round = 0; $round < 3; $round++) {
        $connection->beginTransaction();
        $connection->exec('DECLARE usual SCROLL CURSOR FOR SELECT generate_series(1, 30)');
        $c->same(count($connection->query('FETCH 10 FROM usual')->fetchAll()), 10, 'portion');
        $c->same($connection->query('FETCH LAST FROM usual')->fetchColumn(), 30, 'last');
        $connection->commit();
        $c->fails('34000', fn () => $connection->query('FETCH 1 FROM usual'));
    }
});

// PDO declares a cursor WITH HOLD for this.
feature('scrollable_cursor', function (Client $c): void {
    $connection = $c->connect();
    $c->inTurn($connection, function () use ($c, $connection): void {
        $statement = $connection->prepare("SELECT g * 10 + {$c->number} FROM generate_series(1, 50) g", [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
        $statement->execute();
        for ($i = 1; $i <= 5; $i++) {
            $c->same($statement->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_NEXT), [$i * 10 + $c->number], 'next');
        }
        $c->same($statement->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_PRIOR), [40 + $c->number], 'prior');
        $c->same($statement->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_ABS, 50), [500 + $c->number], 'absolute');
        $c->same($statement->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_FIRST), [10 + $c->number], 'first');
        $statement->closeCursor();
        unset($statement);
        $c->same(one($connection, 'SELECT count(*) FROM pg_cursors WHERE is_holdable'), 0, 'closed');
    });
});

feature('statement_timeout', function (Client $c): void {
    $connection = $c->connect();
    for ($i = 0; $i < 3; $i++) {
        $connection->beginTransaction();
        $connection->exec('SET LOCAL statement_timeout = 50');
        $c->fails('57014', fn () => $connection->query('SELECT pg_sleep(20)'));
        $connection->rollBack();
        $c->same(one($connection, 'SHOW statement_timeout'), '0', 'SET LOCAL ended');
    }
});

feature('notify', function (Client $c): void {
    $connection = $c->connect();
    $other = $c->connect();
    $channel = $c->table('channel');
    $c->inTurn($connection, function () use ($c, $connection, $other, $channel): void {
        $connection->exec("LISTEN $channel");
        for ($i = 0; $i < 3; $i++) {
            $other->prepare('SELECT pg_notify(?, ?)')->execute([$channel, "payload $i"]);
            $got = $connection->pgsqlGetNotify(PDO::FETCH_ASSOC, 10_000);
            $c->same([$got['message'] ?? null, $got['payload'] ?? null], [$channel, "payload $i"], 'a notification without a query');
        }
        $connection->exec("NOTIFY $channel, 'to myself'");
        $c->same($connection->pgsqlGetNotify(PDO::FETCH_ASSOC, 10_000)['payload'] ?? null, 'to myself', 'a notification to oneself');
        $connection->exec('UNLISTEN *');
        $other->exec("NOTIFY $channel, 'unheard'");
        $c->same(one($connection, 'SELECT count(*) FROM pg_listening_channels()'), 0, 'channels');
        $c->same($connection->pgsqlGetNotify(PDO::FETCH_ASSOC), false, 'nothing after UNLISTEN');
    });
});

feature('settings', function (Client $c): void {
    $connection = $c->connect();
    $connection->exec(sprintf('SET statement_timeout = %d', 30_001 + $c->number));
    $connection->prepare("SELECT set_config('myapp.tenant', ?, false)")->execute(["tenant {$c->number}"]);
    $connection->exec(sprintf("SET work_mem TO '%dkB'; SET TIME ZONE 'Etc/GMT+%d'", 3001 + $c->number, $c->number));
    for ($i = 0; $i < 6; $i++) {
        $c->same(one($connection, 'SHOW statement_timeout'), (30_001 + $c->number) . 'ms', 'statement_timeout');
        $c->same(one($connection, "SELECT current_setting('myapp.tenant')"), "tenant {$c->number}", 'tenant');
        $c->same(one($connection, 'SHOW work_mem'), (3001 + $c->number) . 'kB', 'work_mem');
        $c->same(one($connection, 'SHOW TimeZone'), "Etc/GMT+{$c->number}", 'TimeZone');
    }
    $connection->beginTransaction();
    $connection->exec('SET statement_timeout = 12345');
    $connection->exec("SET LOCAL work_mem = '4321kB'");
    $c->same(one($connection, 'SHOW statement_timeout'), '12345ms', 'inside');
    $connection->rollBack();
    $c->same(one($connection, 'SHOW statement_timeout'), (30_001 + $c->number) . 'ms', 'taken back');
    $c->same(one($connection, 'SHOW work_mem'), (3001 + $c->number) . 'kB', 'after SET LOCAL');
    $connection->exec('RESET ALL');
    $c->same(one($connection, 'SHOW statement_timeout'), '0', 'after RESET ALL');
});

feature('encoding', function (Client $c): void {
    $connection = $c->connect();
    $encoding = $c->number % 2 ? 'UTF8' : 'LATIN1';
    $connection->exec("SET NAMES '$encoding'");
    for ($i = 0; $i < 5; $i++) {
        $c->same(one($connection, 'SHOW client_encoding'), $encoding, 'client_encoding');
        $c->same(one($connection, 'SELECT chr(228)'), $c->number % 2 ? "\xC3\xA4" : "\xE4", 'a character');
    }
});

feature('search_path', function (Client $c): void {
    $connection = $c->connect();
    $schema = $c->table('schema');
    $connection->exec("CREATE SCHEMA $schema; CREATE TABLE $schema.here (owner int); INSERT INTO $schema.here VALUES ({$c->number})");
    $connection->exec("SET search_path TO $schema, public");
    $here = $connection->prepare('SELECT owner FROM here');
    for ($i = 0; $i < 5; $i++) {
        $c->same(one($connection, 'SHOW search_path'), "$schema, public", 'search_path');
        $c->same($connection->query('SELECT owner FROM here')->fetchColumn(), $c->number, 'a table of mine');
        $here->execute();
        $c->same($here->fetchColumn(), $c->number, 'prepared');
    }
    $connection->exec('RESET search_path');
    $c->fails('42P01', fn () => $connection->query('SELECT owner FROM here'));
    $connection->exec("DROP SCHEMA $schema CASCADE");
});

feature('role', function (Client $c): void {
    $connection = $c->connect();
    $login = one($connection, 'SELECT session_user');
    $changed = $c->number % 2 === 0;
    if ($changed) {
        $connection->exec('SET ROLE pg_read_all_stats');
    }
    for ($i = 0; $i < 6; $i++) {
        $c->same(one($connection, 'SELECT current_user'), $changed ? 'pg_read_all_stats' : $login, 'current_user');
    }
    $connection->exec('RESET ROLE');
    $c->same(one($connection, 'SELECT current_user'), $login, 'after RESET ROLE');
});

feature('temp_tables', function (Client $c): void {
    $connection = $c->connect();
    for ($i = 0; $i < 5; $i++) {
        $connection->beginTransaction();
        $connection->exec('CREATE TEMP TABLE scratch (id int) ON COMMIT DROP');
        $connection->prepare('INSERT INTO scratch SELECT generate_series(1, ?::int)')->execute([$c->number + 1]);
        $c->same(one($connection, 'SELECT count(*) FROM scratch'), $c->number + 1, 'rows');
        $connection->commit();
        $c->same(one($connection, "SELECT to_regclass('pg_temp.scratch')"), null, 'gone');
    }
});

feature('temp_tables_kept', function (Client $c): void {
    $connection = $c->connect();
    $c->inTurn($connection, function () use ($c, $connection): void {
        $connection->exec('CREATE TEMP TABLE scratch (id int PRIMARY KEY, t text)');
        $insert = $connection->prepare('INSERT INTO scratch VALUES (?, ?)');
        for ($i = 0; $i < 5; $i++) {
            $insert->execute([$i, "of {$c->number}"]);
            $c->same(one($connection, 'SELECT count(*) FROM scratch'), $i + 1, 'rows');
        }
        $connection->exec('BEGIN; DELETE FROM scratch; ROLLBACK');
        $c->same(one($connection, 'SELECT DISTINCT t FROM scratch'), "of {$c->number}", 'still mine');
        $connection->exec('DROP TABLE scratch');
        $c->same(one($connection, "SELECT to_regclass('pg_temp.scratch')"), null, 'gone');
    });
});

feature('advisory_locks', function (Client $c) use ($lock, $held): void {
    $connection = $c->connect();
    for ($i = 0; $i < 5; $i++) {
        $connection->beginTransaction();
        $connection->prepare('SELECT pg_advisory_xact_lock(?)')->execute([$lock]);
        $c->same(one($connection, 'SELECT pg_try_advisory_xact_lock(?)', [$lock + 1 + $c->number]), true, 'my own');
        $c->same(one($connection, $held), 2, 'held');
        $connection->commit();
        $c->same(one($connection, $held), 0, 'let go');
    }
});

feature('advisory_locks_kept', function (Client $c) use ($lock, $held): void {
    $connection = $c->connect();
    $other = $c->connect();
    $c->inTurn($connection, function () use ($c, $connection, $other, $lock, $held): void {
        $c->same(one($connection, 'SELECT pg_try_advisory_lock(?)', [$lock + 50]), true, 'locked');
        for ($i = 0; $i < 4; $i++) {
            $c->same(one($other, 'SELECT pg_try_advisory_xact_lock(?)', [$lock + 50]), false, 'refused to another');
            $c->same(one($connection, $held), 1, 'held');
        }
        $c->same(one($connection, 'SELECT pg_advisory_unlock(?)', [$lock + 50]), true, 'unlocked');
        $c->same(one($connection, 'SELECT pg_advisory_unlock(?)', [$lock + 50]), false, 'unlocked only once');
    });
});

feature('hold_cursor', function (Client $c): void {
    $connection = $c->connect();
    $c->inTurn($connection, function () use ($c, $connection): void {
        $connection->beginTransaction();
        $connection->exec("DECLARE held CURSOR WITH HOLD FOR SELECT g * 10 + {$c->number} FROM generate_series(1, 100) g");
        $connection->commit();
        for ($i = 0; $i < 5; $i++) {
            $values = $connection->query('FETCH 20 FROM held')->fetchAll(PDO::FETCH_COLUMN);
            $c->same([count($values), $values[0]], [20, ($i * 20 + 1) * 10 + $c->number], 'fetched');
        }
        $connection->exec('CLOSE held');
        $c->fails('34000', fn () => $connection->query('FETCH 1 FROM held'));
    });
});

feature('sql_prepare', function (Client $c): void {
    $connection = $c->connect();
    $connection->exec("PREPARE plan (int) AS SELECT $1 * 100 + {$c->number}");
    for ($i = 0; $i < 6; $i++) {
        $c->same($connection->query("EXECUTE plan($i)")->fetchColumn(), $i * 100 + $c->number, 'executed');
    }
    $c->fails('42P05', fn () => $connection->exec('PREPARE plan AS SELECT 1'));
    $connection->exec('DEALLOCATE plan');
    $c->fails('26000', fn () => $connection->exec('EXECUTE plan(1)'));
    $connection->exec("PREPARE plan AS SELECT 'another'");
    $c->same($connection->query('EXECUTE plan')->fetchColumn(), 'another', 'prepared anew');
    $connection->exec('DEALLOCATE ALL');
    $c->fails('26000', fn () => $connection->exec('EXECUTE plan'));
});

dropAll();
echo "done\n";
