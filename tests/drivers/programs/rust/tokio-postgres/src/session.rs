use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use proof::{Client, Failure, Proof, turn};
use tokio_postgres::{AsyncMessage, Notification};

use crate::{Session, all, fails, one};

async fn notified(mine: &mut Session) -> Proof<Notification> {
    match mine.hear().await? {
        AsyncMessage::Notification(notification) => Ok(notification),
        _ => Err(Failure::new("it is not a notification")),
    }
}

pub async fn notifications(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let turn = turn!(c, mine.plain(c));
    let mut other = Session::new().await?;
    let channel = c.name("channel");
    mine.batch_execute(&format!("LISTEN {channel}")).await?;
    for i in 0..5 {
        let payload = format!("message {i} for {}", c.number);
        other.execute("SELECT pg_notify($1, $2)", &[&channel, &payload]).await?;
        let heard = notified(&mut mine).await?;
        c.equal((heard.channel(), heard.payload()), (channel.as_str(), payload.as_str()))?;
    }
    // Queries in between, and what one says to oneself.
    mine.batch_execute(&format!("NOTIFY {channel}, 'own'")).await?;
    mine.plain(c).await?;
    c.equal(notified(&mut mine).await?.payload(), "own")?;
    // Only a committed one is heard.
    let transaction = other.transaction().await?;
    transaction.execute("SELECT pg_notify($1, 'never')", &[&channel]).await?;
    transaction.rollback().await?;
    let nothing = tokio::time::timeout(Duration::from_millis(50), notified(&mut mine)).await;
    c.check(nothing.is_err(), "something was heard")?;
    mine.batch_execute(&format!("LISTEN {channel}_more")).await?;
    other.execute("SELECT pg_notify($1, 'more')", &[&format!("{channel}_more")]).await?;
    c.equal(notified(&mut mine).await?.payload(), "more")?;
    c.equal(all::<String>(&*mine, "SELECT pg_listening_channels()", &[]).await?.len(), 2)?;
    mine.batch_execute("UNLISTEN *").await?;
    c.equal(all::<String>(&*mine, "SELECT pg_listening_channels()", &[]).await?.len(), 0)?;
    drop(other);
    drop(turn);
    mine.plain(c).await
}

pub async fn startup_parameters(c: &Client) -> Proof {
    let mut config = Session::config();
    config.application_name(c.name("program")).options(format!(
        "-c search_path=path_{0},public -c statement_timeout={1}s --work-mem={2}kB -c TimeZone=Asia/Tokyo",
        c.number,
        30 + c.number,
        1000 + c.number
    ));
    let mine = Session::open(config).await?;
    for _ in 0..10 {
        c.equal(mine.setting("application_name").await?, c.name("program"))?;
        c.equal(mine.setting("search_path").await?, format!("path_{},public", c.number))?;
        c.equal(mine.setting("statement_timeout").await?, format!("{}s", 30 + c.number))?;
        c.equal(mine.setting("work_mem").await?, format!("{}kB", 1000 + c.number))?;
        c.equal(mine.setting("TimeZone").await?, "Asia/Tokyo")?;
    }
    mine.batch_execute("SET work_mem = '2MB'").await?;
    mine.batch_execute("RESET work_mem").await?;
    c.equal(mine.setting("work_mem").await?, format!("{}kB", 1000 + c.number))
}

/// Asks back in later transactions what was SET.
pub async fn set(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let before = mine.setting("work_mem").await?;
    let timeout = format!("{}s", 100 + c.number);
    let memory = format!("{}kB", 2000 + c.number);
    let name = c.name("named");
    mine.batch_execute(&format!("SET lock_timeout = '{timeout}'; SET SESSION work_mem TO '{memory}'")).await?;
    mine.execute(&format!("SET application_name = '{name}'"), &[]).await?;
    mine.batch_execute("SET TIME ZONE 'America/New_York'").await?;
    mine.execute("SET DateStyle = 'German'", &[]).await?;
    let holds = async |mine: &Session| -> Proof {
        c.equal(&mine.setting("lock_timeout").await?, &timeout)?;
        c.equal(&mine.setting("work_mem").await?, &memory)?;
        c.equal(&mine.setting("application_name").await?, &name)?;
        c.equal(mine.setting("TimeZone").await?, "America/New_York")?;
        c.equal(one::<String>(&**mine, "SELECT date '2024-03-01'::text", &[]).await?, "01.03.2024")
    };
    for _ in 0..10 {
        holds(&mine).await?;
    }

    // For a transaction only, and undone with one.
    let transaction = mine.transaction().await?;
    transaction.batch_execute("SET LOCAL work_mem = '9MB'").await?;
    c.equal(one::<String>(&transaction, "SHOW work_mem", &[]).await?, "9MB")?;
    transaction.commit().await?;
    holds(&mine).await?;
    let transaction = mine.transaction().await?;
    transaction.batch_execute("SET work_mem = '9MB'").await?;
    transaction.rollback().await?;
    holds(&mine).await?;
    let transaction = mine.transaction().await?;
    transaction.batch_execute("SET lock_timeout = '1s'").await?;
    transaction.commit().await?;
    c.equal(mine.setting("lock_timeout").await?, "1s")?;

    mine.batch_execute("RESET work_mem").await?;
    c.equal(&mine.setting("work_mem").await?, &before)?;
    c.equal(mine.setting("lock_timeout").await?, "1s")?;
    mine.batch_execute("SET lock_timeout TO DEFAULT").await?;
    c.equal(mine.setting("lock_timeout").await?, "0")?;
    mine.batch_execute("RESET ALL").await?;
    c.equal(mine.setting("DateStyle").await?, "ISO, MDY")?;
    fails(c, mine.batch_execute("SET work_mem = 'nonsense'").await, "22023")?;
    c.equal(&mine.setting("work_mem").await?, &before)
}

/// What applications with a tenant or a user of their own do.
pub async fn set_config(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    for i in 0..5 {
        let tenant = format!("tenant {i} of {}", c.number);
        c.equal(&one::<String>(&*mine, "SELECT set_config('program.tenant', $1, false)", &[&tenant]).await?, &tenant)?;
        for _ in 0..4 {
            c.equal(&mine.setting("program.tenant").await?, &tenant)?;
        }
        let transaction = mine.transaction().await?;
        transaction.execute("SELECT set_config('program.tenant', 'local', true)", &[]).await?;
        c.equal(one::<String>(&transaction, "SHOW program.tenant", &[]).await?, "local")?;
        transaction.commit().await?;
        c.equal(&mine.setting("program.tenant").await?, &tenant)?;
    }
    Ok(())
}

pub async fn search_path(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let schema = c.name("schema");
    mine.batch_execute(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.here (a int)")).await?;
    mine.batch_execute(&format!("SET search_path = {schema}, public")).await?;
    mine.execute("INSERT INTO here VALUES ($1)", &[&c.number]).await?;
    for _ in 0..10 {
        c.equal(one::<i32>(&*mine, "SELECT a FROM here", &[]).await?, c.number)?;
        c.equal(&one::<String>(&*mine, "SELECT current_schema()::text", &[]).await?, &schema)?;
    }
    mine.batch_execute("RESET search_path").await?;
    fails(c, mine.query("SELECT a FROM here", &[]).await, "42P01")?;
    Ok(mine.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await?)
}

pub async fn role(c: &Client) -> Proof {
    let mine = Session::new().await?;
    for _ in 0..3 {
        mine.batch_execute("SET ROLE pg_read_all_stats").await?;
        for _ in 0..5 {
            c.equal(one::<String>(&*mine, "SELECT current_user::text", &[]).await?, "pg_read_all_stats")?;
            c.equal(one::<bool>(&*mine, "SELECT current_user = session_user", &[]).await?, false)?;
        }
        mine.batch_execute("RESET ROLE").await?;
        for _ in 0..3 {
            c.equal(one::<bool>(&*mine, "SELECT current_user = session_user", &[]).await?, true)?;
        }
    }
    Ok(())
}

/// The defaults of the transactions to come: other ones for odd clients than for even ones.
pub async fn session_characteristics(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let (level, access, read_only) = match c.number % 2 {
        0 => ("repeatable read", "READ WRITE", "off"),
        _ => ("serializable", "READ ONLY", "on"),
    };
    let characteristics = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL";
    mine.batch_execute(&format!("{characteristics} {level}, {access}")).await?;
    for _ in 0..5 {
        c.equal(mine.setting("transaction_isolation").await?, level)?;
        let transaction = mine.transaction().await?;
        c.equal(one::<String>(&transaction, "SHOW transaction_isolation", &[]).await?, level)?;
        c.equal(one::<String>(&transaction, "SHOW transaction_read_only", &[]).await?, read_only)?;
        transaction.commit().await?;
    }
    mine.batch_execute(&format!("{characteristics} READ COMMITTED, READ WRITE")).await?;
    c.equal(mine.setting("transaction_isolation").await?, "read committed")
}

pub async fn temp_tables(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let turn = turn!(c, mine.plain(c));
    mine.batch_execute("CREATE TEMP TABLE mine (a int, t text)").await?;
    for i in 0..10 {
        mine.execute("INSERT INTO mine VALUES ($1, $2)", &[&i, &format!("client {}", c.number)]).await?;
        c.equal(one::<i64>(&*mine, "SELECT count(*) FROM mine", &[]).await?, i64::from(i) + 1)?;
    }
    let mut sink = pin!(mine.copy_in("COPY mine FROM STDIN").await?);
    sink.send(Bytes::from("10\tcopied\n")).await?;
    c.equal(sink.finish().await?, 1)?;
    let transaction = mine.transaction().await?;
    c.equal(transaction.execute("DELETE FROM mine", &[]).await?, 11)?;
    transaction.rollback().await?;
    c.equal(one::<i64>(&*mine, "SELECT sum(a) FROM mine", &[]).await?, 55)?;
    mine.batch_execute("CREATE TEMP TABLE result AS SELECT a * 2 AS a FROM mine").await?;
    c.equal(one::<i64>(&*mine, "SELECT sum(a) FROM result", &[]).await?, 110)?;
    mine.batch_execute("DROP TABLE mine, result").await?;
    fails(c, mine.query("SELECT a FROM mine", &[]).await, "42P01")?;
    drop(turn);
    mine.plain(c).await
}

pub async fn temp_tables_of_a_transaction(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    for _ in 0..5 {
        let transaction = mine.transaction().await?;
        transaction.batch_execute("CREATE TEMP TABLE staging (a int) ON COMMIT DROP").await?;
        transaction.execute("INSERT INTO staging VALUES (1), ($1)", &[&c.number]).await?;
        c.equal(one::<i64>(&transaction, "SELECT sum(a) FROM staging", &[]).await?, i64::from(c.number) + 1)?;
        transaction.commit().await?;
        fails(c, mine.query("SELECT a FROM staging", &[]).await, "42P01")?;
    }
    Ok(())
}

pub async fn advisory_locks(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let turn = turn!(c, mine.plain(c));
    let other = Session::new().await?;
    let key = 7_000_000_i64;
    let free = "SELECT pg_try_advisory_xact_lock($1)";
    let unlock = "SELECT pg_advisory_unlock($1)";
    mine.execute("SELECT pg_advisory_lock($1)", &[&key]).await?;
    for _ in 0..5 {
        mine.plain(c).await?;
        c.equal(one::<bool>(&*other, free, &[&key]).await?, false)?;
    }
    c.equal(one::<bool>(&*mine, "SELECT pg_try_advisory_lock($1)", &[&key]).await?, true)?;
    c.equal(one::<bool>(&*mine, unlock, &[&key]).await?, true)?;
    c.equal(one::<bool>(&*other, free, &[&key]).await?, false)?;
    c.equal(one::<bool>(&*mine, unlock, &[&key]).await?, true)?;
    c.equal(one::<bool>(&*mine, unlock, &[&key]).await?, false)?;
    c.equal(one::<bool>(&*other, free, &[&key]).await?, true)?;
    mine.execute("SELECT pg_advisory_lock($1, $2)", &[&7, &c.number]).await?;
    mine.batch_execute("SELECT pg_advisory_unlock_all()").await?;
    c.equal(one::<bool>(&*other, "SELECT pg_try_advisory_xact_lock($1, $2)", &[&7, &c.number]).await?, true)?;
    drop(other);
    drop(turn);
    mine.plain(c).await
}

/// Lets all clients add to one number, one after the other.
pub async fn advisory_locks_of_a_transaction(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let table = format!("{}shared", proof::prefix());
    let lock = "SELECT pg_advisory_xact_lock(7000001)";
    let transaction = mine.transaction().await?;
    transaction.batch_execute(lock).await?;
    transaction.batch_execute(&format!("CREATE TABLE IF NOT EXISTS {table} (client int, a int)")).await?;
    transaction.commit().await?;
    for i in 0..5 {
        let transaction = mine.transaction().await?;
        transaction.batch_execute(lock).await?;
        let highest: i32 = one(&transaction, &format!("SELECT coalesce(max(a), 0) FROM {table}"), &[]).await?;
        transaction.execute(&format!("INSERT INTO {table} VALUES ($1, $2)"), &[&c.number, &(highest + 1)]).await?;
        transaction.commit().await?;
        let count = format!("SELECT count(*) FROM {table} WHERE client = $1");
        c.equal(one::<i64>(&*mine, &count, &[&c.number]).await?, i + 1)?;
        c.equal(one::<bool>(&*mine, &format!("SELECT count(*) = count(DISTINCT a) FROM {table}"), &[]).await?, true)?;
    }
    Ok(())
}

pub async fn with_hold_cursor(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let turn = turn!(c, mine.plain(c));
    let transaction = mine.transaction().await?;
    let factor = c.number + 1;
    let declare = format!("DECLARE kept CURSOR WITH HOLD FOR SELECT {factor} * n FROM generate_series(1, 100) n");
    transaction.batch_execute(&declare).await?;
    transaction.commit().await?;
    for i in 0..10 {
        let got: Vec<i32> = all(&*mine, "FETCH 2 FROM kept", &[]).await?;
        c.equal(got, [(2 * i + 1) * factor, (2 * i + 2) * factor])?;
    }
    mine.batch_execute("CLOSE kept").await?;
    fails(c, mine.batch_execute("FETCH 1 FROM kept").await, "34000")?;
    drop(turn);
    mine.plain(c).await
}

/// Prepares by SQL, each client another statement under the same name.
pub async fn sql_prepare(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let who = format!("client {}", c.number);
    for i in 0..3 {
        let base = 1000 * c.number + i;
        mine.batch_execute(&format!("PREPARE add (int, int) AS SELECT $1 + $2 + {base}")).await?;
        mine.batch_execute(&format!("PREPARE who AS SELECT '{who}'::text")).await?;
        for n in 0..5 {
            c.equal(one::<i32>(&*mine, &format!("EXECUTE add ({n}, 1)"), &[]).await?, base + n + 1)?;
            c.equal(&one::<String>(&*mine, "EXECUTE who", &[]).await?, &who)?;
        }
        fails(c, mine.batch_execute("PREPARE who AS SELECT 1").await, "42P05")?;
        mine.batch_execute("DEALLOCATE add").await?;
        fails(c, mine.batch_execute("EXECUTE add (1, 2)").await, "26000")?;
        c.equal(&one::<String>(&*mine, "EXECUTE who", &[]).await?, &who)?;
        mine.batch_execute("DEALLOCATE ALL").await?;
        fails(c, mine.batch_execute("EXECUTE who").await, "26000")?;
    }
    Ok(())
}
