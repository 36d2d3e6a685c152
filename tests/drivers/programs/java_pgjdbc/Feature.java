import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.ReentrantLock;

/** One feature, run by CLIENTS threads at the same time, each with connections of its own. */
final class Feature {
    static final int CLIENTS = Integer.parseInt(env("CLIENTS", "8"));
    static final String PREFIX = env("PREFIX", "java_");
    static final String URL = "jdbc:postgresql://" + env("PGHOST", "127.0.0.1") + ":" + env("PGPORT", "5432") + "/"
        + env("PGDATABASE", "postgres");
    private static final long DEADLINE_MS = 30_000;

    interface Body {
        void run(Client client) throws Exception;
    }

    interface Step {
        void run() throws Exception;
    }

    private final AtomicInteger checks = new AtomicInteger();
    private final AtomicInteger hadTheirTurn = new AtomicInteger();
    private final ReentrantLock turn = new ReentrantLock();
    private volatile String failure;

    private Feature() {}

    static String env(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    /** Run it and print its line; passed over where FEATURE names another one. */
    static void run(String name, Body body) throws InterruptedException {
        if (!env("FEATURE", name).equals(name)) {
            return;
        }
        Feature feature = new Feature();
        List<Client> clients = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < CLIENTS; i++) {
            Client client = feature.new Client(i);
            clients.add(client);
            Thread thread = new Thread(() -> feature.work(client, body), name + "-" + i);
            thread.setDaemon(true);
            threads.add(thread);
            thread.start();
        }
        long end = System.currentTimeMillis() + DEADLINE_MS;
        for (Thread thread : threads) {
            thread.join(Math.max(1, end - System.currentTimeMillis()));
            if (thread.isAlive()) {
                feature.failed(thread.getName() + " did not end, it is at " + where(thread.getStackTrace()));
            }
        }
        for (Client client : clients) {
            client.abort();
        }
        if (feature.failure == null) {
            System.out.println("ok " + name + " " + feature.checks.get());
        } else {
            System.out.println("not ok " + name + " " + feature.failure.replaceAll("\\s+", " "));
        }
        System.out.flush();
    }

    private void work(Client client, Body body) {
        try {
            body.run(client);
            client.close();
        } catch (Throwable problem) {
            failed("client " + client.number + ": " + problem + " at " + where(problem.getStackTrace()));
        } finally {
            client.abort();
        }
    }

    private synchronized void failed(String why) {
        if (failure == null) {
            failure = why;
        }
    }

    private static String where(StackTraceElement[] stack) {
        for (StackTraceElement frame : stack) {
            if (frame.getClassName().startsWith("PgJdbc")) {
                return frame.getFileName() + ":" + frame.getLineNumber();
            }
        }
        return stack.length > 0 ? stack[0].toString() : "an unknown place";
    }

    final class Client {
        final int number;
        private final List<Connection> connections = new ArrayList<>();

        private Client(int number) {
            this.number = number;
        }

        /** A new connection; {@code properties} are names and values in turn. It is closed when the feature ends. */
        Connection connect(String... properties) throws SQLException {
            Properties all = new Properties();
            all.setProperty("user", env("PGUSER", "postgres"));
            all.setProperty("password", env("PGPASSWORD", ""));
            all.setProperty("sslmode", "disable");
            all.setProperty("socketTimeout", "25");
            for (int i = 0; i < properties.length; i += 2) {
                all.setProperty(properties[i], properties[i + 1]);
            }
            Connection connection = DriverManager.getConnection(URL, all);
            synchronized (connections) {
                connections.add(connection);
            }
            return connection;
        }

        /** The name of a table of this client's own. */
        String table(String what) {
            return PREFIX + what + "_" + number;
        }

        void check(boolean holds, String what) {
            if (!holds) {
                throw new AssertionError(what);
            }
            checks.incrementAndGet();
        }

        void same(Object expected, Object actual, String what) {
            check(Objects.equals(expected, actual), what + ": expected " + expected + ", got " + actual);
        }

        /** The step fails with this SQLSTATE. */
        SQLException fails(String state, Step step) throws Exception {
            try {
                step.run();
            } catch (SQLException problem) {
                same(state, problem.getSQLState(), "SQLSTATE of: " + problem.getMessage());
                return problem;
            }
            throw new AssertionError("no error, but " + state + " was expected");
        }

        /**
         * For what holds state on its server from one transaction to the next: one client at a time runs the step, the
         * others run plain queries meanwhile.
         */
        void inTurn(Connection connection, Step step) throws Exception {
            while (!turn.tryLock(3, TimeUnit.MILLISECONDS)) {
                plain(connection);
            }
            try {
                if (failure != null) {
                    throw new AssertionError("another client failed");
                }
                step.run();
            } finally {
                turn.unlock();
                hadTheirTurn.incrementAndGet();
            }
            while (hadTheirTurn.get() < CLIENTS && failure == null) {
                plain(connection);
                Thread.sleep(3);
            }
        }

        private void plain(Connection connection) throws SQLException {
            int wanted = (int) (System.nanoTime() % 1000);
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::int + ?::int")) {
                statement.setInt(1, wanted);
                statement.setInt(2, number);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    if (rows.getInt(1) != wanted + number) {
                        throw new AssertionError("a plain query answered " + rows.getInt(1));
                    }
                }
            }
        }

        private void close() throws SQLException {
            synchronized (connections) {
                for (Connection connection : connections) {
                    connection.close();
                }
            }
        }

        private void abort() {
            synchronized (connections) {
                for (Connection connection : connections) {
                    try {
                        connection.abort(Runnable::run);
                    } catch (SQLException ignored) {
                        // It is gone.
                    }
                }
            }
        }
    }

    // -- what every program about SQL needs

    static int execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
            return statement.getUpdateCount();
        }
    }

    /** The first column of the first row as text, or null where there is no row. */
    static String ask(Connection connection, String sql, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < parameters.length; i++) {
                statement.setObject(i + 1, parameters[i]);
            }
            try (ResultSet rows = statement.executeQuery()) {
                return rows.next() ? rows.getString(1) : null;
            }
        }
    }

    static List<String> column(ResultSet rows) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) {
            values.add(rows.getString(1));
        }
        return values;
    }
}
