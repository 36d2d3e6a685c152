use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt};
use proof::{Client, Failure, Proof};
use serde_json::{Value, json};
use sqlx::postgres::types::{PgInterval, PgRange};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolCopyExt};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Column, Connection, Either, Executor, PgConnection, Row, SqlSafeStr, Statement, TypeInfo};

use crate::{all, connection, fails, one, plain, run};

pub async fn connect(c: &Client) -> Proof {
    for _ in 0..5 {
        let mut mine = connection().await?;
        mine.ping().await?;
        let got: i32 = sqlx::query_scalar("SELECT 40 + $1").bind(2).fetch_one(&mut mine).await?;
        c.equal(got, 42)?;
        mine.close().await?;
    }
    Ok(())
}

pub async fn pool(c: &Client) -> Proof {
    let few = crate::pool(3).await?;
    let answers: Vec<i32> = try_join_all((0..12).map(|n| sqlx::query_scalar("SELECT $1 * 2").bind(n).fetch_one(&few))).await?;
    c.equal(answers, (0..12).map(|n| 2 * n).collect::<Vec<_>>())?;
    c.check(few.size() <= 3, "there are too many connections")?;
    let table = c.name("pooled");
    sqlx::query(AssertSqlSafe(format!("CREATE TABLE {table} (a int)"))).execute(&few).await?;
    let mut transaction = few.begin().await?;
    c.equal(run(&mut transaction, format!("INSERT INTO {table} SELECT generate_series(1, 10)")).await?, 10)?;
    transaction.commit().await?;
    let sum: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT sum(a) FROM {table}"))).fetch_one(&few).await?;
    c.equal(sum, 55)?;
    let mut held = few.acquire().await?;
    c.equal(one::<i32>(&mut held, "SELECT 7").await?, 7)?;
    drop(held);
    sqlx::query(AssertSqlSafe(format!("DROP TABLE {table}"))).execute(&few).await?;
    few.close().await;
    Ok(())
}

async fn rows(c: &Client, persistent: bool) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("rows");
    run(&mut mine, format!("CREATE TABLE {table} (id int PRIMARY KEY, t text, b bytea, f float8, ok bool)")).await?;
    let insert = format!("INSERT INTO {table} VALUES ($1, $2, $3, $4, $5)");
    let select = format!("SELECT t, b, f, ok FROM {table} WHERE id = $1");
    for i in 0..20_i32 {
        let text = format!("it's \\ row {i} of client {} ÄÖ€", c.number);
        let bytes = vec![0, i as u8, 255];
        let done = sqlx::query(AssertSqlSafe(insert.as_str()))
            .bind(i)
            .bind(&text)
            .bind(&bytes)
            .bind(1.5)
            .bind(i % 2 == 0)
            .persistent(persistent)
            .execute(&mut mine)
            .await?;
        c.equal(done.rows_affected(), 1)?;
        let got: (String, Vec<u8>, f64, bool) =
            sqlx::query_as(AssertSqlSafe(select.as_str())).bind(i).persistent(persistent).fetch_one(&mut mine).await?;
        c.equal(got, (text, bytes, 1.5, i % 2 == 0))?;
    }
    let update = format!("UPDATE {table} SET t = $1 WHERE id < $2");
    let done = sqlx::query(AssertSqlSafe(update)).bind(None::<&str>).bind(5).persistent(persistent).execute(&mut mine).await?;
    c.equal(done.rows_affected(), 5)?;
    let twice = sqlx::query(AssertSqlSafe(format!("INSERT INTO {table} (id) VALUES ($1)"))).bind(1).persistent(persistent);
    fails(c, twice.execute(&mut mine).await, "23505")?;
    let divide = sqlx::query("SELECT 1 / $1::int").bind(0).persistent(persistent);
    fails(c, divide.fetch_one(&mut mine).await, "22012")?;
    let missing = format!("SELECT id FROM {table} WHERE id = 99");
    let missing: Option<i32> =
        sqlx::query_scalar(AssertSqlSafe(missing)).persistent(persistent).fetch_optional(&mut mine).await?;
    c.equal(missing, None::<i32>)?;
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}

/// The driver keeps every statement prepared.
pub async fn persistent(c: &Client) -> Proof {
    rows(c, true).await
}

/// Statements without a name.
pub async fn not_persistent(c: &Client) -> Proof {
    rows(c, false).await
}

/// Makes the driver close statements all the time.
pub async fn small_statement_cache(c: &Client) -> Proof {
    let mut mine = PgConnection::connect_with(&PgConnectOptions::new().statement_cache_capacity(3)).await?;
    for round in 0..3 {
        for i in 0..12 {
            let query = sqlx::query_scalar::<_, i32>(AssertSqlSafe(format!("SELECT $1 + {i}"))).bind(round);
            c.equal(query.fetch_one(&mut mine).await?, round + i)?;
        }
    }
    c.check(mine.cached_statements_size() <= 3, "the cache is too large")?;
    mine.clear_cached_statements().await?;
    c.equal(mine.cached_statements_size(), 0)?;
    plain(c, &mut mine).await
}

/// Every client has other statements, which the driver numbers alike.
pub async fn explicit_statements(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let mut statements = Vec::new();
    for i in 0..6 {
        let text = AssertSqlSafe(format!("SELECT $1::int + {} AS sum", 1000 * c.number + i)).into_sql_str();
        let statement = mine.prepare(text).await?;
        c.equal(statement.columns()[0].name(), "sum")?;
        c.equal(statement.columns()[0].type_info().name(), "INT4")?;
        statements.push(statement);
    }
    for n in 0..10 {
        for (i, statement) in (0..).zip(&statements) {
            let row = statement.query().bind(n).fetch_one(&mut mine).await?;
            c.equal(row.try_get::<i32, _>("sum")?, 1000 * c.number + i + n)?;
        }
    }
    fails(c, mine.prepare(AssertSqlSafe("SELECT nothing FROM nowhere_at_all").into_sql_str()).await, "42P01")
}

/// Alters a table under a statement that was prepared for it.
pub async fn changed_table(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("changed");
    run(&mut mine, format!("CREATE TABLE {table} (a int)")).await?;
    run(&mut mine, format!("INSERT INTO {table} VALUES (1)")).await?;
    let select = format!("SELECT * FROM {table}");
    for _ in 0..5 {
        c.equal(one::<i32>(&mut mine, &select).await?, 1)?;
    }
    run(&mut mine, format!("ALTER TABLE {table} ADD b text DEFAULT 'new'")).await?;
    fails(c, sqlx::query(AssertSqlSafe(select.as_str())).fetch_one(&mut mine).await, "0A000")?;
    mine.clear_cached_statements().await?;
    let row = sqlx::query(AssertSqlSafe(select.as_str())).fetch_one(&mut mine).await?;
    c.equal((row.try_get(0)?, row.try_get("b")?), (1, "new"))?;
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}

/// Several statements in one message of the simple protocol.
pub async fn raw_sql(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("several");
    for round in 0..5_i32 {
        let text = format!("SELECT {round}; SELECT 7 WHERE false; SELECT generate_series(1, 3)");
        let (mut values, mut ends) = (Vec::new(), 0);
        {
            let mut parts = sqlx::raw_sql(AssertSqlSafe(text)).fetch_many(&mut mine);
            while let Some(part) = parts.try_next().await? {
                match part {
                    Either::Left(_) => ends += 1,
                    Either::Right(row) => values.push(row.try_get::<i32, _>(0)?),
                }
            }
        }
        c.equal(values, [round, 1, 2, 3])?;
        c.equal(ends, 3)?;
        let text = format!("CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1); SELECT 1 / 0");
        fails(c, sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut mine).await, "22012")?;
        // All of them were one transaction.
        c.check(one(&mut mine, format!("SELECT to_regclass('{table}') IS NULL")).await?, "the table stayed")?;
        sqlx::raw_sql("BEGIN; SELECT 1; COMMIT; SELECT 2").execute(&mut mine).await?;
        plain(c, &mut mine).await?;
    }
    Ok(())
}

pub async fn streams(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for _ in 0..3 {
        let (mut seen, mut sum, mut last) = (0, 0_i64, String::new());
        {
            let query = sqlx::query("SELECT n, 'row ' || n FROM generate_series(1, $1) n").bind(10_000);
            let mut rows = query.fetch(&mut mine);
            while let Some(row) = rows.try_next().await? {
                seen += 1;
                sum += i64::from(row.try_get::<i32, _>(0)?);
                last = row.try_get(1)?;
            }
        }
        c.equal((seen, sum, last.as_str()), (10_000, 50_005_000, "row 10000"))?;
        // Dropped before its end.
        let first = sqlx::query("SELECT generate_series(1, 5000)").fetch(&mut mine).try_next().await?;
        c.check(first.is_some(), "there is no row")?;
        c.equal(one::<i32>(&mut mine, "SELECT 5").await?, 5)?;
        let broken = sqlx::query("SELECT 1 / (500 - n) FROM generate_series(1, 1000) n");
        fails(c, broken.fetch_all(&mut mine).await, "22012")?;
    }
    Ok(())
}

/// Queries that nobody waits for any longer: what they answer must not reach the next one.
pub async fn dropped_queries(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for n in 0..3 {
        let slow = sqlx::query("SELECT pg_sleep(0.5), repeat('x', 200000)").fetch_all(&mut mine);
        c.check(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err(), "the query was not slow")?;
        c.equal(one::<i32>(&mut mine, format!("SELECT {n}")).await?, n)?;
    }
    plain(c, &mut mine).await
}

pub async fn types(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for _ in 0..5 {
        let row = sqlx::query("SELECT $1, $2, $3, $4, $5, $6, $7, $8")
            .bind(i64::MAX)
            .bind(-7_i16)
            .bind(0.25_f32)
            .bind(f64::NAN)
            .bind("naïve ☃ 'quoted' \\")
            .bind(vec![0_u8, 255])
            .bind(PgInterval { months: 1, days: 2, microseconds: 3 })
            .bind(PgRange::from(1..5))
            .fetch_one(&mut mine)
            .await?;
        c.equal(row.try_get::<i64, _>(0)?, i64::MAX)?;
        c.equal(row.try_get::<i16, _>(1)?, -7)?;
        c.equal(row.try_get::<f32, _>(2)?, 0.25)?;
        c.check(row.try_get::<f64, _>(3)?.is_nan(), "NaN came back as something else")?;
        c.equal(row.try_get::<&str, _>(4)?, "naïve ☃ 'quoted' \\")?;
        c.equal(row.try_get::<&[u8], _>(5)?, [0, 255])?;
        c.equal(row.try_get::<PgInterval, _>(6)?, PgInterval { months: 1, days: 2, microseconds: 3 })?;
        c.equal(row.try_get::<PgRange<i32>, _>(7)?, PgRange::from(1..5))?;
        c.equal(one::<Option<String>>(&mut mine, "SELECT NULL::text").await?, None::<String>)?;
    }
    Ok(())
}

pub async fn arrays(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for _ in 0..5 {
        let numbers = vec![1, -2, 3, c.number];
        let got: Vec<i32> = sqlx::query_scalar("SELECT $1::int[]").bind(&numbers).fetch_one(&mut mine).await?;
        c.equal(got, numbers)?;
        let words: Vec<String> = ["a,b", "\"quoted\"", "{brace}", "", "NULL", "back\\slash"].map(str::to_owned).into();
        let got: Vec<String> = sqlx::query_scalar("SELECT $1::text[]").bind(&words).fetch_one(&mut mine).await?;
        c.equal(got, words)?;
        let holes = vec![Some(1), None];
        let got: Vec<Option<i32>> = sqlx::query_scalar("SELECT $1::int[]").bind(&holes).fetch_one(&mut mine).await?;
        c.equal(got, holes)?;
        let count =
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM generate_series(1, 9) n WHERE n = ANY($1)").bind(vec![2, 4, 11]);
        c.equal(count.fetch_one(&mut mine).await?, 2)?;
    }
    Ok(())
}

pub async fn json(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("documents");
    run(&mut mine, format!("CREATE TABLE {table} (id int, d jsonb)")).await?;
    let insert = format!("INSERT INTO {table} VALUES ($1, $2)");
    for i in 0..10 {
        let document = json!({"name": format!("document {i}"), "tags": ["a", "b'c"], "client": c.number});
        sqlx::query(AssertSqlSafe(insert.as_str())).bind(i).bind(Json(&document)).execute(&mut mine).await?;
        let Json(got): Json<Value> = one(&mut mine, format!("SELECT d FROM {table} WHERE id = {i}")).await?;
        c.equal(got, document)?;
    }
    let count = format!("SELECT count(*) FROM {table} WHERE d @> $1");
    let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(count)).bind(json!({"tags": ["a"]}));
    c.equal(count.fetch_one(&mut mine).await?, 10)?;
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}

pub async fn large_values(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let blob = [0, 1, 2, c.number as u8, 254, 255].repeat(300_000);
    let text = format!("long text of client {} · ", c.number).repeat(40_000);
    for _ in 0..2 {
        let got: Vec<u8> = sqlx::query_scalar("SELECT $1::bytea").bind(&blob).fetch_one(&mut mine).await?;
        c.check(got == blob, "got other bytes")?;
        let got: String = sqlx::query_scalar("SELECT $1::text").bind(&text).fetch_one(&mut mine).await?;
        c.check(got == text, "got another text")?;
        c.equal(one::<String>(&mut mine, "SELECT repeat('x', 3000000)").await?.len(), 3_000_000)?;
        let row = sqlx::raw_sql(AssertSqlSafe(format!("SELECT length('{text}')"))).fetch_one(&mut mine).await?;
        c.equal(row.try_get::<i32, _>(0)?, text.chars().count() as i32)?;
    }
    Ok(())
}

pub async fn copy_in(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("copied");
    run(&mut mine, format!("CREATE TABLE {table} (id int PRIMARY KEY, t text)")).await?;
    let statement = format!("COPY {table} FROM STDIN (FORMAT csv)");
    let mut copy = mine.copy_in_raw(&statement).await?;
    c.check(copy.is_textual(), "it is not text")?;
    for part in 0..20 {
        let lines: String = (0..500).map(|i| format!("{},\"text, {i}\"\n", 500 * part + i)).collect();
        copy.send(lines.as_bytes()).await?;
    }
    c.equal(copy.finish().await?, 10_000)?;
    c.equal(one::<i64>(&mut mine, format!("SELECT sum(id) FROM {table}")).await?, 49_995_000)?;
    let mut transaction = mine.begin().await?;
    let mut copy = transaction.copy_in_raw(&statement).await?;
    copy.send("20000,undone\n".as_bytes()).await?;
    c.equal(copy.finish().await?, 1)?;
    transaction.rollback().await?;
    c.equal(one::<i64>(&mut mine, format!("SELECT count(*) FROM {table}")).await?, 10_000)?;
    // A connection of a pool is held until the end of the copy.
    let few = crate::pool(2).await?;
    let mut copy = few.copy_in_raw(&statement).await?;
    copy.send("30000,pooled\n".as_bytes()).await?;
    c.equal(copy.finish().await?, 1)?;
    few.close().await;
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}

pub async fn copy_in_errors(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("wrong");
    run(&mut mine, format!("CREATE TABLE {table} (id int PRIMARY KEY)")).await?;
    run(&mut mine, format!("INSERT INTO {table} VALUES (1)")).await?;
    let statement = format!("COPY {table} FROM STDIN");
    for _ in 0..3 {
        for (lines, code) in [("7\n1\n", "23505"), ("no number\n", "22P02")] {
            let mut copy = mine.copy_in_raw(&statement).await?;
            copy.send(lines.as_bytes()).await?;
            fails(c, copy.finish().await, code)?;
        }
        fails(c, mine.copy_in_raw("COPY nowhere_at_all FROM STDIN").await.map(drop), "42P01")?;
        let mut copy = mine.copy_in_raw(&statement).await?;
        copy.send("8\n".as_bytes()).await?;
        copy.abort("thought better of it").await?;
        c.equal(one::<i64>(&mut mine, format!("SELECT count(*) FROM {table}")).await?, 1)?;
    }
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}

pub async fn copy_out(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for _ in 0..3 {
        let text = "COPY (SELECT n, 'text, ' || n FROM generate_series(1, 10000) n) TO STDOUT (FORMAT csv)";
        let parts: Vec<_> = mine.copy_out_raw(text).await?.try_collect().await?;
        let text = String::from_utf8(parts.concat())?;
        c.equal(text.lines().count(), 10_000)?;
        c.equal(text.lines().last(), Some("10000,\"text, 10000\""))?;
        let broken = mine.copy_out_raw("COPY (SELECT 1 / (n - 500) FROM generate_series(1, 1000) n) TO STDOUT").await?;
        fails(c, broken.try_collect::<Vec<_>>().await, "22012")?;
        // The driver cannot use a connection any longer whose copy was not read to its end.
        let mut other = connection().await?;
        let some = other.copy_out_raw("COPY (SELECT generate_series(1, 3000)) TO STDOUT").await?.next().await;
        c.check(some.is_some(), "nothing was copied")?;
        drop(other);
        plain(c, &mut mine).await?;
    }
    Ok(())
}

pub async fn errors(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = c.name("strict");
    let create = format!("CREATE TABLE {table} (id int CONSTRAINT {table}_id PRIMARY KEY, n int NOT NULL CHECK (n > 0))");
    run(&mut mine, create).await?;
    run(&mut mine, format!("INSERT INTO {table} VALUES (1, 1)")).await?;
    for _ in 0..5 {
        let Err(error) = run(&mut mine, format!("INSERT INTO {table} VALUES (1, 1)")).await else {
            return Err(Failure::new("there is no error"));
        };
        let found = error.as_database_error().ok_or_else(|| Failure::new("it is not the server's"))?;
        c.check(found.is_unique_violation(), "it is another error")?;
        c.equal(found.constraint(), Some(format!("{table}_id").as_str()))?;
        let found = found.downcast_ref::<PgDatabaseError>();
        c.equal(found.detail(), Some("Key (id)=(1) already exists."))?;
        fails(c, run(&mut mine, format!("INSERT INTO {table} VALUES (2, NULL)")).await, "23502")?;
        fails(c, run(&mut mine, format!("INSERT INTO {table} VALUES (2, -1)")).await, "23514")?;
        fails(c, run(&mut mine, format!("SELECT wrong FROM {table}")).await, "42703")?;
        fails(c, run(&mut mine, "SELEC 1").await, "42601")?;
        let raise = "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ZZ123', DETAIL = 'more', HINT = 'help'; END $$";
        fails(c, run(&mut mine, raise).await, "ZZ123")?;
        c.equal(all::<i32>(&mut mine, format!("SELECT id FROM {table}")).await?, [1])?;
    }
    run(&mut mine, format!("DROP TABLE {table}")).await?;
    Ok(())
}
