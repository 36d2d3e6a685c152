use std::error::Error as AnyError;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use proof::{Client, Failure, Proof};
use serde_json::{Value, json};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, SimpleQueryMessage};

use crate::{Session, all, fails, one};

pub async fn connect(c: &Client) -> Proof {
    for _ in 0..5 {
        let mine = Session::new().await?;
        c.equal(one::<i32>(&*mine, "SELECT 40 + $1::int", &[&2]).await?, 42)?;
        mine.check_connection().await?;
        c.check(!mine.is_closed(), "the connection is closed")?;
    }
    Ok(())
}

pub async fn simple_query(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let table = c.name("simple");
    for round in 0..5 {
        let text = format!("SELECT {round} AS a, NULL AS b; SELECT 'two'; SELECT generate_series(1, 3)");
        let mut values = Vec::new();
        let mut counts = Vec::new();
        for message in mine.simple_query(&text).await? {
            match message {
                SimpleQueryMessage::Row(row) => values.push(row.get(0).map(str::to_owned)),
                SimpleQueryMessage::CommandComplete(count) => counts.push(count),
                _ => {}
            }
        }
        let want = [round.to_string().as_str(), "two", "1", "2", "3"].map(|text| Some(text.to_owned()));
        c.equal(values, want)?;
        c.equal(counts, [1, 1, 3])?;
        let text = format!("CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1); SELECT 1 / 0");
        fails(c, mine.simple_query(&text).await, "22012")?;
        // All of them were one transaction.
        c.check(one(&*mine, "SELECT to_regclass($1) IS NULL", &[&table]).await?, "the table stayed")?;
        mine.batch_execute("BEGIN; SELECT 1; COMMIT; SELECT 2").await?;
        c.equal(mine.simple_query("").await?.len(), 1)?;
    }
    Ok(())
}

/// Statements live as long as the program holds them; all clients give them the same names.
pub async fn prepare(c: &Client) -> Proof {
    let mine = Session::new().await?;
    for round in 0..5 {
        let mut statements = Vec::new();
        for i in 0..6 {
            let statement = mine.prepare(&format!("SELECT $1::int + {}", 1000 * c.number + i)).await?;
            c.equal(statement.params(), [Type::INT4])?;
            c.equal(statement.columns()[0].type_(), &Type::INT4)?;
            statements.push(statement);
        }
        for n in 0..10 {
            for (i, statement) in (0..).zip(&statements) {
                let got: i32 = mine.query_one(statement, &[&n]).await?.get(0);
                c.equal(got, 1000 * c.number + i + n)?;
            }
        }
        statements.truncate(2);
        let typed = mine.prepare_typed("SELECT $1, $2", &[Type::TEXT, Type::INT8]).await?;
        let row = mine.query_one(&typed, &[&"text", &7_i64]).await?;
        c.equal((row.get(0), row.get(1)), ("text", 7_i64))?;
        fails(c, mine.prepare("SELECT nothing FROM nowhere_at_all").await, "42P01")?;
        let wrong = mine.prepare("SELECT 1 / $1::int").await?;
        fails(c, mine.query(&wrong, &[&0]).await, "22012")?;
        c.equal(mine.query_opt(&statements[1], &[&round]).await?.map(|row| row.get(0)), Some(1000 * c.number + 1 + round))?;
        c.equal(mine.execute("SELECT generate_series(1, $1)", &[&4]).await?, 4)?;
    }
    Ok(())
}

/// Statements without a name.
pub async fn query_typed(c: &Client) -> Proof {
    let mine = Session::new().await?;
    for n in 0..20 {
        let rows = mine.query_typed("SELECT $1 + 1, $2", &[(&n, Type::INT4), (&"text", Type::TEXT)]).await?;
        c.equal((rows[0].get(0), rows[0].get(1)), (n + 1, "text"))?;
        c.equal(mine.execute_typed("SELECT generate_series(1, $1)", &[(&3, Type::INT4)]).await?, 3)?;
        fails(c, mine.query_typed("SELECT 1 / $1", &[(&0, Type::INT4)]).await, "22012")?;
    }
    Ok(())
}

/// Many queries of one connection are on their way at the same time.
pub async fn pipelined(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let double = mine.prepare("SELECT $1::int * 2").await?;
    for _ in 0..5 {
        let numbers: Vec<i32> = (0..50).collect();
        let answers = try_join_all(numbers.iter().map(|n| {
            let (mine, double) = (&mine, &double);
            async move { mine.query_one(double, &[n]).await }
        }))
        .await?;
        for (n, row) in numbers.iter().zip(&answers) {
            c.equal(row.get::<_, i32>(0), 2 * n)?;
        }
        // Statements that are prepared, simple queries and statements without a name, all at once.
        let (prepared, simple, typed, added) = futures_util::future::join4(
            mine.prepare("SELECT 'prepared'"),
            mine.simple_query("SELECT 'simple'"),
            mine.query_typed("SELECT $1", &[(&"typed", Type::TEXT)]),
            mine.query_one("SELECT $1::int + 5", &[&5]),
        )
        .await;
        c.equal(mine.query_one(&prepared?, &[]).await?.get::<_, &str>(0), "prepared")?;
        c.equal(simple?.len(), 3)?;
        c.equal(typed?[0].get::<_, &str>(0), "typed")?;
        c.equal(added?.get::<_, i32>(0), 10)?;
    }
    Ok(())
}

pub async fn pipelined_errors(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let divide = mine.prepare("SELECT 100 / $1::int").await?;
    for _ in 0..5 {
        let numbers: Vec<i32> = (0..30).map(|n| n % 5).collect();
        let answers = join_all(numbers.iter().map(|n| {
            let (mine, divide) = (&mine, &divide);
            async move { mine.query_one(divide, &[n]).await }
        }))
        .await;
        for (n, answer) in numbers.iter().zip(answers) {
            if *n == 0 {
                fails(c, answer, "22012")?;
            } else {
                c.equal(answer?.get::<_, i32>(0), 100 / n)?;
            }
        }
    }
    Ok(())
}

/// Queries that nobody waits for any longer: what they answer must not reach the next one.
pub async fn dropped_queries(c: &Client) -> Proof {
    let mine = Session::new().await?;
    for n in 0..5 {
        let slow = mine.query("SELECT pg_sleep(0.05), repeat('x', 200000)", &[]);
        c.check(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err(), "the query was not slow")?;
        c.equal(one::<i32>(&*mine, "SELECT $1::int", &[&n]).await?, n)?;
        let mut rows = pin!(mine.query_raw("SELECT generate_series(1, 5000)", Vec::<i32>::new()).await?);
        c.equal(rows.try_next().await?.map(|row| row.get::<_, i32>(0)), Some(1))?;
    }
    mine.plain(c).await
}

/// Alters a table under a statement that was prepared for it.
pub async fn changed_table(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let table = c.name("changed");
    mine.batch_execute(&format!("CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1)")).await?;
    let text = format!("SELECT * FROM {table}");
    let statement = mine.prepare(&text).await?;
    for _ in 0..5 {
        c.equal(mine.query_one(&statement, &[]).await?.get::<_, i32>(0), 1)?;
    }
    mine.batch_execute(&format!("ALTER TABLE {table} ADD b text DEFAULT 'new'")).await?;
    fails(c, mine.query_one(&statement, &[]).await, "0A000")?;
    let row = mine.query_one(&text, &[]).await?;
    c.equal((row.try_get(0)?, row.try_get(1)?), (1_i32, "new"))?;
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

pub async fn types(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let on = &*mine;
    for _ in 0..5 {
        c.equal(one::<i64>(on, "SELECT $1::bigint", &[&i64::MAX]).await?, i64::MAX)?;
        c.equal(one::<i16>(on, "SELECT $1::smallint", &[&-7_i16]).await?, -7_i16)?;
        c.equal(one::<f32>(on, "SELECT $1::real", &[&0.25_f32]).await?, 0.25_f32)?;
        c.check(one::<f64>(on, "SELECT $1::float8", &[&f64::NAN]).await?.is_nan(), "NaN came back as something else")?;
        c.equal(one::<bool>(on, "SELECT $1::bool", &[&true]).await?, true)?;
        c.equal(one::<i8>(on, "SELECT $1::\"char\"", &[&7_i8]).await?, 7_i8)?;
        c.equal(one::<u32>(on, "SELECT $1::oid", &[&4_000_000_000_u32]).await?, 4_000_000_000_u32)?;
        let text = "naïve ☃ 'quoted' \\".to_owned();
        c.equal(&one::<String>(on, "SELECT $1::text", &[&text]).await?, &text)?;
        c.equal(one::<String>(on, "SELECT $1::varchar(3)", &[&"abc"]).await?, "abc")?;
        c.equal(one::<Option<String>>(on, "SELECT $1::text", &[&None::<&str>]).await?, None::<String>)?;
        c.equal(one::<Vec<u8>>(on, "SELECT $1::bytea", &[&vec![0_u8, 255]]).await?, [0, 255])?;
        let address: std::net::IpAddr = "10.0.0.1".parse()?;
        c.equal(one::<std::net::IpAddr>(on, "SELECT $1::inet", &[&address]).await?, address)?;
        let moment = std::time::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        c.equal(one::<std::time::SystemTime>(on, "SELECT $1::timestamptz", &[&moment]).await?, moment)?;
    }
    Ok(())
}

pub async fn arrays(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let on = &*mine;
    for _ in 0..5 {
        let numbers = vec![1, -2, 3, c.number];
        c.equal(&one::<Vec<i32>>(on, "SELECT $1::int[]", &[&numbers]).await?, &numbers)?;
        let words: Vec<String> = ["a,b", "\"quoted\"", "{brace}", "", "NULL", "back\\slash"].map(str::to_owned).into();
        c.equal(&one::<Vec<String>>(on, "SELECT $1::text[]", &[&words]).await?, &words)?;
        let holes = vec![Some(1), None];
        c.equal(&one::<Vec<Option<i32>>>(on, "SELECT $1::int[]", &[&holes]).await?, &holes)?;
        let count: i64 = one(on, "SELECT count(*) FROM generate_series(1, 9) n WHERE n = ANY($1)", &[&vec![2, 4, 11]]).await?;
        c.equal(count, 2)?;
    }
    Ok(())
}

pub async fn json(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let table = c.name("documents");
    mine.batch_execute(&format!("CREATE TABLE {table} (id int, d jsonb, j json)")).await?;
    for i in 0..10 {
        let document = json!({"name": format!("document {i}"), "tags": ["a", "b'c"], "client": c.number});
        mine.execute(&format!("INSERT INTO {table} VALUES ($1, $2, $3)"), &[&i, &document, &document]).await?;
        let row = mine.query_one(&format!("SELECT d, j FROM {table} WHERE id = $1"), &[&i]).await?;
        c.equal(&row.try_get::<_, Value>(0)?, &document)?;
        c.equal(&row.try_get::<_, Value>(1)?, &document)?;
    }
    let count: i64 = one(&*mine, &format!("SELECT count(*) FROM {table} WHERE d @> $1"), &[&json!({"tags": ["a"]})]).await?;
    c.equal(count, 10)?;
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

/// The label of an enum.
#[derive(Debug, PartialEq)]
struct Label(String);

impl<'a> FromSql<'a> for Label {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn AnyError + Sync + Send>> {
        Ok(Label(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(of: &Type) -> bool {
        matches!(of.kind(), Kind::Enum(_))
    }
}

impl ToSql for Label {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn AnyError + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        matches!(of.kind(), Kind::Enum(_))
    }

    to_sql_checked!();
}

/// The driver asks the catalogue for types that it does not know.
pub async fn own_types(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let (mood, pair) = (c.name("mood"), c.name("pair"));
    mine.batch_execute(&format!("CREATE TYPE {mood} AS ENUM ('sad', 'glad'); CREATE TYPE {pair} AS (number int, mood {mood})"))
        .await?;
    for _ in 0..3 {
        let statement = mine.prepare(&format!("SELECT $1::{mood}, $2::{mood}[], (5, $1)::{pair}")).await?;
        c.equal(statement.params()[0].kind(), &Kind::Enum(vec!["sad".into(), "glad".into()]))?;
        let Kind::Composite(fields) = statement.columns()[2].type_().kind() else {
            return Err(Failure::new("the type is not composite"));
        };
        c.equal(fields.iter().map(|field| field.name()).collect::<Vec<_>>(), ["number", "mood"])?;
        let many = vec![Label("glad".into()), Label("sad".into())];
        let row = mine.query_one(&statement, &[&Label("glad".into()), &many]).await?;
        c.equal(row.try_get::<_, Label>(0)?, Label("glad".into()))?;
        c.equal(row.try_get::<_, Vec<Label>>(1)?, many)?;
        fails(c, mine.query_one(&statement, &[&Label("none".into()), &Vec::<Label>::new()]).await, "22P02")?;
        mine.clear_type_cache();
    }
    Ok(mine.batch_execute(&format!("DROP TYPE {pair}; DROP TYPE {mood}")).await?)
}

pub async fn large_values(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let blob = [0, 1, 2, c.number as u8, 254, 255].repeat(300_000);
    let text = format!("long text of client {} · ", c.number).repeat(40_000);
    for _ in 0..2 {
        c.check(one::<Vec<u8>>(&*mine, "SELECT $1::bytea", &[&blob]).await? == blob, "got other bytes")?;
        c.check(one::<String>(&*mine, "SELECT $1::text", &[&text]).await? == text, "got another text")?;
        c.equal(one::<String>(&*mine, "SELECT repeat('x', 3000000)", &[]).await?.len(), 3_000_000)?;
        let rows = mine.simple_query(&format!("SELECT length('{text}')")).await?;
        let SimpleQueryMessage::Row(row) = &rows[1] else {
            return Err(Failure::new("there is no row"));
        };
        c.equal(row.get(0), Some(text.chars().count().to_string().as_str()))?;
    }
    Ok(())
}

/// Rows come one by one.
pub async fn query_raw(c: &Client) -> Proof {
    let mine = Session::new().await?;
    for _ in 0..3 {
        let rows = mine.query_raw("SELECT n, 'row ' || n FROM generate_series(1, $1::int) n", [10_000]).await?;
        let mut rows = pin!(rows);
        let (mut seen, mut sum, mut last) = (0, 0_i64, String::new());
        while let Some(row) = rows.try_next().await? {
            seen += 1;
            sum += i64::from(row.get::<_, i32>(0));
            last = row.get(1);
        }
        c.equal((seen, sum, last.as_str()), (10_000, 50_005_000, "row 10000"))?;
        c.equal(rows.rows_affected(), Some(10_000))?;
        let broken = mine.query_raw("SELECT 1 / (500 - n) FROM generate_series(1, $1::int) n", [1000]).await?;
        fails(c, broken.try_collect::<Vec<_>>().await, "22012")?;
        mine.plain(c).await?;
    }
    Ok(())
}

pub async fn copy_in(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let table = c.name("copied");
    mine.batch_execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, t text)")).await?;
    let copy = format!("COPY {table} FROM STDIN (FORMAT csv)");
    let mut sink = pin!(mine.copy_in(&copy).await?);
    for part in 0..20 {
        let lines: String = (0..500).map(|i| format!("{},\"text, {i}\"\n", 500 * part + i)).collect();
        sink.send(Bytes::from(lines)).await?;
    }
    c.equal(sink.finish().await?, 10_000)?;
    c.equal(one::<i64>(&*mine, &format!("SELECT sum(id) FROM {table}"), &[]).await?, 49_995_000)?;
    let transaction = mine.transaction().await?;
    let mut sink = pin!(transaction.copy_in(&copy).await?);
    sink.send(Bytes::from("20000,undone\n")).await?;
    c.equal(sink.finish().await?, 1)?;
    c.equal(one::<i64>(&transaction, &format!("SELECT count(*) FROM {table}"), &[]).await?, 10_001)?;
    transaction.rollback().await?;
    c.equal(one::<i64>(&*mine, &format!("SELECT count(*) FROM {table}"), &[]).await?, 10_000)?;
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

pub async fn copy_in_errors(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let table = c.name("wrong");
    mine.batch_execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY); INSERT INTO {table} VALUES (1)")).await?;
    let copy = format!("COPY {table} FROM STDIN");
    for _ in 0..3 {
        for (lines, code) in [("7\n1\n", "23505"), ("no number\n", "22P02")] {
            let mut sink = pin!(mine.copy_in(&copy).await?);
            sink.send(Bytes::from(lines)).await?;
            fails(c, sink.finish().await, code)?;
        }
        {
            // Given up without its end.
            let mut sink = pin!(mine.copy_in(&copy).await?);
            sink.send(Bytes::from("8\n")).await?;
        }
        c.equal(one::<i64>(&*mine, &format!("SELECT count(*) FROM {table}"), &[]).await?, 1)?;
        // The driver ends a copy that did not begin with one Sync too many, and cannot use the connection any longer.
        let other = Session::new().await?;
        fails(c, other.copy_in::<_, Bytes>("COPY nowhere_at_all FROM STDIN").await.map(drop), "42P01")?;
    }
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

pub async fn copy_out(c: &Client) -> Proof {
    let mine = Session::new().await?;
    for _ in 0..3 {
        let rows =
            mine.copy_out("COPY (SELECT n, 'text, ' || n FROM generate_series(1, 10000) n) TO STDOUT (FORMAT csv)").await?;
        let parts: Vec<Bytes> = rows.try_collect().await?;
        let text = String::from_utf8(parts.concat())?;
        c.equal(text.lines().count(), 10_000)?;
        c.equal(text.lines().last(), Some("10000,\"text, 10000\""))?;
        let broken = mine.copy_out("COPY (SELECT 1 / (n - 500) FROM generate_series(1, 1000) n) TO STDOUT").await?;
        fails(c, broken.try_collect::<Vec<_>>().await, "22012")?;
        {
            let mut some = pin!(mine.copy_out("COPY (SELECT generate_series(1, 3000)) TO STDOUT").await?);
            c.check(some.next().await.is_some(), "nothing was copied")?;
        }
        mine.plain(c).await?;
    }
    Ok(())
}

pub async fn copy_binary(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let table = c.name("binary");
    mine.batch_execute(&format!("CREATE TABLE {table} (id int, t text)")).await?;
    let columns = [Type::INT4, Type::TEXT];
    let sink = mine.copy_in(&format!("COPY {table} FROM STDIN BINARY")).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &columns));
    for i in 0..2000 {
        let text = (i % 3 > 0).then(|| format!("text {i} of {}", c.number));
        writer.as_mut().write(&[&i, &text]).await?;
    }
    c.equal(writer.finish().await?, 2000)?;
    let stream = mine.copy_out(&format!("COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT BINARY")).await?;
    let rows: Vec<_> = BinaryCopyOutStream::new(stream, &columns).try_collect().await?;
    c.equal(rows.len(), 2000)?;
    for (i, row) in (0..).zip(&rows) {
        let text = (i % 3 > 0).then(|| format!("text {i} of {}", c.number));
        c.equal((row.try_get::<i32>(0)?, row.try_get::<Option<String>>(1)?), (i, text))?;
    }
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

pub async fn errors(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let table = c.name("strict");
    mine.batch_execute(&format!(
        "CREATE TABLE {table} (id int CONSTRAINT {table}_id PRIMARY KEY, n int NOT NULL CHECK (n > 0));
        INSERT INTO {table} VALUES (1, 1)"
    ))
    .await?;
    let insert = mine.prepare(&format!("INSERT INTO {table} VALUES ($1, $2)")).await?;
    for _ in 0..5 {
        let found = fails(c, mine.execute(&insert, &[&1, &1]).await, "23505")?;
        c.equal(found.constraint(), Some(format!("{table}_id").as_str()))?;
        c.equal(found.detail(), Some("Key (id)=(1) already exists."))?;
        let found = fails(c, mine.execute(&insert, &[&2, &None::<i32>]).await, "23502")?;
        c.equal(found.column(), Some("n"))?;
        fails(c, mine.execute(&insert, &[&2, &-1]).await, "23514")?;
        fails(c, mine.query(&format!("SELECT wrong FROM {table}"), &[]).await, "42703")?;
        fails(c, mine.simple_query("SELEC 1").await, "42601")?;
        let raise = "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ZZ123', DETAIL = 'more', HINT = 'help'; END $$";
        let found = fails(c, mine.batch_execute(raise).await, "ZZ123")?;
        c.equal((found.detail(), found.hint()), (Some("more"), Some("help")))?;
        c.equal(all::<i32>(&*mine, &format!("SELECT id FROM {table}"), &[]).await?, [1])?;
    }
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

pub async fn notices(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    for i in 0..10 {
        mine.batch_execute(&format!("DO $$ BEGIN RAISE NOTICE 'client {}'; RAISE WARNING 'round {i}'; END $$", c.number)).await?;
        for want in [format!("client {}", c.number), format!("round {i}")] {
            let AsyncMessage::Notice(notice) = mine.hear().await? else {
                return Err(Failure::new("it is not a notice"));
            };
            c.equal(notice.message(), want)?;
        }
    }
    Ok(())
}
