import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.copy.CopyOut;
import org.postgresql.copy.PGCopyOutputStream;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;

/** pgjdbc as applications use it: statements, batches, COPY, large objects, cursors, metadata, session settings. */
public final class PgJdbc {
    public static void main(String[] arguments) throws Exception {
        dropAll();
        Feature.run("connect", PgJdbc::connect);
        Feature.run("statements", PgJdbc::statements);
        for (int threshold : new int[] {0, 1, 5, -1}) {
            String name = threshold < 0 ? "binary" : Integer.toString(threshold);
            Feature.run("prepare_threshold_" + name, client -> prepareThreshold(client, threshold));
        }
        Feature.run("statement_cache", PgJdbc::statementCache);
        Feature.run("schema_changes", PgJdbc::schemaChanges);
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            Feature.run("query_mode_" + mode, client -> queryMode(client, mode));
        }
        Feature.run("batch", client -> batch(client, "false"));
        Feature.run("batch_rewritten", client -> batch(client, "true"));
        Feature.run("transactions", PgJdbc::transactions);
        Feature.run("autosave_always", client -> autosave(client, "always"));
        Feature.run("autosave_conservative", client -> autosave(client, "conservative"));
        Feature.run("isolation", PgJdbc::isolation);
        Feature.run("read_only", PgJdbc::readOnly);
        Feature.run("types", PgJdbc::types);
        Feature.run("errors", PgJdbc::errors);
        Feature.run("warnings", PgJdbc::warnings);
        Feature.run("generated_keys", PgJdbc::generatedKeys);
        Feature.run("functions", PgJdbc::functions);
        Feature.run("fetch_size", PgJdbc::fetchSize);
        Feature.run("holdability", PgJdbc::holdability);
        Feature.run("updatable_results", PgJdbc::updatableResults);
        Feature.run("copy", PgJdbc::copy);
        Feature.run("large_objects", PgJdbc::largeObjects);
        Feature.run("cancel", PgJdbc::cancel);
        Feature.run("metadata", PgJdbc::metadata);
        Feature.run("notifications", PgJdbc::notifications);
        Feature.run("settings", PgJdbc::settings);
        Feature.run("set_schema", PgJdbc::setSchema);
        Feature.run("role", PgJdbc::role);
        Feature.run("temp_tables", PgJdbc::tempTables);
        Feature.run("temp_tables_kept", PgJdbc::tempTablesKept);
        Feature.run("advisory_locks", PgJdbc::advisoryLocks);
        Feature.run("advisory_locks_kept", PgJdbc::advisoryLocksKept);
        Feature.run("hold_cursor", PgJdbc::holdCursor);
        Feature.run("sql_prepare", PgJdbc::sqlPrepare);
        Feature.run("hikari", PgJdbc::hikari);
        dropAll();
        System.out.println("done");
    }

    /** What an earlier run may have left. */
    private static void dropAll() throws Exception {
        try (Connection connection = java.sql.DriverManager.getConnection(
                Feature.URL, Feature.env("PGUSER", "postgres"), Feature.env("PGPASSWORD", ""))) {
            Feature.execute(connection, ("DO $$ DECLARE it text; BEGIN"
                + " FOR it IN SELECT quote_ident(nspname) FROM pg_namespace WHERE starts_with(nspname, '%1$s')"
                + " LOOP EXECUTE 'DROP SCHEMA ' || it || ' CASCADE'; END LOOP;"
                + " FOR it IN SELECT oid::regclass FROM pg_class WHERE starts_with(relname, '%1$s') AND relkind = 'r'"
                + " LOOP EXECUTE 'DROP TABLE ' || it || ' CASCADE'; END LOOP;"
                + " FOR it IN SELECT oid::regprocedure FROM pg_proc WHERE starts_with(proname, '%1$s')"
                + " LOOP EXECUTE 'DROP ROUTINE ' || it || ' CASCADE'; END LOOP; END $$").formatted(Feature.PREFIX));
        }
    }

    private static void connect(Feature.Client client) throws Exception {
        String schema = client.table("of_login");
        try (Connection connection = client.connect()) {
            Feature.execute(connection, "CREATE SCHEMA " + schema);
        }
        Connection connection = client.connect(
            "ApplicationName", "java " + client.number,
            "currentSchema", schema,
            "options", "-c statement_timeout=" + (20_001 + client.number) + " -c work_mem=" + (2049 + client.number));
        client.check(connection.isValid(10), "isValid");
        client.same("public", connection.getCatalog() == null ? null : "public", "a catalog");
        for (int i = 0; i < 5; i++) {
            client.same("java " + client.number, Feature.ask(connection, "SHOW application_name"), "application_name");
            client.same((20_001 + client.number) + "ms", Feature.ask(connection, "SHOW statement_timeout"), "timeout");
            client.same((2049 + client.number) + "kB", Feature.ask(connection, "SHOW work_mem"), "work_mem");
            client.same(schema, Feature.ask(connection, "SELECT current_schema()"), "current_schema");
            client.same(schema, connection.getSchema(), "getSchema");
        }
        connection.setClientInfo("ApplicationName", "changed " + client.number);
        for (int i = 0; i < 5; i++) {
            client.same("changed " + client.number, Feature.ask(connection, "SHOW application_name"), "changed name");
        }
        Feature.execute(connection, "DROP SCHEMA " + schema);
        connection.close();
        client.check(connection.isClosed(), "closed");
        client.check(!connection.isValid(1), "a closed connection is not valid");
        client.fails("28P01", () -> client.connect("password", "wrong").close());
    }

    private static void statements(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        try (Statement statement = connection.createStatement()) {
            for (int i = 0; i < 20; i++) {
                try (ResultSet rows = statement.executeQuery("SELECT " + i + ", 'text ' || " + client.number + ", NULL")) {
                    client.check(rows.next(), "a row");
                    client.same(i, rows.getInt(1), "int");
                    client.same("text " + client.number, rows.getString(2), "text");
                    client.same(null, rows.getObject(3), "null");
                    client.check(!rows.next(), "one row only");
                }
            }
            client.check(statement.execute("SELECT 1; SELECT 2 WHERE false; SELECT 3"), "results");
            client.same(List.of("1"), Feature.column(statement.getResultSet()), "first result");
            client.check(statement.getMoreResults(), "a second result");
            client.same(List.of(), Feature.column(statement.getResultSet()), "second result");
            client.check(statement.getMoreResults(), "a third result");
            client.same(List.of("3"), Feature.column(statement.getResultSet()), "third result");
            client.check(!statement.getMoreResults() && statement.getUpdateCount() == -1, "no more results");
            statement.execute("");
            statement.execute("-- only a comment");
            client.same(List.of("after"), Feature.column(statement.executeQuery("SELECT 'after'")), "after an empty one");
            String table = client.table("statements");
            statement.execute("CREATE TABLE " + table + " (id int); INSERT INTO " + table + " SELECT generate_series(1, 7)");
            client.same(7, statement.executeUpdate("UPDATE " + table + " SET id = id + 1"), "updated");
            client.same(7L, statement.executeLargeUpdate("DELETE FROM " + table), "deleted");
            statement.execute("DROP TABLE " + table);
        }
        try (PreparedStatement several = connection.prepareStatement("SELECT ?::int; SELECT ?::int + 1")) {
            several.setInt(1, 4);
            several.setInt(2, 5);
            several.execute();
            client.same(List.of("4"), Feature.column(several.getResultSet()), "first of two with parameters");
            client.check(several.getMoreResults(), "a second result");
            client.same(List.of("6"), Feature.column(several.getResultSet()), "second of two with parameters");
        }
        try (PreparedStatement limited = connection.prepareStatement("SELECT generate_series(1, 1000)")) {
            limited.setMaxRows(10);
            client.same(10, Feature.column(limited.executeQuery()).size(), "max rows");
        }
        String large = "x".repeat(300_000) + client.number;
        client.same(large, Feature.ask(connection, "SELECT ?::text", large), "a large value");
    }

    private static void prepareThreshold(Feature.Client client, int threshold) throws Exception {
        Connection connection = client.connect("prepareThreshold", Integer.toString(threshold));
        String number = "SELECT ?::int + " + client.number;
        String text = "SELECT ?::text || ':' || ?::text";
        try (PreparedStatement add = connection.prepareStatement(number);
                PreparedStatement join = connection.prepareStatement(text)) {
            for (int i = 1; i <= 12; i++) {
                add.setInt(1, i);
                client.same(List.of(Integer.toString(i + client.number)), Feature.column(add.executeQuery()), "sum");
                join.setString(1, "a" + i);
                join.setString(2, i % 2 == 0 ? null : "b" + client.number);
                List<String> joined = Feature.column(join.executeQuery());
                client.same(i % 2 == 0 ? null : "a" + i + ":b" + client.number, joined.get(0), "joined");
                boolean prepared = threshold < 0 || (threshold > 0 && i + 1 >= threshold);
                client.same(prepared, ((PGStatement) add).isUseServerPrepare(), "the next is server-prepared, after run " + i);
            }
        }
        for (int i = 0; i < 6; i++) {
            client.same(Integer.toString(i + client.number), Feature.ask(connection, number, i), "again from the cache");
        }
        // Another type for a parameter is another statement on the server.
        try (PreparedStatement any = connection.prepareStatement("SELECT pg_typeof(?)")) {
            for (int i = 0; i < 3; i++) {
                any.setInt(1, i);
                client.same(List.of("integer"), Feature.column(any.executeQuery()), "an integer");
                any.setLong(1, i);
                client.same(List.of("bigint"), Feature.column(any.executeQuery()), "a bigint");
                any.setDouble(1, i);
                client.same(List.of("double precision"), Feature.column(any.executeQuery()), "a double");
            }
        }
        connection.setAutoCommit(false);
        for (int i = 0; i < 8; i++) {
            client.same("x" + i + ":y", Feature.ask(connection, text, "x" + i, "y"), "in a transaction");
            if (i % 2 == 0) {
                connection.commit();
            } else {
                connection.rollback();
            }
        }
        connection.rollback();
        connection.setAutoCommit(true);
        try (PreparedStatement refused = connection.prepareStatement("SELECT 10 / ?::int")) {
            for (int i = 0; i < 7; i++) {
                refused.setInt(1, 0);
                client.fails("22012", refused::executeQuery);
                refused.setInt(1, 5);
                client.same(List.of("2"), Feature.column(refused.executeQuery()), "after an error");
            }
        }
    }

    private static void statementCache(Feature.Client client) throws Exception {
        Connection small = client.connect("prepareThreshold", "1", "preparedStatementCacheQueries", "3");
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < 12; i++) {
                client.same(i + ":" + round, Feature.ask(small, "SELECT " + i + " || ':' || ?::int", round), "evicted");
            }
        }
        Connection none = client.connect("prepareThreshold", "1", "preparedStatementCacheQueries", "0");
        for (int i = 0; i < 12; i++) {
            client.same(Integer.toString(i), Feature.ask(none, "SELECT ?::int", i), "never cached");
        }
        Connection usual = client.connect("prepareThreshold", "1");
        for (int i = 0; i < 300; i++) {
            String got = Feature.ask(usual, "SELECT ?::int /* " + i + " */", i);
            if (!Integer.toString(i).equals(got)) {
                throw new AssertionError("statement " + i + " answered " + got);
            }
        }
        client.same("7", Feature.ask(usual, "SELECT ?::int /* 7 */", 7), "the seventh again");
    }

    private static void schemaChanges(Feature.Client client) throws Exception {
        String table = client.table("changing");
        Connection connection = client.connect("prepareThreshold", "1", "autosave", "conservative");
        Feature.execute(connection, "CREATE TABLE " + table + " (id int); INSERT INTO " + table + " VALUES (1)");
        String all = "SELECT * FROM " + table + " WHERE id = ?";
        client.same("1", Feature.ask(connection, all, 1), "before");
        client.same("1", Feature.ask(connection, all, 1), "before, prepared");
        Feature.execute(connection, "ALTER TABLE " + table + " ADD COLUMN more text DEFAULT 'new'");
        for (int i = 0; i < 3; i++) {
            try (PreparedStatement statement = connection.prepareStatement(all)) {
                statement.setInt(1, 1);
                try (ResultSet rows = statement.executeQuery()) {
                    client.check(rows.next(), "a row after ADD COLUMN");
                    client.same(2, rows.getMetaData().getColumnCount(), "columns after ADD COLUMN");
                    client.same("new", rows.getString("more"), "the new column");
                }
            }
        }
        connection.setAutoCommit(false);
        client.same("1", Feature.ask(connection, all, 1), "in a transaction");
        Feature.execute(connection, "ALTER TABLE " + table + " DROP COLUMN more, ADD COLUMN other int DEFAULT 5");
        client.same("1", Feature.ask(connection, all, 1), "after a change in the same transaction");
        connection.commit();
        client.same("1", Feature.ask(connection, all, 1), "after the commit");
        connection.commit();
        connection.setAutoCommit(true);
        Feature.execute(connection, "DROP TABLE " + table + "; CREATE TABLE " + table + " (id bigint, t text)");
        Feature.execute(connection, "INSERT INTO " + table + " VALUES (8000000000, 'big')");
        client.same("8000000000", Feature.ask(connection, all, 8_000_000_000L), "of a table made anew");
        client.same(null, Feature.ask(connection, all, 1), "the statement of before, of a table made anew");
        Feature.execute(connection, "DROP TABLE " + table);
        client.fails("42P01", () -> Feature.ask(connection, all, 1));
        client.same("2", Feature.ask(connection, "SELECT 1 + ?::int", 1), "after all");
    }

    private static void queryMode(Feature.Client client, String mode) throws Exception {
        String table = client.table("mode");
        Connection connection = client.connect("preferQueryMode", mode, "prepareThreshold", "2");
        Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY, t text)");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO " + table + " VALUES (?, ?)")) {
            for (int i = 0; i < 6; i++) {
                insert.setInt(1, i);
                insert.setString(2, "it's \\ " + i);
                client.same(1, insert.executeUpdate(), "inserted");
            }
        }
        client.same("it's \\ 3", Feature.ask(connection, "SELECT t FROM " + table + " WHERE id = ?", 3), "selected");
        connection.setAutoCommit(false);
        for (int i = 0; i < 6; i++) {
            client.same("6", Feature.ask(connection, "SELECT count(*) FROM " + table), "in a transaction");
            client.same(6, Feature.execute(connection, "UPDATE " + table + " SET t = t || '" + i + "'"), "updated");
            connection.rollback();
        }
        connection.setAutoCommit(true);
        client.same("it's \\ 3", Feature.ask(connection, "SELECT t FROM " + table + " WHERE id = ?", 3), "rolled back");
        client.fails("23505", () -> Feature.execute(connection, "INSERT INTO " + table + " VALUES (1, 'again')"));
        for (int i = 0; i < 6; i++) {
            client.same("40", Feature.ask(connection, "SELECT " + (40 + i) + " - ?::int", i), "a statement of many texts");
            try (Statement plain = connection.createStatement()) {
                client.same(List.of("41"), Feature.column(plain.executeQuery("SELECT 41")), "the same text again");
            }
        }
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void batch(Feature.Client client, String rewritten) throws Exception {
        String table = client.table("batch");
        Connection connection = client.connect("reWriteBatchedInserts", rewritten);
        Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY, t text, s serial)");
        String insert = "INSERT INTO " + table + " (id, t) VALUES (?, ?)";
        connection.setAutoCommit(false);
        for (int round = 0; round < 3; round++) {
            try (PreparedStatement statement = connection.prepareStatement(insert)) {
                for (int i = 0; i < 300; i++) {
                    statement.setInt(1, round * 300 + i);
                    statement.setString(2, "row " + i);
                    statement.addBatch();
                }
                int[] counts = statement.executeBatch();
                client.same(300, counts.length, "counts");
                client.check(Arrays.stream(counts).allMatch(n -> n == 1 || n == Statement.SUCCESS_NO_INFO), "each done");
            }
            connection.commit();
            client.same(Integer.toString(300 * (round + 1)), Feature.ask(connection, "SELECT count(*) FROM " + table), "rows");
        }
        try (PreparedStatement statement = connection.prepareStatement(insert)) {
            for (int id : new int[] {10_000, 10_001, 5, 10_002}) {
                statement.setInt(1, id);
                statement.setString(2, "refused");
                statement.addBatch();
            }
            SQLException problem = client.fails("23505", statement::executeBatch);
            client.check(problem instanceof BatchUpdateException, "a BatchUpdateException");
        }
        client.fails("25P02", () -> Feature.ask(connection, "SELECT 1"));
        connection.rollback();
        connection.setAutoCommit(true);
        client.same("900", Feature.ask(connection, "SELECT count(*) FROM " + table), "rows after a refused batch");
        try (PreparedStatement statement = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 0; i < 50; i++) {
                statement.setInt(1, 20_000 + i);
                statement.setString(2, "key");
                statement.addBatch();
            }
            statement.executeBatch();
            int keys = 0;
            try (ResultSet rows = statement.getGeneratedKeys()) {
                while (rows.next()) {
                    if (rows.getInt("id") != 20_000 + keys++) {
                        throw new AssertionError("key " + rows.getInt("id"));
                    }
                }
            }
            client.same(50, keys, "generated keys of a batch");
        }
        try (Statement statement = connection.createStatement()) {
            statement.addBatch("UPDATE " + table + " SET t = 'one' WHERE id < 10");
            statement.addBatch("DELETE FROM " + table + " WHERE id >= 20000");
            statement.addBatch("INSERT INTO " + table + " (id) VALUES (-1)");
            client.same("[10, 50, 1]", Arrays.toString(statement.executeBatch()), "a batch of several texts");
        }
        // Without a transaction around it, a batch up to its first error is taken back or kept as PostgreSQL does it.
        try (PreparedStatement update = connection.prepareStatement("UPDATE " + table + " SET t = ? WHERE id = ?")) {
            for (int i = 0; i < 200; i++) {
                update.setString(1, "updated");
                update.setInt(2, i);
                update.addBatch();
            }
            client.same(200, Arrays.stream(update.executeBatch()).sum(), "updated by a batch");
        }
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void transactions(Feature.Client client) throws Exception {
        String table = client.table("transactions");
        Connection connection = client.connect();
        Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY)");
        connection.setAutoCommit(false);
        String count = "SELECT count(*) FROM " + table;
        for (int i = 0; i < 10; i++) {
            Feature.execute(connection, "INSERT INTO " + table + " VALUES (" + i + ")");
            client.same("1", Feature.ask(connection, count), "own row");
            connection.rollback();
            client.same("0", Feature.ask(connection, count), "after rollback");
            connection.commit();
        }
        Feature.execute(connection, "INSERT INTO " + table + " VALUES (1)");
        Savepoint named = connection.setSavepoint("a name");
        Feature.execute(connection, "INSERT INTO " + table + " VALUES (2)");
        Savepoint unnamed = connection.setSavepoint();
        client.fails("23505", () -> Feature.execute(connection, "INSERT INTO " + table + " VALUES (1)"));
        client.fails("25P02", () -> Feature.ask(connection, count));
        connection.rollback(unnamed);
        client.same("2", Feature.ask(connection, count), "after rollback to the second savepoint");
        connection.rollback(named);
        client.same("1", Feature.ask(connection, count), "after rollback to the first savepoint");
        connection.releaseSavepoint(named);
        connection.commit();
        client.same("1", Feature.ask(connection, count), "committed");
        Feature.execute(connection, "INSERT INTO " + table + " VALUES (3)");
        connection.setAutoCommit(true);
        client.same("2", Feature.ask(connection, count), "committed by setAutoCommit");
        // By SQL, as frameworks do at times.
        for (int i = 0; i < 5; i++) {
            Feature.execute(connection, "BEGIN");
            Feature.execute(connection, "DELETE FROM " + table);
            client.same("0", Feature.ask(connection, count), "inside BEGIN");
            String transaction = Feature.ask(connection, "SELECT txid_current()");
            client.same(transaction, Feature.ask(connection, "SELECT txid_current()"), "the same transaction");
            Feature.execute(connection, "ROLLBACK");
        }
        client.same("2", Feature.ask(connection, count), "after ROLLBACK");
        Feature.execute(connection, "BEGIN; DELETE FROM " + table + "; COMMIT; SELECT 1");
        client.same("0", Feature.ask(connection, count), "after a transaction in one text");
        Feature.execute(connection, "BEGIN");
        client.fails("22012", () -> Feature.execute(connection, "SELECT 1/0"));
        Feature.execute(connection, "COMMIT");
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void autosave(Feature.Client client, String autosave) throws Exception {
        String table = client.table("autosave");
        Connection connection = client.connect("autosave", autosave, "cleanupSavepoints", "true", "prepareThreshold", "2");
        Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY)");
        connection.setAutoCommit(false);
        for (int round = 0; round < 4; round++) {
            Feature.execute(connection, "INSERT INTO " + table + " VALUES (" + round * 10 + ")");
            client.fails("23505", () -> Feature.execute(connection, "INSERT INTO " + table + " SELECT min(id) FROM " + table));
            if (autosave.equals("always")) {
                for (int i = 1; i < 4; i++) {
                    int id = round * 10 + i;
                    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO " + table + " VALUES (?)")) {
                        insert.setInt(1, id);
                        client.same(1, insert.executeUpdate(), "inserted after an error");
                        client.fails("23505", insert::executeUpdate);
                    }
                }
                client.same(Integer.toString(4 * (round + 1)), Feature.ask(connection, "SELECT count(*) FROM " + table), "rows");
                connection.commit();
            } else {
                client.fails("25P02", () -> Feature.ask(connection, "SELECT 1"));
                connection.rollback();
                client.same("0", Feature.ask(connection, "SELECT count(*) FROM " + table), "rows");
                connection.commit();
            }
        }
        connection.setAutoCommit(true);
        client.same(autosave.equals("always") ? "16" : "0", Feature.ask(connection, "SELECT count(*) FROM " + table), "rows");
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void isolation(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        int[] levels = {
            Connection.TRANSACTION_READ_COMMITTED,
            Connection.TRANSACTION_REPEATABLE_READ,
            Connection.TRANSACTION_SERIALIZABLE,
        };
        String[] names = {"read committed", "repeatable read", "serializable"};
        for (int round = 0; round < 6; round++) {
            int mine = (client.number + round) % 3;
            connection.setTransactionIsolation(levels[mine]);
            for (int i = 0; i < 3; i++) {
                client.same(names[mine], Feature.ask(connection, "SHOW transaction_isolation"), "of a statement");
                client.same(levels[mine], connection.getTransactionIsolation(), "getTransactionIsolation");
                connection.setAutoCommit(false);
                client.same(names[mine], Feature.ask(connection, "SHOW transaction_isolation"), "of a transaction");
                connection.commit();
                connection.setAutoCommit(true);
            }
        }
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        client.same("read committed", Feature.ask(connection, "SHOW transaction_isolation"), "set back");
    }

    private static void readOnly(Feature.Client client) throws Exception {
        String table = client.table("read_only");
        Connection setup = client.connect();
        Feature.execute(setup, "CREATE TABLE " + table + " (id int)");
        for (String mode : new String[] {"ignore", "transaction", "always"}) {
            Connection connection = client.connect("readOnlyMode", mode);
            for (int round = 0; round < 4; round++) {
                connection.setReadOnly(true);
                client.check(connection.isReadOnly(), "isReadOnly");
                connection.setAutoCommit(false);
                if (mode.equals("ignore")) {
                    client.same(1, Feature.execute(connection, "INSERT INTO " + table + " VALUES (1)"), "ignored");
                } else {
                    client.fails("25006", () -> Feature.execute(connection, "INSERT INTO " + table + " VALUES (1)"));
                }
                connection.rollback();
                connection.setAutoCommit(true);
                if (mode.equals("always")) {
                    client.fails("25006", () -> Feature.execute(connection, "INSERT INTO " + table + " VALUES (1)"));
                    client.same("on", Feature.ask(connection, "SHOW default_transaction_read_only"), "default");
                } else {
                    client.same("off", Feature.ask(connection, "SHOW default_transaction_read_only"), "default");
                }
                connection.setReadOnly(false);
                client.same(0, Feature.execute(connection, "UPDATE " + table + " SET id = 2"), "written");
            }
            connection.close();
        }
        Feature.execute(setup, "DROP TABLE " + table);
    }

    private static void types(Feature.Client client) throws Exception {
        for (String binary : new String[] {"true", "false"}) {
            Connection connection = client.connect("prepareThreshold", "1", "binaryTransfer", binary);
            for (int round = 0; round < 3; round++) {
                allTypes(client, connection, round);
            }
        }
    }

    private static void allTypes(Feature.Client client, Connection connection, int round) throws Exception {
        UUID uuid = new UUID(client.number, round);
        byte[] bytes = {0, 1, (byte) 255, (byte) client.number};
        LocalDateTime moment = LocalDateTime.of(2024, 2, 29, 23, 59, 58, 123_456_000);
        Array numbers = connection.createArrayOf("int4", new Integer[] {1, null, client.number});
        Array words = connection.createArrayOf("text", new String[] {"a,b", "\"q\"", "NULL", ""});
        PGobject json = new PGobject();
        json.setType("jsonb");
        json.setValue("{\"a\": [1, 2, " + client.number + "]}");
        try (PreparedStatement statement = connection.prepareStatement(
                "SELECT ?::bool, ?::int2, ?::int4, ?::int8, ?::float4, ?::float8, ?::numeric, ?::text, ?::bytea,"
                    + " ?::uuid, ?::date, ?::time, ?::timestamp, ?::timestamptz, ?::int4[], ?::text[], ?::jsonb,"
                    + " ?::text, '1 day 02:00'::interval, '(1,2)'::point, int4range(1, 5), '10.0.0.1'::inet")) {
            statement.setBoolean(1, true);
            statement.setShort(2, (short) -7);
            statement.setInt(3, Integer.MIN_VALUE);
            statement.setLong(4, Long.MAX_VALUE);
            statement.setFloat(5, 1.5f);
            statement.setDouble(6, Double.NaN);
            statement.setBigDecimal(7, new BigDecimal("12345678901234567890.000123"));
            statement.setString(8, "ä € 😀 'quoted' \\");
            statement.setBytes(9, bytes);
            statement.setObject(10, uuid);
            statement.setObject(11, moment.toLocalDate());
            statement.setObject(12, LocalTime.of(1, 2, 3));
            statement.setObject(13, moment);
            statement.setObject(14, moment.atOffset(ZoneOffset.ofHours(2)));
            statement.setArray(15, numbers);
            statement.setArray(16, words);
            statement.setObject(17, json);
            statement.setNull(18, Types.VARCHAR);
            try (ResultSet row = statement.executeQuery()) {
                client.check(row.next(), "a row");
                client.same(true, row.getBoolean(1), "bool");
                client.same((short) -7, row.getShort(2), "int2");
                client.same(Integer.MIN_VALUE, row.getInt(3), "int4");
                client.same(Long.MAX_VALUE, row.getLong(4), "int8");
                client.same(1.5f, row.getFloat(5), "float4");
                client.check(Double.isNaN(row.getDouble(6)), "float8");
                client.same(new BigDecimal("12345678901234567890.000123"), row.getBigDecimal(7), "numeric");
                client.same("ä € 😀 'quoted' \\", row.getString(8), "text");
                client.check(Arrays.equals(bytes, row.getBytes(9)), "bytea");
                client.same(uuid, row.getObject(10, UUID.class), "uuid");
                client.same(moment.toLocalDate(), row.getObject(11, LocalDate.class), "date");
                client.same(LocalTime.of(1, 2, 3), row.getObject(12, LocalTime.class), "time");
                client.same(moment, row.getObject(13, LocalDateTime.class), "timestamp");
                client.same(moment.atOffset(ZoneOffset.ofHours(2)).toInstant(),
                    row.getObject(14, OffsetDateTime.class).toInstant(), "timestamptz");
                client.check(Arrays.equals(new Integer[] {1, null, client.number}, (Object[]) row.getArray(15).getArray()),
                    "int4[]");
                client.check(Arrays.equals(new String[] {"a,b", "\"q\"", "NULL", ""}, (Object[]) row.getArray(16).getArray()),
                    "text[]");
                client.same("{\"a\": [1, 2, " + client.number + "]}", row.getString(17), "jsonb");
                client.check(row.getString(18) == null && row.wasNull(), "null");
                client.same(1, ((org.postgresql.util.PGInterval) row.getObject(19)).getDays(), "interval");
                client.same(2.0, ((org.postgresql.geometric.PGpoint) row.getObject(20)).y, "point");
                client.same("[1,5)", row.getString(21), "int4range");
                client.same("10.0.0.1", row.getString(22), "inet");
            }
        }
    }

    private static void errors(Feature.Client client) throws Exception {
        String table = client.table("errors");
        Connection connection = client.connect("prepareThreshold", "2");
        Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY, positive int CHECK (positive > 0))");
        Feature.execute(connection, "INSERT INTO " + table + " VALUES (1, 1)");
        for (int i = 0; i < 4; i++) {
            client.fails("42601", () -> Feature.execute(connection, "SELEC 1"));
            client.fails("42P01", () -> Feature.ask(connection, "SELECT * FROM no_such_table WHERE a = ?", 1));
            client.fails("42703", () -> Feature.ask(connection, "SELECT no_such_column"));
            client.fails("22P02", () -> Feature.ask(connection, "SELECT ?::text::int", "not a number"));
            PSQLException twice = (PSQLException) client.fails("23505",
                () -> Feature.execute(connection, "INSERT INTO " + table + " VALUES (1, 1)"));
            client.same(table + "_pkey", twice.getServerErrorMessage().getConstraint(), "constraint");
            client.same(table, twice.getServerErrorMessage().getTable(), "table");
            client.check(twice.getServerErrorMessage().getDetail().contains("(1)"), "detail");
            client.fails("23514", () -> Feature.execute(connection, "INSERT INTO " + table + " VALUES (2, -1)"));
            client.fails("P0001", () -> Feature.execute(connection,
                "DO $$ BEGIN RAISE EXCEPTION 'mine' USING HINT = 'a hint'; END $$"));
            client.fails("22012", () -> Feature.execute(connection, "SELECT 1; SELECT 1/0; SELECT 2"));
            client.same("1", Feature.ask(connection, "SELECT count(*) FROM " + table), "after errors");
        }
        // An error among the rows, after some have been sent.
        try (Statement statement = connection.createStatement()) {
            client.fails("22012", () -> statement.executeQuery("SELECT 1 / (5000 - g) FROM generate_series(1, 10000) g"));
        }
        client.same("1", Feature.ask(connection, "SELECT ?::int", 1), "after an error among rows");
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void warnings(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        try (Statement statement = connection.createStatement()) {
            for (int i = 0; i < 5; i++) {
                statement.execute("DO $$ BEGIN RAISE WARNING 'warning " + client.number + "'; RAISE NOTICE 'notice'; END $$");
                client.same("warning " + client.number, statement.getWarnings().getMessage(), "a warning");
                client.same("notice", statement.getWarnings().getNextWarning().getMessage(), "a notice");
                statement.clearWarnings();
                statement.execute("DROP TABLE IF EXISTS " + client.table("never"));
                client.check(statement.getWarnings().getMessage().contains("does not exist"), "a notice of DROP TABLE");
                statement.execute("COMMIT");
                client.same("25P01", statement.getWarnings().getSQLState(), "COMMIT outside a transaction");
            }
        }
    }

    private static void generatedKeys(Feature.Client client) throws Exception {
        String table = client.table("keys");
        Connection connection = client.connect("prepareThreshold", "3");
        Feature.execute(connection, "CREATE TABLE " + table
            + " (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text, made timestamptz DEFAULT now())");
        for (int i = 1; i <= 8; i++) {
            try (PreparedStatement statement = connection.prepareStatement(
                    "INSERT INTO " + table + " (t) VALUES (?)", new String[] {"id", "made"})) {
                statement.setString(1, "x");
                statement.executeUpdate();
                try (ResultSet keys = statement.getGeneratedKeys()) {
                    client.check(keys.next(), "a key");
                    client.same(i, keys.getInt(1), "id");
                    client.check(keys.getTimestamp("made") != null, "made");
                }
            }
        }
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("INSERT INTO " + table + " (t) VALUES ('a'), ('b')", Statement.RETURN_GENERATED_KEYS);
            client.same(List.of("9", "10"), Feature.column(statement.getGeneratedKeys()), "keys of a simple statement");
        }
        client.same("11", Feature.ask(connection, "INSERT INTO " + table + " (t) VALUES (?) RETURNING id", "r"), "RETURNING");
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void functions(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        String twice = client.table("twice");
        String rows = client.table("rows");
        String procedure = client.table("procedure");
        Feature.execute(connection, "CREATE FUNCTION " + twice + "(a int, OUT b int, OUT c text) LANGUAGE sql AS"
            + " $$ SELECT a * 2, 'twice ' || a $$");
        Feature.execute(connection, "CREATE FUNCTION " + rows + "(n int) RETURNS refcursor LANGUAGE plpgsql AS"
            + " $$ DECLARE c refcursor; BEGIN OPEN c FOR SELECT generate_series(1, n); RETURN c; END $$");
        Feature.execute(connection, "CREATE PROCEDURE " + procedure + "(INOUT a int) LANGUAGE plpgsql AS"
            + " $$ BEGIN a := a + 1; COMMIT; a := a + 1; END $$");
        for (int i = 0; i < 6; i++) {
            try (CallableStatement call = connection.prepareCall("{call " + twice + "(?, ?, ?)}")) {
                call.setInt(1, i);
                call.registerOutParameter(2, Types.INTEGER);
                call.registerOutParameter(3, Types.VARCHAR);
                call.execute();
                client.same(2 * i, call.getInt(2), "first out parameter");
                client.same("twice " + i, call.getString(3), "second out parameter");
            }
            connection.setAutoCommit(false);
            try (CallableStatement call = connection.prepareCall("{? = call " + rows + "(?)}")) {
                call.registerOutParameter(1, Types.REF_CURSOR);
                call.setInt(2, 50);
                call.execute();
                try (ResultSet result = (ResultSet) call.getObject(1)) {
                    client.same(50, Feature.column(result).size(), "rows of a refcursor");
                }
            }
            connection.commit();
            connection.setAutoCommit(true);
            try (PreparedStatement call = connection.prepareStatement("CALL " + procedure + "(?)")) {
                call.setInt(1, i);
                client.same(List.of(Integer.toString(i + 2)), Feature.column(call.executeQuery()), "a procedure");
            }
        }
        Feature.execute(connection, "DROP FUNCTION " + twice + "; DROP FUNCTION " + rows + "; DROP PROCEDURE " + procedure);
    }

    private static void fetchSize(Feature.Client client) throws Exception {
        Connection connection = client.connect("prepareThreshold", "2");
        connection.setAutoCommit(false);
        for (int round = 0; round < 4; round++) {
            try (PreparedStatement first = connection.prepareStatement("SELECT generate_series(1, ?)");
                    PreparedStatement second = connection.prepareStatement("SELECT repeat('x', g) FROM generate_series(1, ?) g")) {
                first.setFetchSize(50);
                first.setInt(1, 1000);
                second.setFetchSize(7);
                second.setInt(1, 100);
                try (ResultSet numbers = first.executeQuery(); ResultSet words = second.executeQuery()) {
                    int seen = 0;
                    while (numbers.next()) {
                        if (numbers.getInt(1) != ++seen) {
                            throw new AssertionError("row " + seen + " is " + numbers.getInt(1));
                        }
                        if (seen % 10 == 0 && !(words.next() && words.getString(1).length() == seen / 10)) {
                            throw new AssertionError("the second cursor after row " + seen);
                        }
                    }
                    client.same(1000, seen, "rows by portions");
                    client.check(!words.next(), "the second cursor ended, too");
                }
                // One left before its end, and another query between.
                try (ResultSet numbers = first.executeQuery()) {
                    client.check(numbers.next(), "a row");
                    client.same("5", Feature.ask(connection, "SELECT ?::int", 5), "between");
                    client.check(numbers.next() && numbers.getInt(1) == 2, "the next row");
                }
            }
            if (round % 2 == 0) {
                connection.commit();
            } else {
                connection.rollback();
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT generate_series(1, 1000)")) {
            statement.setFetchSize(10);
            ResultSet rows = statement.executeQuery();
            for (int i = 0; i < 10; i++) {
                rows.next();
            }
            connection.commit();
            client.fails("34000", () -> {
                while (rows.next()) {
                    rows.getInt(1);
                }
            });
        }
        connection.rollback();
        connection.setAutoCommit(true);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(10);
            client.same(500, Feature.column(statement.executeQuery("SELECT generate_series(1, 500)")).size(), "autocommit");
        }
    }

    private static void holdability(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        connection.setAutoCommit(false);
        connection.setHoldability(ResultSet.HOLD_CURSORS_OVER_COMMIT);
        try (Statement statement = connection.createStatement(
                ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
            statement.setFetchSize(10);
            ResultSet rows = statement.executeQuery("SELECT generate_series(1, 100)");
            client.check(rows.next(), "a row");
            connection.commit();
            client.same("between", Feature.ask(connection, "SELECT 'between'"), "a query after the commit");
            connection.commit();
            client.same(99, Feature.column(rows).size(), "the rows left, after the commit");
        }
        try (Statement statement = connection.createStatement(
                ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY)) {
            ResultSet rows = statement.executeQuery("SELECT generate_series(1, 100)");
            client.check(rows.last() && rows.getInt(1) == 100, "last");
            connection.commit();
            client.check(rows.absolute(50) && rows.getInt(1) == 50, "absolute, after the commit");
            client.check(rows.previous() && rows.getInt(1) == 49, "previous, after the commit");
        }
        connection.commit();
    }

    private static void updatableResults(Feature.Client client) throws Exception {
        String table = client.table("updatable");
        Connection connection = client.connect();
        Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY, t text)");
        Feature.execute(connection, "INSERT INTO " + table + " SELECT g, 'old' FROM generate_series(1, 5) g");
        for (boolean autoCommit : new boolean[] {true, false}) {
            connection.setAutoCommit(autoCommit);
            try (Statement statement = connection.createStatement(
                    ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                ResultSet rows = statement.executeQuery("SELECT id, t FROM " + table + " ORDER BY id");
                while (rows.next()) {
                    rows.updateString("t", "new " + rows.getInt("id"));
                    rows.updateRow();
                }
                rows.moveToInsertRow();
                rows.updateInt("id", 6);
                rows.updateString("t", "inserted");
                rows.insertRow();
                rows.absolute(1);
                rows.deleteRow();
            }
            client.same("2:new 2,3:new 3,4:new 4,5:new 5,6:inserted", Feature.ask(connection,
                "SELECT string_agg(id || ':' || t, ',' ORDER BY id) FROM " + table), "the table");
            Feature.execute(connection, "DELETE FROM " + table + "; INSERT INTO " + table
                + " SELECT g, 'old' FROM generate_series(1, 5) g");
        }
        connection.commit();
        connection.setAutoCommit(true);
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void copy(Feature.Client client) throws Exception {
        String table = client.table("copy");
        Connection connection = client.connect();
        CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
        Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY, t text)");
        StringBuilder csv = new StringBuilder();
        for (int i = 0; i < 3000; i++) {
            csv.append(i).append(",\"row, ").append(i).append("\"\n");
        }
        client.same(3000L, manager.copyIn("COPY " + table + " FROM STDIN (FORMAT csv)", new StringReader(csv.toString())),
            "copied in");
        StringWriter out = new StringWriter();
        client.same(3000L, manager.copyOut("COPY (SELECT * FROM " + table + " ORDER BY id) TO STDOUT (FORMAT csv)", out),
            "copied out");
        client.same(csv.toString(), out.toString(), "what went in comes out");
        ByteArrayOutputStream binary = new ByteArrayOutputStream();
        manager.copyOut("COPY " + table + " TO STDOUT (FORMAT binary)", binary);
        connection.setAutoCommit(false);
        Feature.execute(connection, "TRUNCATE " + table);
        client.same(3000L, manager.copyIn("COPY " + table + " FROM STDIN (FORMAT binary)",
            new ByteArrayInputStream(binary.toByteArray())), "copied in, binary");
        connection.rollback();
        connection.setAutoCommit(true);
        client.same("3000", Feature.ask(connection, "SELECT count(*) FROM " + table), "after rollback");
        CopyIn cancelled = manager.copyIn("COPY " + table + " FROM STDIN");
        byte[] line = "90000\tnever\n".getBytes(StandardCharsets.UTF_8);
        cancelled.writeToCopy(line, 0, line.length);
        cancelled.cancelCopy();
        client.fails("23505", () -> manager.copyIn("COPY " + table + " FROM STDIN", new StringReader("1\tagain\n")));
        client.fails("22P02", () -> manager.copyIn("COPY " + table + " FROM STDIN", new StringReader("x\ty\n")));
        client.fails("42P01", () -> manager.copyIn("COPY no_such_table FROM STDIN", new StringReader("")));
        client.same("3000", Feature.ask(connection, "SELECT count(*) FROM " + table), "after refused copies");
        try (PGCopyOutputStream stream = new PGCopyOutputStream(
                connection.unwrap(PGConnection.class), "COPY " + table + " FROM STDIN")) {
            stream.write("-1\tby a stream\n".getBytes(StandardCharsets.UTF_8));
        }
        client.same("by a stream", Feature.ask(connection, "SELECT t FROM " + table + " WHERE id = ?", -1), "by a stream");
        CopyOut large = manager.copyOut("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 5000)) TO STDOUT");
        int lines = 0;
        while (large.readFromCopy() != null) {
            lines++;
        }
        client.same(5000, lines, "lines of a large copy");
        client.same(5000L, large.getHandledRowCount(), "its count");
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void largeObjects(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
        connection.setAutoCommit(false);
        byte[] content = new byte[100_000];
        for (int i = 0; i < content.length; i++) {
            content[i] = (byte) (i * 31 + client.number);
        }
        for (int round = 0; round < 3; round++) {
            long oid = manager.createLO(LargeObjectManager.READWRITE);
            try (LargeObject object = manager.open(oid, LargeObjectManager.WRITE)) {
                object.write(content);
            }
            connection.commit();
            try (LargeObject object = manager.open(oid, LargeObjectManager.READWRITE)) {
                client.same(content.length, object.size(), "size");
                client.check(Arrays.equals(content, object.read(content.length)), "content");
                object.seek(50_000);
                client.same(50_000, object.tell(), "tell");
                object.write("in the middle".getBytes(StandardCharsets.UTF_8));
                object.seek(-13, LargeObject.SEEK_CUR);
                client.same("in the middle", new String(object.read(13), StandardCharsets.UTF_8), "written over");
                object.truncate(60_000);
                client.same(60_000, object.size(), "truncated");
            }
            connection.rollback();
            try (LargeObject object = manager.open(oid, LargeObjectManager.READ)) {
                client.same(content.length, object.size(), "size after rollback");
                client.check(Arrays.equals(content, object.getInputStream().readAllBytes()), "by a stream");
            }
            connection.commit();
            manager.unlink(oid);
            connection.commit();
            client.fails("42704", () -> manager.open(oid, LargeObjectManager.READ));
            connection.rollback();
        }
    }

    private static void cancel(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        for (int round = 0; round < 2; round++) {
            try (PreparedStatement statement = connection.prepareStatement("SELECT pg_sleep(?)")) {
                statement.setDouble(1, 20);
                statement.setQueryTimeout(1);
                client.fails("57014", statement::executeQuery);
                statement.setDouble(1, 0);
                client.same(List.of(""), Feature.column(statement.executeQuery()), "in time");
            }
        }
        // By another thread, which needs a server to see that the statement runs.
        Connection watcher = client.connect();
        client.inTurn(connection, () -> {
            String slow = "SELECT pg_sleep(20) /* " + client.table("cancel") + " */";
            try (Statement statement = connection.createStatement()) {
                ExecutorService other = Executors.newSingleThreadExecutor();
                Future<?> cancelled = other.submit(() -> {
                    long end = System.currentTimeMillis() + 10_000;
                    while (System.currentTimeMillis() < end && !"1".equals(Feature.ask(watcher,
                            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = ?", slow))) {
                        Thread.sleep(10);
                    }
                    statement.cancel();
                    return null;
                });
                client.fails("57014", () -> statement.execute(slow));
                cancelled.get();
                other.shutdown();
            }
        });
        client.same("after", Feature.ask(connection, "SELECT 'after'"), "after cancels");
        Feature.execute(connection, "SET statement_timeout = 0");
        connection.setAutoCommit(false);
        Feature.execute(connection, "SET LOCAL statement_timeout = 50");
        client.fails("57014", () -> Feature.execute(connection, "SELECT pg_sleep(20)"));
        connection.rollback();
        client.same("0", Feature.ask(connection, "SHOW statement_timeout"), "SET LOCAL ended");
        connection.commit();
    }

    private static void metadata(Feature.Client client) throws Exception {
        String table = client.table("metadata");
        Connection connection = client.connect("prepareThreshold", "1");
        Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY, name varchar(30) NOT NULL, n numeric(9,2))");
        Feature.execute(connection, "CREATE INDEX ON " + table + " (name)");
        DatabaseMetaData metadata = connection.getMetaData();
        for (int round = 0; round < 2; round++) {
            client.same("PostgreSQL", metadata.getDatabaseProductName(), "product");
            client.check(metadata.getDatabaseMajorVersion() >= 12, "version");
            try (ResultSet rows = metadata.getTables(null, "public", table.replace("_", "\\_"), new String[] {"TABLE"})) {
                client.check(rows.next() && table.equals(rows.getString("TABLE_NAME")), "getTables");
            }
            try (ResultSet rows = metadata.getColumns(null, null, table, null)) {
                StringBuilder columns = new StringBuilder();
                while (rows.next()) {
                    columns.append(rows.getString("COLUMN_NAME")).append(' ').append(rows.getString("TYPE_NAME")).append(' ')
                        .append(rows.getInt("COLUMN_SIZE")).append(',');
                }
                client.same("id int4 10,name varchar 30,n numeric 9,", columns.toString(), "getColumns");
            }
            try (ResultSet rows = metadata.getPrimaryKeys(null, null, table)) {
                client.check(rows.next() && "id".equals(rows.getString("COLUMN_NAME")), "getPrimaryKeys");
            }
            try (ResultSet rows = metadata.getIndexInfo(null, null, table, false, false)) {
                int indexes = 0;
                while (rows.next()) {
                    indexes++;
                }
                client.same(2, indexes, "getIndexInfo");
            }
            try (ResultSet rows = metadata.getTypeInfo()) {
                client.check(rows.next(), "getTypeInfo");
            }
            try (ResultSet rows = metadata.getSchemas()) {
                client.check(Feature.column(rows).contains("public"), "getSchemas");
            }
            try (PreparedStatement statement = connection.prepareStatement("SELECT id AS a, n FROM " + table + " WHERE name = ?")) {
                ResultSetMetaData columns = statement.getMetaData();
                client.same("a numeric 9", columns.getColumnLabel(1) + " " + columns.getColumnTypeName(2) + " "
                    + columns.getPrecision(2), "ResultSetMetaData before execution");
                client.same("text", statement.getParameterMetaData().getParameterTypeName(1), "ParameterMetaData");
                client.same("id", columns.unwrap(org.postgresql.PGResultSetMetaData.class).getBaseColumnName(1), "base column");
            }
        }
        Feature.execute(connection, "DROP TABLE " + table);
    }

    private static void notifications(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        Connection other = client.connect();
        PGConnection listener = connection.unwrap(PGConnection.class);
        String channel = client.table("channel");
        client.inTurn(connection, () -> {
            Feature.execute(connection, "LISTEN " + channel);
            for (int i = 0; i < 3; i++) {
                Feature.ask(other, "SELECT pg_notify(?, ?)", channel, "payload " + i);
                PGNotification[] got = listener.getNotifications(10_000);
                client.check(got != null && got.length == 1, "a notification without a query");
                client.same(channel + " payload " + i, got[0].getName() + " " + got[0].getParameter(), "notification");
            }
            connection.setAutoCommit(false);
            Feature.execute(connection, "NOTIFY " + channel + ", 'to myself'");
            connection.commit();
            connection.setAutoCommit(true);
            PGNotification[] own = listener.getNotifications(10_000);
            client.check(own != null && own.length == 1 && own[0].getParameter().equals("to myself"), "to myself");
            client.same("query", Feature.ask(connection, "SELECT ?", "query"), "a query while listening");
            Feature.execute(connection, "UNLISTEN *");
            Feature.execute(other, "NOTIFY " + channel + ", 'unheard'");
            client.same("0", Feature.ask(connection, "SELECT count(*) FROM pg_listening_channels()"), "channels");
            own = listener.getNotifications();
            client.check(own == null || own.length == 0, "nothing after UNLISTEN");
        });
    }

    private static void settings(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        String mine = Integer.toString(30_001 + client.number);
        Feature.execute(connection, "SET statement_timeout = " + mine);
        Feature.execute(connection, "SET myapp.tenant = 'tenant " + client.number + "'");
        Feature.ask(connection, "SELECT set_config('work_mem', ?, false)", (3000 + client.number) + "kB");
        Feature.execute(connection, "SET TIME ZONE 'Etc/GMT+" + client.number + "'");
        for (int i = 0; i < 6; i++) {
            client.same(mine + "ms", Feature.ask(connection, "SHOW statement_timeout"), "statement_timeout");
            client.same("tenant " + client.number, Feature.ask(connection, "SELECT current_setting('myapp.tenant')"), "tenant");
            client.same((3000 + client.number) + "kB", Feature.ask(connection, "SHOW work_mem"), "work_mem");
            client.same("Etc/GMT+" + client.number, Feature.ask(connection, "SHOW TimeZone"), "TimeZone");
        }
        connection.setAutoCommit(false);
        Feature.execute(connection, "SET statement_timeout = 12345");
        Feature.execute(connection, "SET LOCAL work_mem = '4321kB'");
        client.same("12345ms", Feature.ask(connection, "SHOW statement_timeout"), "inside");
        connection.rollback();
        client.same(mine + "ms", Feature.ask(connection, "SHOW statement_timeout"), "taken back by the rollback");
        client.same((3000 + client.number) + "kB", Feature.ask(connection, "SHOW work_mem"), "after SET LOCAL");
        Feature.execute(connection, "SET statement_timeout = 23456");
        connection.commit();
        connection.setAutoCommit(true);
        client.same("23456ms", Feature.ask(connection, "SHOW statement_timeout"), "kept by the commit");
        Feature.execute(connection, "RESET statement_timeout");
        Connection fresh = client.connect();
        for (String name : new String[] {"statement_timeout", "work_mem", "TimeZone"}) {
            if (!name.equals("statement_timeout")) {
                Feature.execute(connection, "SET " + name + " TO DEFAULT");
            }
            client.same(Feature.ask(fresh, "SHOW " + name), Feature.ask(connection, "SHOW " + name), name + " set back");
        }
        Feature.execute(connection, "SET myapp.tenant = 'once more'");
        Feature.execute(connection, "RESET ALL");
        client.same("", Feature.ask(connection, "SELECT current_setting('myapp.tenant', true)"), "tenant after RESET ALL");
    }

    private static void setSchema(Feature.Client client) throws Exception {
        Connection connection = client.connect("prepareThreshold", "2");
        String schema = client.table("schema");
        Feature.execute(connection, "CREATE SCHEMA " + schema);
        Feature.execute(connection, "CREATE TABLE " + schema + ".here (owner int); INSERT INTO " + schema
            + ".here VALUES (" + client.number + ")");
        connection.setSchema(schema);
        for (int i = 0; i < 6; i++) {
            client.same(schema, connection.getSchema(), "getSchema");
            client.same(Integer.toString(client.number), Feature.ask(connection, "SELECT owner FROM here"), "a table of mine");
        }
        Feature.execute(connection, "SET search_path TO public, " + schema);
        for (int i = 0; i < 3; i++) {
            client.same("public, " + schema, Feature.ask(connection, "SHOW search_path"), "search_path");
            client.same(Integer.toString(client.number), Feature.ask(connection, "SELECT owner FROM here"), "found second");
        }
        connection.setSchema("public");
        client.fails("42P01", () -> Feature.ask(connection, "SELECT owner FROM here"));
        Feature.execute(connection, "DROP SCHEMA " + schema + " CASCADE");
    }

    private static void role(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        String login = Feature.ask(connection, "SELECT session_user");
        boolean changed = client.number % 2 == 0;
        if (changed) {
            Feature.execute(connection, "SET ROLE pg_read_all_stats");
        }
        for (int i = 0; i < 6; i++) {
            client.same(changed ? "pg_read_all_stats" : login, Feature.ask(connection, "SELECT current_user"), "current_user");
            client.same(login, Feature.ask(connection, "SELECT session_user"), "session_user");
        }
        Feature.execute(connection, "RESET ROLE");
        client.same(login, Feature.ask(connection, "SELECT current_user"), "after RESET ROLE");
    }

    private static void tempTables(Feature.Client client) throws Exception {
        Connection connection = client.connect("prepareThreshold", "2");
        connection.setAutoCommit(false);
        for (int round = 0; round < 5; round++) {
            Feature.execute(connection, "CREATE TEMP TABLE scratch (id int) ON COMMIT DROP");
            Feature.execute(connection, "INSERT INTO scratch SELECT generate_series(1, " + (client.number + 1) + ")");
            client.same(Integer.toString(client.number + 1), Feature.ask(connection, "SELECT count(*) FROM scratch"), "rows");
            connection.commit();
            client.same(null, Feature.ask(connection, "SELECT to_regclass('pg_temp.scratch')"), "gone");
            connection.commit();
        }
    }

    private static void tempTablesKept(Feature.Client client) throws Exception {
        Connection connection = client.connect("prepareThreshold", "2");
        client.inTurn(connection, () -> {
            Feature.execute(connection, "CREATE TEMP TABLE scratch (id int PRIMARY KEY, t text)");
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO scratch VALUES (?, ?)")) {
                for (int i = 0; i < 5; i++) {
                    insert.setInt(1, i);
                    insert.setString(2, "of " + client.number);
                    client.same(1, insert.executeUpdate(), "inserted");
                    client.same(Integer.toString(i + 1), Feature.ask(connection, "SELECT count(*) FROM scratch"), "rows");
                }
            }
            connection.setAutoCommit(false);
            Feature.execute(connection, "DELETE FROM scratch");
            connection.rollback();
            connection.setAutoCommit(true);
            client.same("of " + client.number, Feature.ask(connection, "SELECT DISTINCT t FROM scratch"), "still mine");
            Feature.execute(connection, "DROP TABLE scratch");
            client.same(null, Feature.ask(connection, "SELECT to_regclass('pg_temp.scratch')"), "gone");
        });
        client.same(null, Feature.ask(connection, "SELECT to_regclass('pg_temp.scratch')"), "nobody's left");
    }

    private static void advisoryLocks(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        connection.setAutoCommit(false);
        long shared = 7_700_000 + Feature.PREFIX.hashCode();
        for (int round = 0; round < 5; round++) {
            Feature.ask(connection, "SELECT pg_advisory_xact_lock(?)", shared);
            client.same("t", Feature.ask(connection, "SELECT pg_try_advisory_xact_lock(?)", shared + 1 + client.number), "own");
            client.same("2", Feature.ask(connection,
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"), "held");
            connection.commit();
            client.same("0", Feature.ask(connection,
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"), "let go");
            connection.commit();
        }
    }

    private static void advisoryLocksKept(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        Connection other = client.connect();
        long lock = 8_800_000L + Feature.PREFIX.hashCode();
        client.inTurn(connection, () -> {
            client.same("t", Feature.ask(connection, "SELECT pg_try_advisory_lock(?)", lock), "locked");
            for (int i = 0; i < 4; i++) {
                client.same("f", Feature.ask(other, "SELECT pg_try_advisory_xact_lock(?)", lock), "refused to another");
                client.same("1", Feature.ask(connection,
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"), "held");
            }
            client.same("t", Feature.ask(connection, "SELECT pg_advisory_unlock(?)", lock), "unlocked");
            client.same("f", Feature.ask(connection, "SELECT pg_advisory_unlock(?)", lock), "unlocked only once");
        });
    }

    private static void holdCursor(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        client.inTurn(connection, () -> {
            connection.setAutoCommit(false);
            Feature.execute(connection, "DECLARE held CURSOR WITH HOLD FOR SELECT g * 10 + " + client.number
                + " FROM generate_series(1, 100) g");
            connection.commit();
            connection.setAutoCommit(true);
            for (int i = 0; i < 5; i++) {
                try (Statement statement = connection.createStatement();
                        ResultSet rows = statement.executeQuery("FETCH 20 FROM held")) {
                    List<String> values = Feature.column(rows);
                    client.same(20, values.size(), "fetched");
                    client.same(Integer.toString((i * 20 + 1) * 10 + client.number), values.get(0), "the first of them");
                }
            }
            Feature.execute(connection, "CLOSE held");
            client.fails("34000", () -> Feature.execute(connection, "FETCH 1 FROM held"));
        });
        connection.setAutoCommit(false);
        Feature.execute(connection, "DECLARE usual SCROLL CURSOR FOR SELECT generate_series(1, 30)");
        try (Statement statement = connection.createStatement()) {
            client.same(10, Feature.column(statement.executeQuery("FETCH 10 FROM usual")).size(), "in a transaction");
            client.same(List.of("30"), Feature.column(statement.executeQuery("FETCH LAST FROM usual")), "last");
        }
        connection.commit();
    }

    private static void sqlPrepare(Feature.Client client) throws Exception {
        Connection connection = client.connect();
        try (Statement statement = connection.createStatement()) {
            statement.execute("PREPARE plan (int) AS SELECT $1 * 100 + " + client.number);
            for (int i = 0; i < 6; i++) {
                client.same(List.of(Integer.toString(i * 100 + client.number)),
                    Feature.column(statement.executeQuery("EXECUTE plan(" + i + ")")), "executed");
            }
            client.fails("42P05", () -> statement.execute("PREPARE plan AS SELECT 1"));
            statement.execute("DEALLOCATE plan");
            client.fails("26000", () -> statement.execute("EXECUTE plan(1)"));
            statement.execute("PREPARE plan AS SELECT 'another'");
            client.same(List.of("another"), Feature.column(statement.executeQuery("EXECUTE plan")), "prepared anew");
            statement.execute("DEALLOCATE ALL");
            client.fails("26000", () -> statement.execute("EXECUTE plan"));
            client.same("3", Feature.ask(connection, "SELECT ?::int", 3), "a statement of the driver");
            // All of it in one transaction.
            connection.setAutoCommit(false);
            statement.execute("PREPARE inner_plan AS SELECT 5");
            client.same(List.of("5"), Feature.column(statement.executeQuery("EXECUTE inner_plan")), "in a transaction");
            statement.execute("DEALLOCATE inner_plan");
            connection.commit();
        }
    }

    private static void hikari(Feature.Client client) throws Exception {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(Feature.URL + "?sslmode=disable&prepareThreshold=3");
        config.setUsername(Feature.env("PGUSER", "postgres"));
        config.setPassword(Feature.env("PGPASSWORD", ""));
        config.setMaximumPoolSize(3);
        config.setConnectionTimeout(20_000);
        config.setAutoCommit(client.number % 2 == 0);
        config.setConnectionInitSql("SELECT 1");
        String table = client.table("hikari");
        try (HikariDataSource source = new HikariDataSource(config)) {
            try (Connection connection = source.getConnection()) {
                Feature.execute(connection, "CREATE TABLE " + table + " (id int PRIMARY KEY, n int)");
                Feature.execute(connection, "INSERT INTO " + table + " SELECT g, 0 FROM generate_series(1, 3) g");
                if (!connection.getAutoCommit()) {
                    connection.commit();
                }
            }
            ExecutorService workers = Executors.newFixedThreadPool(4);
            try {
                List<Future<Boolean>> done = new ArrayList<>();
                for (int i = 0; i < 40; i++) {
                    int id = i % 3 + 1;
                    done.add(workers.submit(() -> {
                        try (Connection connection = source.getConnection();
                                PreparedStatement add = connection.prepareStatement(
                                    "UPDATE " + table + " SET n = n + ? WHERE id = ?")) {
                            add.setInt(1, 1);
                            add.setInt(2, id);
                            boolean one = add.executeUpdate() == 1;
                            if (!connection.getAutoCommit()) {
                                connection.commit();
                            }
                            return one;
                        }
                    }));
                }
                for (Future<Boolean> one : done) {
                    client.check(one.get(), "updated by a worker");
                }
            } finally {
                workers.shutdown();
            }
            try (Connection connection = source.getConnection()) {
                client.same("40", Feature.ask(connection, "SELECT sum(n) FROM " + table), "the sum");
                Feature.execute(connection, "DROP TABLE " + table);
                if (!connection.getAutoCommit()) {
                    connection.commit();
                }
            }
        }
    }
}
