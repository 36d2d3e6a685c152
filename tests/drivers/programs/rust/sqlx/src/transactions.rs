use proof::{Client, Proof, turn};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};

use crate::{all, connection, fails, one, plain, run, setting};

pub async fn transactions(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("accounts");
    run(&mut mine, format!("CREATE TABLE {table} (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, balance int)")).await?;
    run(&mut mine, format!("INSERT INTO {table} VALUES (1, 100), (2, 100)")).await?;
    let count = format!("SELECT count(*) FROM {table}");
    let change = format!("UPDATE {table} SET balance = balance + $1 WHERE id = $2");
    for _ in 0..10 {
        let mut transaction = mine.begin().await?;
        let pid: i32 = one(&mut transaction, "SELECT pg_backend_pid()").await?;
        for (amount, id) in [(-5, 1), (5, 2)] {
            let update = sqlx::query(AssertSqlSafe(change.as_str())).bind(amount).bind(id);
            c.equal(update.execute(&mut *transaction).await?.rows_affected(), 1)?;
        }
        c.equal(one::<i32>(&mut transaction, "SELECT pg_backend_pid()").await?, pid)?;
        transaction.commit().await?;
    }
    c.equal(all::<i32>(&mut mine, format!("SELECT balance FROM {table} ORDER BY id")).await?, [50, 150])?;
    let mut transaction = mine.begin().await?;
    c.equal(run(&mut transaction, format!("DELETE FROM {table}")).await?, 2)?;
    transaction.rollback().await?;
    c.equal(one::<i64>(&mut mine, &count).await?, 2)?;

    let mut transaction = mine.begin().await?;
    fails(c, run(&mut transaction, "SELECT 1 / 0").await, "22012")?;
    fails(c, run(&mut transaction, "SELECT 1").await, "25P02")?;
    transaction.rollback().await?;
    // A constraint that is looked at when the transaction is committed.
    let mut transaction = mine.begin().await?;
    run(&mut transaction, format!("INSERT INTO {table} VALUES (1, 0)")).await?;
    fails(c, transaction.commit().await, "23505")?;
    c.equal(one::<i64>(&mut mine, &count).await?, 2)?;
    c.equal(
        mine.transaction(|transaction| Box::pin(sqlx::query_scalar::<_, i32>("SELECT 6").fetch_one(&mut **transaction))).await?,
        6,
    )?;
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}

/// The driver rolls back what is dropped, before the next statement.
pub async fn dropped_transactions(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("dropped");
    run(&mut mine, format!("CREATE TABLE {table} (a int)")).await?;
    for i in 0..10 {
        {
            let mut transaction = mine.begin().await?;
            run(&mut transaction, format!("INSERT INTO {table} VALUES ({i})")).await?;
        }
        c.equal(one::<i64>(&mut mine, format!("SELECT count(*) FROM {table}")).await?, 0)?;
    }
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}

pub async fn nested_transactions(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("nested");
    run(&mut mine, format!("CREATE TABLE {table} (a int PRIMARY KEY)")).await?;
    let insert = |a: i32| format!("INSERT INTO {table} VALUES ({a})");
    for _ in 0..5 {
        let mut outer = mine.begin().await?;
        run(&mut outer, insert(1)).await?;
        let mut inner = outer.begin().await?;
        run(&mut inner, insert(2)).await?;
        let mut innermost = inner.begin().await?;
        fails(c, run(&mut innermost, insert(1)).await, "23505")?;
        innermost.rollback().await?;
        run(&mut inner, insert(3)).await?;
        inner.commit().await?;
        {
            let mut dropped = outer.begin().await?;
            run(&mut dropped, insert(4)).await?;
        }
        c.equal(all::<i32>(&mut outer, format!("SELECT a FROM {table} ORDER BY a")).await?, [1, 2, 3])?;
        outer.commit().await?;
        c.equal(run(&mut mine, format!("DELETE FROM {table}")).await?, 3)?;
    }
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}

pub async fn isolation_levels(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for level in ["serializable", "repeatable read", "read committed", "read uncommitted"] {
        for (access, read_only) in [("READ WRITE", "off"), ("READ ONLY", "on")] {
            let begin = format!("BEGIN ISOLATION LEVEL {level} {access} DEFERRABLE");
            let mut transaction = mine.begin_with(AssertSqlSafe(begin)).await?;
            c.equal(one::<String>(&mut transaction, "SHOW transaction_isolation").await?, level)?;
            c.equal(one::<String>(&mut transaction, "SHOW transaction_read_only").await?, read_only)?;
            c.equal(one::<String>(&mut transaction, "SHOW transaction_deferrable").await?, "on")?;
            let created = run(&mut transaction, format!("CREATE TABLE {} (a int)", c.name("level"))).await;
            if read_only == "on" {
                fails(c, created, "25006")?;
            } else {
                created?;
            }
            transaction.rollback().await?;
            c.equal(setting(&mut mine, "transaction_isolation").await?, "read committed")?;
            c.equal(setting(&mut mine, "transaction_read_only").await?, "off")?;
        }
    }
    Ok(())
}

/// Needs two connections at once, so only one client does it at a time.
pub async fn serialization_failure(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let turn = turn!(c, plain(c, &mut mine));
    let mut other = connection().await?;
    let table = c.name("serial");
    run(&mut mine, format!("CREATE TABLE {table} (a int)")).await?;
    run(&mut mine, format!("INSERT INTO {table} VALUES (1)")).await?;
    let select = format!("SELECT a FROM {table}");
    let mut first = mine.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let mut second = other.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    c.equal(one::<i32>(&mut first, &select).await?, 1)?;
    c.equal(one::<i32>(&mut second, &select).await?, 1)?;
    run(&mut second, format!("UPDATE {table} SET a = 2")).await?;
    second.commit().await?;
    c.equal(one::<i32>(&mut first, &select).await?, 1)?;
    fails(c, run(&mut first, format!("UPDATE {table} SET a = 3")).await, "40001")?;
    first.rollback().await?;
    c.equal(one::<i32>(&mut mine, &select).await?, 2)?;
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    other.close().await?;
    drop(turn);
    Ok(())
}

pub async fn cursors(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for _ in 0..3 {
        let mut transaction = mine.begin().await?;
        run(&mut transaction, "DECLARE walk SCROLL CURSOR FOR SELECT generate_series(1, 100)").await?;
        c.equal(all::<i32>(&mut transaction, "FETCH 3 FROM walk").await?, [1, 2, 3])?;
        run(&mut transaction, "MOVE FORWARD 50 FROM walk").await?;
        c.equal(all::<i32>(&mut transaction, "FETCH 2 FROM walk").await?, [54, 55])?;
        c.equal(all::<i32>(&mut transaction, "FETCH ALL FROM walk").await?.len(), 45)?;
        transaction.commit().await?;
        fails(c, run(&mut mine, "FETCH 1 FROM walk").await, "34000")?;
    }
    Ok(())
}

/// The migrator holds an advisory lock of the session, so only one client does it at a time.
pub async fn migrations(c: &Client) -> Proof {
    let schema = c.name("migrated");
    let options = PgConnectOptions::new().options([("search_path", schema.as_str())]);
    let mut mine = PgConnection::connect_with(&options).await?;
    run(&mut mine, format!("CREATE SCHEMA {schema}")).await?;
    let step = |version, kind, sql: String, alone| {
        Migration::new(version, format!("step {version}").into(), kind, AssertSqlSafe(sql).into_sql_str(), alone)
    };
    let make = |more: bool| {
        let mut steps = vec![
            step(1, MigrationType::Simple, "CREATE TABLE one (a int); INSERT INTO one VALUES (1)".into(), false),
            step(2, MigrationType::ReversibleUp, "ALTER TABLE one ADD b int DEFAULT 2".into(), false),
            step(2, MigrationType::ReversibleDown, "ALTER TABLE one DROP b".into(), false),
        ];
        if more {
            steps.push(step(3, MigrationType::Simple, "CREATE INDEX CONCURRENTLY one_a ON one (a)".into(), true));
            steps.push(step(4, MigrationType::Simple, "INSERT INTO one VALUES (5, 6); SELECT 1 / 0".into(), false));
        }
        Migrator::with_migrations(steps)
    };
    let turn = turn!(c, plain(c, &mut mine));
    let few = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
    make(false).run(&few).await?;
    c.equal(one::<i32>(&mut mine, "SELECT a + b FROM one").await?, 3)?;
    make(false).run(&few).await?;
    c.equal(all::<i64>(&mut mine, "SELECT version FROM _sqlx_migrations ORDER BY 1").await?, [1, 2])?;
    make(false).undo(&few, 1).await?;
    c.equal(all::<i64>(&mut mine, "SELECT version FROM _sqlx_migrations").await?, [1])?;
    c.check(make(true).run(&few).await.is_err(), "a broken migration was applied")?;
    c.equal(all::<i64>(&mut mine, "SELECT version FROM _sqlx_migrations ORDER BY 1").await?, [1, 2, 3])?;
    c.equal(one::<i64>(&mut mine, "SELECT count(*) FROM one").await?, 1)?;
    // The lock stays with the session of the migration that broke.
    few.close().await;
    drop(turn);
    run(&mut mine, format!("DROP SCHEMA {schema} CASCADE")).await?;
    Ok(())
}
