//! Logs in once, by tokio-postgres over OpenSSL, as the environment says, and tells who it is then.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(login()) {
        Ok(user) => {
            println!("{user}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}: {}", error.source().map(|source| source.to_string()).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

async fn login() -> Result<String, Box<dyn Error>> {
    let mut config = Config::new();
    config
        .host(env::var("PGHOST")?)
        .port(env::var("PGPORT")?.parse()?)
        .user(env::var("PGUSER")?)
        .dbname(env::var("PGDATABASE")?)
        .ssl_mode(if env::var("PGSSLMODE")? == "disable" { SslMode::Disable } else { SslMode::Require })
        .channel_binding(match env::var("PGCHANNELBINDING").as_deref() {
            Ok("require") => ChannelBinding::Require,
            Ok("disable") => ChannelBinding::Disable,
            _ => ChannelBinding::Prefer,
        });
    if let Ok(password) = env::var("PGPASSWORD") {
        config.password(password);
    }
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    if let Ok(path) = env::var("PGSSLROOTCERT") {
        builder.set_ca_file(path)?;
    }
    if let Ok(path) = env::var("PGSSLCERT") {
        builder.set_certificate_file(path, SslFiletype::PEM)?;
        builder.set_private_key_file(env::var("PGSSLKEY")?, SslFiletype::PEM)?;
    }
    let (client, connection) = config.connect(MakeTlsConnector::new(builder.build())).await?;
    let connection = tokio::spawn(connection);
    let user = client.query_one("SELECT current_user::text", &[]).await?.get(0);
    drop(client);
    connection.await??;
    Ok(user)
}
