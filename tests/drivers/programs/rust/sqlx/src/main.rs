//! What applications do with sqlx, by queries that are not checked at compile time, done by many clients at once.

mod queries;
mod session;
mod transactions;

use proof::{Client, Failure, Proof};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Decode, Error, PgConnection, Postgres, Type};

fn main() {
    proof::run(
        async || {
            let mut mine = connection().await?;
            sqlx::raw_sql(AssertSqlSafe(proof::tidying())).execute(&mut mine).await?;
            Ok(mine.close().await?)
        },
        proof::features![
            queries::connect,
            queries::pool,
            queries::persistent,
            queries::not_persistent,
            queries::small_statement_cache,
            queries::explicit_statements,
            queries::changed_table,
            queries::raw_sql,
            queries::streams,
            queries::dropped_queries,
            queries::types,
            queries::arrays,
            queries::json,
            queries::large_values,
            queries::copy_in,
            queries::copy_in_errors,
            queries::copy_out,
            queries::errors,
            transactions::transactions,
            transactions::dropped_transactions,
            transactions::nested_transactions,
            transactions::isolation_levels,
            transactions::serialization_failure,
            transactions::cursors,
            transactions::migrations,
            session::listener,
            session::startup_parameters,
            session::after_connect,
            session::set,
            session::set_config,
            session::search_path,
            session::role,
            session::session_characteristics,
            session::temp_tables,
            session::temp_tables_of_a_transaction,
            session::advisory_lock,
            session::advisory_locks_of_a_transaction,
            session::with_hold_cursor,
            session::sql_prepare,
        ],
    );
}

/// A connection as PGHOST and the others say.
async fn connection() -> Proof<PgConnection> {
    Ok(PgConnection::connect_with(&PgConnectOptions::new()).await?)
}

/// A pool of a few connections.
async fn pool(size: u32) -> Proof<PgPool> {
    Ok(PgPoolOptions::new().max_connections(size).connect_with(PgConnectOptions::new()).await?)
}

/// Runs a statement without parameters and gives the number of rows.
async fn run(mine: &mut PgConnection, sql: impl Into<String>) -> Result<u64, Error> {
    Ok(sqlx::query(AssertSqlSafe(sql.into())).execute(mine).await?.rows_affected())
}

trait Value: for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin {}
impl<T: for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin> Value for T {}

/// The value of a query for a single one.
async fn one<T: Value>(mine: &mut PgConnection, sql: impl Into<String>) -> Proof<T> {
    Ok(sqlx::query_scalar(AssertSqlSafe(sql.into())).fetch_one(mine).await?)
}

/// The values of a query for one column.
async fn all<T: Value>(mine: &mut PgConnection, sql: impl Into<String>) -> Proof<Vec<T>> {
    Ok(sqlx::query_scalar(AssertSqlSafe(sql.into())).fetch_all(mine).await?)
}

/// The value of a parameter, asked for by a transaction of its own.
async fn setting(mine: &mut PgConnection, name: &str) -> Proof<String> {
    Ok(sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(mine).await?)
}

/// A query that needs nothing of its server.
async fn plain(c: &Client, mine: &mut PgConnection) -> Proof {
    let got: i32 = sqlx::query_scalar("SELECT $1 + 1").bind(c.number).fetch_one(mine).await?;
    if got != c.number + 1 {
        return Err(Failure::new(format!("got {got} instead of {}", c.number + 1)));
    }
    Ok(())
}

/// Checks the SQLSTATE of an error.
#[track_caller]
fn fails<T>(c: &Client, outcome: Result<T, Error>, code: &str) -> Proof {
    let Err(error) = outcome else {
        return Err(Failure::new(format!("no error instead of {code}")));
    };
    let Some(found) = error.as_database_error().map(|found| found.downcast_ref::<PgDatabaseError>()) else {
        return Err(Failure::new(format!("{error} instead of an error from the server")));
    };
    c.check(found.code() == code, format!("got {} ({}) instead of {code}", found.code(), found.message()))
}
