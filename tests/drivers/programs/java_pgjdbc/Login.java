import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Map;
import java.util.Properties;

/** Logs in once, by pgjdbc, as the environment says, and tells who it is then. */
public final class Login {
    private static final Map<String, String> PROPERTIES = Map.of(
        "user", "PGUSER",
        "password", "PGPASSWORD",
        "sslmode", "PGSSLMODE",
        "sslrootcert", "PGSSLROOTCERT",
        "sslcert", "PGSSLCERT",
        "sslkey", "PGSSLKEY_PKCS8_DER",
        "channelBinding", "PGCHANNELBINDING");

    public static void main(String[] arguments) {
        Map<String, String> environment = System.getenv();
        Properties properties = new Properties();
        PROPERTIES.forEach((property, variable) -> {
            if (environment.containsKey(variable)) {
                properties.setProperty(property, environment.get(variable));
            }
        });
        String url = String.format(
            "jdbc:postgresql://%s:%s/%s", environment.get("PGHOST"), environment.get("PGPORT"), environment.get("PGDATABASE"));
        try (var connection = DriverManager.getConnection(url, properties);
                var statement = connection.createStatement();
                var rows = statement.executeQuery("SELECT current_user")) {
            rows.next();
            System.out.println(rows.getString(1));
        } catch (SQLException exception) {
            System.err.println(exception);
            System.exit(1);
        }
    }
}
