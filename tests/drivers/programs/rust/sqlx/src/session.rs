use std::time::Duration;

use proof::{Client, Failure, Proof, turn};
use sqlx::postgres::{PgAdvisoryLock, PgAdvisoryLockKey, PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Either, PgConnection};

use crate::{all, connection, fails, one, plain, pool, run, setting};

pub async fn listener(c: &Client) -> Proof {
    let few = pool(2).await?;
    let mut mine = few.acquire().await?;
    let turn = turn!(c, plain(c, &mut mine));
    let channel = c.name("channel");
    let more = format!("{channel}_more");
    let mut listener = PgListener::connect_with(&few).await?;
    listener.listen(&channel).await?;
    for i in 0..5 {
        let payload = format!("message {i} for {}", c.number);
        sqlx::query("SELECT pg_notify($1, $2)").bind(&channel).bind(&payload).execute(&mut *mine).await?;
        let heard = listener.recv().await?;
        c.equal((heard.channel(), heard.payload()), (channel.as_str(), payload.as_str()))?;
    }
    listener.listen_all([more.as_str()]).await?;
    // Only a committed one is heard.
    let mut transaction = mine.begin().await?;
    run(&mut transaction, format!("NOTIFY {channel}, 'never'")).await?;
    transaction.rollback().await?;
    let nothing = tokio::time::timeout(Duration::from_millis(50), listener.recv()).await;
    c.check(nothing.is_err(), "something was heard")?;
    run(&mut mine, format!("NOTIFY {more}, 'more'")).await?;
    c.equal(listener.recv().await?.payload(), "more")?;
    listener.unlisten(&channel).await?;
    run(&mut mine, format!("NOTIFY {channel}, 'nobody listens'")).await?;
    run(&mut mine, format!("NOTIFY {more}, 'last'")).await?;
    c.equal(listener.try_recv().await?.map(|heard| heard.payload().to_owned()), Some("last".to_owned()))?;
    listener.unlisten_all().await?;
    drop(listener);
    plain(c, &mut mine).await?;
    drop(mine);
    // The listener's connection goes back to the pool by a task of its own.
    few.close().await;
    drop(turn);
    Ok(())
}

pub async fn startup_parameters(c: &Client) -> Proof {
    let memory = format!("{}kB", 1000 + c.number);
    let path = format!("path_{}, public", c.number);
    let options = PgConnectOptions::new().application_name(&c.name("program")).options([
        ("search_path", path.as_str()),
        ("statement_timeout", &format!("{}s", 30 + c.number)),
        ("work_mem", &memory),
    ]);
    let mut mine = PgConnection::connect_with(&options).await?;
    for _ in 0..10 {
        c.equal(setting(&mut mine, "application_name").await?, c.name("program"))?;
        c.equal(&setting(&mut mine, "search_path").await?, &path)?;
        c.equal(setting(&mut mine, "statement_timeout").await?, format!("{}s", 30 + c.number))?;
        c.equal(&setting(&mut mine, "work_mem").await?, &memory)?;
    }
    run(&mut mine, "SET work_mem = '2MB'").await?;
    run(&mut mine, "RESET work_mem").await?;
    c.equal(setting(&mut mine, "work_mem").await?, memory)
}

/// The pool sets something on each connection that it opens.
pub async fn after_connect(c: &Client) -> Proof {
    let tenant = format!("tenant {}", c.number);
    let set = format!("SET program.tenant = '{tenant}'");
    let few = PgPoolOptions::new()
        .max_connections(2)
        .after_connect(move |mine, _| {
            let set = set.clone();
            Box::pin(async move {
                run(mine, set).await?;
                Ok(())
            })
        })
        .connect_with(PgConnectOptions::new())
        .await?;
    for _ in 0..10 {
        let current = sqlx::query_scalar::<_, Option<String>>("SELECT current_setting('program.tenant', true)");
        c.equal(current.fetch_one(&few).await?, Some(tenant.clone()))?;
    }
    few.close().await;
    Ok(())
}

/// Asks back in later transactions what was SET.
pub async fn set(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let before = setting(&mut mine, "work_mem").await?;
    let timeout = format!("{}s", 100 + c.number);
    let memory = format!("{}kB", 2000 + c.number);
    let name = c.name("named");
    let both = format!("SET lock_timeout = '{timeout}'; SET SESSION work_mem TO '{memory}'");
    sqlx::raw_sql(AssertSqlSafe(both)).execute(&mut mine).await?;
    run(&mut mine, format!("SET application_name = '{name}'")).await?;
    run(&mut mine, "SET TIME ZONE 'America/New_York'").await?;
    run(&mut mine, "SET DateStyle = 'German'").await?;
    let holds = async |mine: &mut PgConnection| -> Proof {
        c.equal(&setting(mine, "lock_timeout").await?, &timeout)?;
        c.equal(&setting(mine, "work_mem").await?, &memory)?;
        c.equal(&setting(mine, "application_name").await?, &name)?;
        c.equal(setting(mine, "TimeZone").await?, "America/New_York")?;
        c.equal(one::<String>(mine, "SELECT date '2024-03-01'::text").await?, "01.03.2024")
    };
    for _ in 0..10 {
        holds(&mut mine).await?;
    }

    // For a transaction only, and undone with one.
    let mut transaction = mine.begin().await?;
    run(&mut transaction, "SET LOCAL work_mem = '9MB'").await?;
    c.equal(one::<String>(&mut transaction, "SHOW work_mem").await?, "9MB")?;
    transaction.commit().await?;
    holds(&mut mine).await?;
    let mut transaction = mine.begin().await?;
    run(&mut transaction, "SET work_mem = '9MB'").await?;
    transaction.rollback().await?;
    holds(&mut mine).await?;
    let mut transaction = mine.begin().await?;
    run(&mut transaction, "SET lock_timeout = '1s'").await?;
    transaction.commit().await?;
    c.equal(setting(&mut mine, "lock_timeout").await?, "1s")?;

    run(&mut mine, "RESET work_mem").await?;
    c.equal(&setting(&mut mine, "work_mem").await?, &before)?;
    c.equal(setting(&mut mine, "lock_timeout").await?, "1s")?;
    run(&mut mine, "SET lock_timeout TO DEFAULT").await?;
    c.equal(setting(&mut mine, "lock_timeout").await?, "0")?;
    run(&mut mine, "RESET ALL").await?;
    c.equal(setting(&mut mine, "DateStyle").await?, "ISO, MDY")?;
    fails(c, run(&mut mine, "SET work_mem = 'nonsense'").await, "22023")?;
    c.equal(setting(&mut mine, "work_mem").await?, before)
}

/// What applications with a tenant or a user of their own do.
pub async fn set_config(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for i in 0..5 {
        let tenant = format!("tenant {i} of {}", c.number);
        let set = sqlx::query_scalar::<_, String>("SELECT set_config('program.tenant', $1, false)").bind(&tenant);
        c.equal(&set.fetch_one(&mut mine).await?, &tenant)?;
        for _ in 0..4 {
            c.equal(&setting(&mut mine, "program.tenant").await?, &tenant)?;
        }
        let mut transaction = mine.begin().await?;
        run(&mut transaction, "SELECT set_config('program.tenant', 'local', true)").await?;
        c.equal(one::<String>(&mut transaction, "SHOW program.tenant").await?, "local")?;
        transaction.commit().await?;
        c.equal(&setting(&mut mine, "program.tenant").await?, &tenant)?;
    }
    Ok(())
}

pub async fn search_path(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let schema = c.name("schema");
    run(&mut mine, format!("CREATE SCHEMA {schema}")).await?;
    run(&mut mine, format!("CREATE TABLE {schema}.here (a int)")).await?;
    run(&mut mine, format!("SET search_path = {schema}, public")).await?;
    sqlx::query("INSERT INTO here VALUES ($1)").bind(c.number).execute(&mut mine).await?;
    for _ in 0..10 {
        c.equal(one::<i32>(&mut mine, "SELECT a FROM here").await?, c.number)?;
        c.equal(&one::<String>(&mut mine, "SELECT current_schema()::text").await?, &schema)?;
    }
    run(&mut mine, "RESET search_path").await?;
    fails(c, sqlx::raw_sql("SELECT a FROM here").execute(&mut mine).await, "42P01")?;
    run(&mut mine, format!("DROP SCHEMA {schema} CASCADE")).await?;
    Ok(())
}

pub async fn role(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for _ in 0..3 {
        run(&mut mine, "SET ROLE pg_read_all_stats").await?;
        for _ in 0..5 {
            c.equal(one::<String>(&mut mine, "SELECT current_user::text").await?, "pg_read_all_stats")?;
            c.equal(one::<bool>(&mut mine, "SELECT current_user = session_user").await?, false)?;
        }
        run(&mut mine, "RESET ROLE").await?;
        for _ in 0..3 {
            c.equal(one::<bool>(&mut mine, "SELECT current_user = session_user").await?, true)?;
        }
    }
    Ok(())
}

/// The defaults of the transactions to come: other ones for odd clients than for even ones.
pub async fn session_characteristics(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let (level, access, read_only) = match c.number % 2 {
        0 => ("repeatable read", "READ WRITE", "off"),
        _ => ("serializable", "READ ONLY", "on"),
    };
    let characteristics = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL";
    run(&mut mine, format!("{characteristics} {level}, {access}")).await?;
    for _ in 0..5 {
        c.equal(setting(&mut mine, "transaction_isolation").await?, level)?;
        let mut transaction = mine.begin().await?;
        c.equal(one::<String>(&mut transaction, "SHOW transaction_isolation").await?, level)?;
        c.equal(one::<String>(&mut transaction, "SHOW transaction_read_only").await?, read_only)?;
        transaction.commit().await?;
    }
    run(&mut mine, format!("{characteristics} READ COMMITTED, READ WRITE")).await?;
    c.equal(setting(&mut mine, "transaction_isolation").await?, "read committed")
}

pub async fn temp_tables(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let turn = turn!(c, plain(c, &mut mine));
    run(&mut mine, "CREATE TEMP TABLE mine (a int, t text)").await?;
    for i in 0..10 {
        let insert = sqlx::query("INSERT INTO mine VALUES ($1, $2)").bind(i).bind(format!("client {}", c.number));
        insert.execute(&mut mine).await?;
        c.equal(one::<i64>(&mut mine, "SELECT count(*) FROM mine").await?, i64::from(i) + 1)?;
    }
    let mut copy = mine.copy_in_raw("COPY mine FROM STDIN").await?;
    copy.send("10\tcopied\n".as_bytes()).await?;
    c.equal(copy.finish().await?, 1)?;
    let mut transaction = mine.begin().await?;
    c.equal(run(&mut transaction, "DELETE FROM mine").await?, 11)?;
    transaction.rollback().await?;
    c.equal(one::<i64>(&mut mine, "SELECT sum(a) FROM mine").await?, 55)?;
    run(&mut mine, "CREATE TEMP TABLE result AS SELECT a * 2 AS a FROM mine").await?;
    c.equal(one::<i64>(&mut mine, "SELECT sum(a) FROM result").await?, 110)?;
    run(&mut mine, "DROP TABLE mine, result").await?;
    fails(c, sqlx::raw_sql("SELECT a FROM mine").execute(&mut mine).await, "42P01")?;
    drop(turn);
    plain(c, &mut mine).await
}

pub async fn temp_tables_of_a_transaction(c: &Client) -> Proof {
    let mut mine = connection().await?;
    for _ in 0..5 {
        let mut transaction = mine.begin().await?;
        run(&mut transaction, "CREATE TEMP TABLE staging (a int) ON COMMIT DROP").await?;
        let insert = sqlx::query("INSERT INTO staging VALUES (1), ($1)").bind(c.number).persistent(false);
        insert.execute(&mut *transaction).await?;
        let sum = sqlx::query_scalar::<_, i64>("SELECT sum(a) FROM staging").persistent(false);
        c.equal(sum.fetch_one(&mut *transaction).await?, i64::from(c.number) + 1)?;
        transaction.commit().await?;
        fails(c, sqlx::raw_sql("SELECT a FROM staging").execute(&mut mine).await, "42P01")?;
    }
    Ok(())
}

/// The driver's own guard around a lock of the session.
pub async fn advisory_lock(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let turn = turn!(c, plain(c, &mut mine));
    let mut other = connection().await?;
    let lock = PgAdvisoryLock::new(format!("{}lock", proof::prefix()));
    let key = lock.key().as_bigint().ok_or_else(|| Failure::new("the key is a pair"))?;
    let free = format!("SELECT pg_try_advisory_xact_lock({key})");
    let mut guard = lock.acquire(&mut mine).await?;
    for _ in 0..5 {
        plain(c, guard.as_mut()).await?;
        c.equal(one::<bool>(&mut other, &free).await?, false)?;
    }
    guard.release_now().await?;
    c.equal(one::<bool>(&mut other, &free).await?, true)?;
    // Dropped, the guard has the lock released before the next statement.
    {
        let Either::Left(mut guard) = lock.try_acquire(&mut mine).await? else {
            return Err(Failure::new("the lock was not free"));
        };
        plain(c, guard.as_mut()).await?;
        c.equal(one::<bool>(&mut other, &free).await?, false)?;
    }
    plain(c, &mut mine).await?;
    c.equal(one::<bool>(&mut other, &free).await?, true)?;
    let pair = PgAdvisoryLock::with_key(PgAdvisoryLockKey::IntPair(7, c.number));
    pair.acquire(&mut mine).await?.leak();
    plain(c, &mut mine).await?;
    c.equal(pair.force_release(&mut mine).await?.1, true)?;
    c.equal(pair.force_release(&mut mine).await?.1, false)?;
    other.close().await?;
    drop(turn);
    plain(c, &mut mine).await
}

/// Lets all clients add to one number, one after the other.
pub async fn advisory_locks_of_a_transaction(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let table = format!("{}shared", proof::prefix());
    let lock = "SELECT pg_advisory_xact_lock(7000001)";
    let mut transaction = mine.begin().await?;
    run(&mut transaction, lock).await?;
    run(&mut transaction, format!("CREATE TABLE IF NOT EXISTS {table} (client int, a int)")).await?;
    transaction.commit().await?;
    for i in 0..5 {
        let mut transaction = mine.begin().await?;
        run(&mut transaction, lock).await?;
        let highest: i32 = one(&mut transaction, format!("SELECT coalesce(max(a), 0) FROM {table}")).await?;
        run(&mut transaction, format!("INSERT INTO {table} VALUES ({}, {})", c.number, highest + 1)).await?;
        transaction.commit().await?;
        let count = format!("SELECT count(*) FROM {table} WHERE client = {}", c.number);
        c.equal(one::<i64>(&mut mine, count).await?, i + 1)?;
        c.equal(one::<bool>(&mut mine, format!("SELECT count(*) = count(DISTINCT a) FROM {table}")).await?, true)?;
    }
    Ok(())
}

pub async fn with_hold_cursor(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let turn = turn!(c, plain(c, &mut mine));
    let factor = c.number + 1;
    let mut transaction = mine.begin().await?;
    let declare = format!("DECLARE kept CURSOR WITH HOLD FOR SELECT {factor} * n FROM generate_series(1, 100) n");
    run(&mut transaction, declare).await?;
    transaction.commit().await?;
    for i in 0..10 {
        let got: Vec<i32> = all(&mut mine, "FETCH 2 FROM kept").await?;
        c.equal(got, [(2 * i + 1) * factor, (2 * i + 2) * factor])?;
    }
    run(&mut mine, "CLOSE kept").await?;
    fails(c, sqlx::raw_sql("FETCH 1 FROM kept").execute(&mut mine).await, "34000")?;
    drop(turn);
    plain(c, &mut mine).await
}

/// Prepares by SQL, each client another statement under the same name.
pub async fn sql_prepare(c: &Client) -> Proof {
    let mut mine = connection().await?;
    let who = format!("client {}", c.number);
    for i in 0..3 {
        let base = 1000 * c.number + i;
        sqlx::raw_sql(AssertSqlSafe(format!("PREPARE add (int, int) AS SELECT $1 + $2 + {base}"))).execute(&mut mine).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("PREPARE who AS SELECT '{who}'::text"))).execute(&mut mine).await?;
        for n in 0..5 {
            let add = sqlx::query_scalar::<_, i32>(AssertSqlSafe(format!("EXECUTE add ({n}, 1)"))).persistent(false);
            c.equal(add.fetch_one(&mut mine).await?, base + n + 1)?;
            let asked: String = sqlx::query_scalar("EXECUTE who").persistent(false).fetch_one(&mut mine).await?;
            c.equal(&asked, &who)?;
        }
        fails(c, sqlx::raw_sql("PREPARE who AS SELECT 1").execute(&mut mine).await, "42P05")?;
        sqlx::raw_sql("DEALLOCATE add").execute(&mut mine).await?;
        fails(c, sqlx::raw_sql("EXECUTE add (1, 2)").execute(&mut mine).await, "26000")?;
        // This takes away what the driver has prepared, too; it has nothing prepared here.
        sqlx::raw_sql("DEALLOCATE ALL").execute(&mut mine).await?;
        fails(c, sqlx::raw_sql("EXECUTE who").execute(&mut mine).await, "26000")?;
    }
    Ok(())
}
