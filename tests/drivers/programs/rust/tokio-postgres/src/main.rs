//! What applications do with tokio-postgres, done by many clients at once.

mod queries;
mod session;
mod transactions;

use std::env;
use std::ops::{Deref, DerefMut};

use futures_util::StreamExt;
use proof::{Client, Failure, Proof};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::error::DbError;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{AsyncMessage, Config, Error, GenericClient, NoTls};

fn main() {
    proof::run(
        async || {
            let mine = Session::open(Session::config()).await?;
            Ok(mine.batch_execute(&proof::tidying()).await?)
        },
        proof::features![
            queries::connect,
            queries::simple_query,
            queries::prepare,
            queries::query_typed,
            queries::pipelined,
            queries::pipelined_errors,
            queries::dropped_queries,
            queries::changed_table,
            queries::types,
            queries::arrays,
            queries::json,
            queries::own_types,
            queries::large_values,
            queries::query_raw,
            queries::copy_in,
            queries::copy_in_errors,
            queries::copy_out,
            queries::copy_binary,
            queries::errors,
            queries::notices,
            transactions::transactions,
            transactions::dropped_transactions,
            transactions::savepoints,
            transactions::isolation_levels,
            transactions::serialization_failure,
            transactions::portals,
            transactions::cursors,
            transactions::cancel_token,
            transactions::cancel_in_a_crowd,
            session::notifications,
            session::startup_parameters,
            session::set,
            session::set_config,
            session::search_path,
            session::role,
            session::session_characteristics,
            session::temp_tables,
            session::temp_tables_of_a_transaction,
            session::advisory_locks,
            session::advisory_locks_of_a_transaction,
            session::with_hold_cursor,
            session::sql_prepare,
        ],
    );
}

/// A connection, and what the server says without being asked.
pub struct Session {
    client: tokio_postgres::Client,
    heard: UnboundedReceiver<AsyncMessage>,
}

impl Deref for Session {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}

impl Session {
    /// What PGHOST and the others say.
    pub fn config() -> Config {
        let read = |name| env::var(name).unwrap_or_else(|_| panic!("{name} is set"));
        let mut config = Config::new();
        config
            .host(read("PGHOST"))
            .port(read("PGPORT").parse().expect("PGPORT is a number"))
            .user(read("PGUSER"))
            .password(read("PGPASSWORD"))
            .dbname(read("PGDATABASE"));
        config
    }

    pub async fn open(config: Config) -> Proof<Session> {
        let (client, mut connection) = config.connect(NoTls).await?;
        let (tell, heard) = unbounded_channel();
        tokio::spawn(async move {
            let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
            while let Some(Ok(message)) = messages.next().await {
                let _ = tell.send(message);
            }
        });
        Ok(Session { client, heard })
    }

    pub async fn new() -> Proof<Session> {
        Session::open(Session::config()).await
    }

    /// The next message that was not asked for.
    pub async fn hear(&mut self) -> Proof<AsyncMessage> {
        self.heard.recv().await.ok_or_else(|| Failure::new("the connection ended"))
    }

    /// The value of a parameter, asked for by a transaction of its own.
    pub async fn setting(&self, name: &str) -> Proof<String> {
        one(&self.client, "SELECT current_setting($1)", &[&name]).await
    }

    /// A query that needs nothing of its server.
    pub async fn plain(&self, c: &Client) -> Proof {
        let got: i32 = one(&self.client, "SELECT $1::int + 1", &[&c.number]).await?;
        if got != c.number + 1 {
            return Err(Failure::new(format!("got {got} instead of {}", c.number + 1)));
        }
        Ok(())
    }
}

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The value of a query for a single one.
pub async fn one<T: FromSqlOwned>(on: &impl GenericClient, sql: &str, values: Values<'_>) -> Proof<T> {
    Ok(on.query_one(sql, values).await?.try_get(0)?)
}

/// The values of a query for one column.
pub async fn all<T: FromSqlOwned>(on: &impl GenericClient, sql: &str, values: Values<'_>) -> Proof<Vec<T>> {
    let mut found = Vec::new();
    for row in on.query(sql, values).await? {
        found.push(row.try_get(0)?);
    }
    Ok(found)
}

/// Checks the SQLSTATE of an error and gives it.
#[track_caller]
pub fn fails<T>(c: &Client, outcome: Result<T, Error>, code: &str) -> Proof<DbError> {
    let Err(error) = outcome else {
        return Err(Failure::new(format!("no error instead of {code}")));
    };
    let Some(found) = error.as_db_error() else {
        return Err(Failure::new(format!("{error} instead of an error from the server")));
    };
    let got = found.code().code();
    c.check(got == code, format!("got {got} ({}) instead of {code}", found.message()))?;
    Ok(found.clone())
}
