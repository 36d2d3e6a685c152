use std::time::Duration;

use proof::{Client, Failure, Proof, turn, until};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_postgres::config::Host;
use tokio_postgres::{CancelToken, IsolationLevel, NoTls};

use crate::{Session, all, fails, one};

pub async fn transactions(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let table = c.name("accounts");
    mine.batch_execute(&format!(
        "CREATE TABLE {table} (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, balance int);
        INSERT INTO {table} VALUES (1, 100), (2, 100)"
    ))
    .await?;
    let count = format!("SELECT count(*) FROM {table}");
    let change = mine.prepare(&format!("UPDATE {table} SET balance = balance + $1 WHERE id = $2")).await?;
    for _ in 0..10 {
        let transaction = mine.transaction().await?;
        let pid: i32 = one(&transaction, "SELECT pg_backend_pid()", &[]).await?;
        c.equal(transaction.execute(&change, &[&-5, &1]).await?, 1)?;
        c.equal(transaction.execute(&change, &[&5, &2]).await?, 1)?;
        c.equal(one::<i32>(&transaction, "SELECT pg_backend_pid()", &[]).await?, pid)?;
        transaction.commit().await?;
    }
    c.equal(all::<i32>(&*mine, &format!("SELECT balance FROM {table} ORDER BY id"), &[]).await?, [50, 150])?;
    let transaction = mine.transaction().await?;
    c.equal(transaction.execute(&format!("DELETE FROM {table}"), &[]).await?, 2)?;
    transaction.rollback().await?;
    c.equal(one::<i64>(&*mine, &count, &[]).await?, 2)?;

    let transaction = mine.transaction().await?;
    fails(c, transaction.batch_execute("SELECT 1 / 0").await, "22012")?;
    fails(c, transaction.batch_execute("SELECT 1").await, "25P02")?;
    transaction.rollback().await?;
    // A constraint that is looked at when the transaction is committed.
    let transaction = mine.transaction().await?;
    transaction.batch_execute(&format!("INSERT INTO {table} VALUES (1, 0)")).await?;
    fails(c, transaction.commit().await, "23505")?;
    c.equal(one::<i64>(&*mine, &count, &[]).await?, 2)?;
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

/// The driver rolls back what is dropped, without waiting for it.
pub async fn dropped_transactions(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let table = c.name("dropped");
    mine.batch_execute(&format!("CREATE TABLE {table} (a int)")).await?;
    for i in 0..10 {
        {
            let transaction = mine.transaction().await?;
            transaction.execute(&format!("INSERT INTO {table} VALUES ($1)"), &[&i]).await?;
        }
        c.equal(one::<i64>(&*mine, &format!("SELECT count(*) FROM {table}"), &[]).await?, 0)?;
    }
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

pub async fn savepoints(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let table = c.name("nested");
    mine.batch_execute(&format!("CREATE TABLE {table} (a int PRIMARY KEY)")).await?;
    let insert = mine.prepare(&format!("INSERT INTO {table} VALUES ($1)")).await?;
    for _ in 0..5 {
        let mut outer = mine.transaction().await?;
        outer.execute(&insert, &[&1]).await?;
        let mut inner = outer.transaction().await?;
        inner.execute(&insert, &[&2]).await?;
        let innermost = inner.savepoint("named").await?;
        fails(c, innermost.execute(&insert, &[&1]).await, "23505")?;
        innermost.rollback().await?;
        inner.execute(&insert, &[&3]).await?;
        inner.commit().await?;
        {
            let dropped = outer.transaction().await?;
            dropped.execute(&insert, &[&4]).await?;
        }
        c.equal(all::<i32>(&outer, &format!("SELECT a FROM {table} ORDER BY a"), &[]).await?, [1, 2, 3])?;
        outer.commit().await?;
        c.equal(mine.execute(&format!("DELETE FROM {table}"), &[]).await?, 3)?;
    }
    Ok(mine.batch_execute(&format!("DROP TABLE {table}")).await?)
}

pub async fn isolation_levels(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    for (level, name) in [
        (IsolationLevel::Serializable, "serializable"),
        (IsolationLevel::RepeatableRead, "repeatable read"),
        (IsolationLevel::ReadCommitted, "read committed"),
        (IsolationLevel::ReadUncommitted, "read uncommitted"),
    ] {
        for read_only in [false, true] {
            let begin = mine.build_transaction().isolation_level(level).read_only(read_only).deferrable(true);
            let transaction = begin.start().await?;
            c.equal(one::<String>(&transaction, "SHOW transaction_isolation", &[]).await?, name)?;
            c.equal(one::<String>(&transaction, "SHOW transaction_read_only", &[]).await? == "on", read_only)?;
            c.equal(one::<String>(&transaction, "SHOW transaction_deferrable", &[]).await?, "on")?;
            let created = transaction.batch_execute(&format!("CREATE TABLE {} (a int)", c.name("level"))).await;
            if read_only {
                fails(c, created, "25006")?;
            } else {
                created?;
            }
            transaction.rollback().await?;
            c.equal(mine.setting("transaction_isolation").await?, "read committed")?;
            c.equal(mine.setting("transaction_read_only").await?, "off")?;
        }
    }
    Ok(())
}

/// Needs two connections at once, so only one client does it at a time.
pub async fn serialization_failure(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    let turn = turn!(c, mine.plain(c));
    let mut other = Session::new().await?;
    let table = c.name("serial");
    mine.batch_execute(&format!("CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1)")).await?;
    let select = format!("SELECT a FROM {table}");
    let begin = mine.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let first = begin.start().await?;
    let begin = other.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let second = begin.start().await?;
    c.equal(one::<i32>(&first, &select, &[]).await?, 1)?;
    c.equal(one::<i32>(&second, &select, &[]).await?, 1)?;
    second.batch_execute(&format!("UPDATE {table} SET a = 2")).await?;
    second.commit().await?;
    c.equal(one::<i32>(&first, &select, &[]).await?, 1)?;
    fails(c, first.batch_execute(&format!("UPDATE {table} SET a = 3")).await, "40001")?;
    first.rollback().await?;
    c.equal(one::<i32>(&*mine, &select, &[]).await?, 2)?;
    mine.batch_execute(&format!("DROP TABLE {table}")).await?;
    drop(turn);
    Ok(())
}

/// Rows of a statement fetched some at a time by the protocol, two of them side by side.
pub async fn portals(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    for _ in 0..3 {
        let transaction = mine.transaction().await?;
        let statement = transaction.prepare("SELECT generate_series(1, $1::int)").await?;
        let long = transaction.bind(&statement, &[&100]).await?;
        let short = transaction.bind(&statement, &[&5]).await?;
        for part in 0..10 {
            let rows = transaction.query_portal(&long, 10).await?;
            c.equal(rows.len(), 10)?;
            c.equal(rows[0].get::<_, i32>(0), 10 * part + 1)?;
            if part < 3 {
                c.equal(transaction.query_portal(&short, 2).await?.len(), [2, 2, 1][part as usize])?;
            }
        }
        c.equal(transaction.query_portal(&long, 10).await?.len(), 0)?;
        drop(long);
        transaction.commit().await?;
        mine.plain(c).await?;
    }
    Ok(())
}

pub async fn cursors(c: &Client) -> Proof {
    let mut mine = Session::new().await?;
    for _ in 0..3 {
        let transaction = mine.transaction().await?;
        transaction.batch_execute("DECLARE walk SCROLL CURSOR FOR SELECT generate_series(1, 100)").await?;
        c.equal(all::<i32>(&transaction, "FETCH 3 FROM walk", &[]).await?, [1, 2, 3])?;
        c.equal(transaction.execute("MOVE FORWARD 50 FROM walk", &[]).await?, 50)?;
        c.equal(all::<i32>(&transaction, "FETCH 2 FROM walk", &[]).await?, [54, 55])?;
        c.equal(all::<i32>(&transaction, "FETCH ALL FROM walk", &[]).await?.len(), 45)?;
        transaction.commit().await?;
        fails(c, mine.batch_execute("FETCH 1 FROM walk").await, "34000")?;
    }
    Ok(())
}

/// Whether a statement with these words is running.
async fn running(mine: &Session, words: &str) -> Proof<bool> {
    one(
        &**mine,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()
            AND starts_with(query, 'SELECT pg_sleep') AND strpos(query, $1) > 0)",
        &[&words],
    )
    .await
}

/// Cancels what runs, and waits until the server has done so: the driver does not, and a cancel that comes late ends the next
/// statement.
async fn cancel(token: &CancelToken) -> Proof {
    let config = Session::config();
    let (Host::Tcp(host), port) = (&config.get_hosts()[0], config.get_ports()[0]) else {
        return Err(Failure::new("the host is a directory"));
    };
    let mut stream = TcpStream::connect((host.as_str(), port)).await?;
    token.cancel_query_raw(&mut stream, NoTls).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

pub async fn cancel_token(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let turn = turn!(c, mine.plain(c));
    let words = c.name("sleeps");
    let sleep = format!("SELECT pg_sleep(60) AS {words}");
    let mut slow = Session::new().await?;
    let token = slow.cancel_token();
    let cancels = async || -> Proof {
        until!(c, running(&mine, &words).await?);
        cancel(&token).await
    };
    for _ in 0..2 {
        let (slept, cancelled) = futures_util::future::join(slow.query(&sleep, &[]), cancels()).await;
        cancelled?;
        fails(c, slept, "57014")?;
        slow.plain(c).await?;
        let (slept, cancelled) = futures_util::future::join(slow.simple_query(&sleep), cancels()).await;
        cancelled?;
        fails(c, slept, "57014")?;
        slow.plain(c).await?;
    }
    let transaction = slow.transaction().await?;
    let (slept, cancelled) = futures_util::future::join(transaction.query(&sleep, &[]), cancels()).await;
    cancelled?;
    fails(c, slept, "57014")?;
    fails(c, transaction.batch_execute("SELECT 1").await, "25P02")?;
    transaction.rollback().await?;
    slow.plain(c).await?;
    until!(c, !running(&mine, &words).await?);
    // With nothing to cancel.
    token.cancel_query(NoTls).await?;
    drop(slow);
    drop(turn);
    Ok(())
}

/// All clients cancel at about the same time.
pub async fn cancel_in_a_crowd(c: &Client) -> Proof {
    let mine = Session::new().await?;
    let token = mine.cancel_token();
    for round in 0..3 {
        let cancels = async {
            tokio::time::sleep(Duration::from_millis(50 + 10 * c.number as u64)).await;
            cancel(&token).await
        };
        let (slept, cancelled) = futures_util::future::join(mine.simple_query("SELECT pg_sleep(8)"), cancels).await;
        cancelled?;
        fails(c, slept, "57014")?;
        c.equal(one::<i32>(&*mine, "SELECT $1::int", &[&round]).await?, round)?;
    }
    Ok(())
}
