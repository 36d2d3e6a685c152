//! Runs the features of a program with many clients at once and reports them as the tests read it.

use std::env;
use std::error::Error;
use std::fmt::Debug;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;

/// How long all clients together may take for one feature.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a feature failed, and where that was noticed.
#[derive(Debug)]
pub struct Failure(String);

pub type Proof<T = ()> = Result<T, Failure>;

impl Failure {
    #[track_caller]
    pub fn new(why: impl Into<String>) -> Failure {
        let at = Location::caller();
        Failure(format!("{} at {}:{}", why.into(), at.file(), at.line()))
    }
}

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Failure {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            why = format!("{why}: {deeper}");
            cause = deeper.source();
        }
        Failure::new(why)
    }
}

/// One of those that run a feature at the same time.
pub struct Client {
    pub number: i32,
    checks: AtomicUsize,
    gate: Arc<Mutex<()>>,
}

impl Client {
    /// What this client alone calls a table and the like.
    pub fn name(&self, what: &str) -> String {
        format!("{}{what}_{}", prefix(), self.number)
    }

    /// Counts a fact that holds, or gives the failure over one that doesn't.
    #[track_caller]
    pub fn check(&self, holds: bool, why: impl Into<String>) -> Proof {
        if !holds {
            return Err(Failure::new(why));
        }
        self.checks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Checks that two values are the same.
    #[track_caller]
    pub fn equal<A: PartialEq<B> + Debug, B: Debug>(&self, got: A, want: B) -> Proof {
        let holds = got == want;
        let why = if holds { String::new() } else { format!("got {} instead of {}", shortened(&got), shortened(&want)) };
        self.check(holds, why)
    }

    /// The turn of this client to do what only one may do at a time, if nobody else has it; see [`turn`].
    pub fn try_turn(&self) -> Option<OwnedMutexGuard<()>> {
        self.gate.clone().try_lock_owned().ok()
    }
}

/// Waits for the turn of a client, which goes on with something plain in the meantime; the turn ends when it is dropped.
#[macro_export]
macro_rules! turn {
    ($client:expr, $plain:expr) => {
        loop {
            $plain.await?;
            if let Some(turn) = $client.try_turn() {
                break turn;
            }
            $crate::pause().await;
        }
    };
}

/// Checks that something comes true while the feature lasts.
#[macro_export]
macro_rules! until {
    ($client:expr, $holds:expr) => {{
        while !$holds {
            $crate::pause().await;
        }
        $client.check(true, "")?;
    }};
}

/// Between two looks at the same thing.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// What the names of everything made in the database begin with.
pub fn prefix() -> String {
    env::var("PREFIX").expect("PREFIX is set")
}

fn shortened(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.len()),
        None => text,
    }
}

type Run = Box<dyn Fn(Arc<Client>) -> Pin<Box<dyn Future<Output = Proof> + Send>>>;

/// One thing a driver can do; `run` does it with the connections of one client.
pub struct Feature {
    pub name: String,
    pub run: Run,
}

/// The features that are these functions, named after them.
#[macro_export]
macro_rules! features {
    ($($function:path),* $(,)?) => {
        vec![$($crate::Feature {
            name: stringify!($function).rsplit("::").next().unwrap().trim().replace('_', "-"),
            run: Box::new(|client| Box::pin(async move { $function(&client).await })),
        }),*]
    };
}

async fn prove(feature: &Feature, clients: i32) -> Proof<usize> {
    let gate = Arc::new(Mutex::new(()));
    let mut everybody = JoinSet::new();
    let mut those = Vec::new();
    for number in 0..clients {
        let client = Arc::new(Client { number, checks: AtomicUsize::new(0), gate: gate.clone() });
        those.push(client.clone());
        let run = (feature.run)(client);
        everybody.spawn(async move { run.await.map_err(|failure| Failure(format!("client {number}: {}", failure.0))) });
    }
    // The first failure ends all of them, and so does impatience: what is left of the set is aborted.
    let all = async {
        while let Some(ended) = everybody.join_next().await {
            ended??;
        }
        Ok(())
    };
    let outcome =
        tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| Err(Failure("not all clients came to an end".into())));
    everybody.shutdown().await;
    outcome?;
    Ok(those.iter().map(|client| client.checks.load(Ordering::Relaxed)).sum())
}

/// Proves the features in order, or only those named on the command line.
pub fn run(tidy: impl AsyncFn() -> Proof, features: Vec<Feature>) {
    let clients = env::var("CLIENTS").expect("CLIENTS is set").parse().expect("CLIENTS is a number");
    let wanted: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        tidy().await.expect("what an earlier run left behind can be dropped");
        for feature in features {
            if !wanted.is_empty() && !wanted.contains(&feature.name) {
                continue;
            }
            let begun = Instant::now();
            match prove(&feature, clients).await {
                Ok(checks) => println!("ok {} {checks}", feature.name),
                Err(failure) => println!("not ok {} {}", feature.name, failure.0.replace('\n', " ")),
            }
            eprintln!("{} took {:?}", feature.name, begun.elapsed());
        }
        tidy().await.expect("what was made can be dropped");
    });
    println!("done");
}

/// A statement that drops whatever an earlier run left behind.
pub fn tidying() -> String {
    "DO $$
    DECLARE statement text;
    BEGIN
      FOR statement IN
        SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace WHERE starts_with(nspname, 'PREFIX')
        UNION ALL
        SELECT format('DROP TABLE %I CASCADE', tablename) FROM pg_tables
          WHERE schemaname = 'public' AND starts_with(tablename, 'PREFIX')
        UNION ALL
        SELECT format('DROP TYPE %I CASCADE', typname) FROM pg_type
          WHERE typnamespace = 'public'::regnamespace AND starts_with(typname, 'PREFIX')
            AND (typtype = 'e' OR typtype = 'c' AND (SELECT relkind FROM pg_class WHERE oid = typrelid) = 'c')
      LOOP
        EXECUTE statement;
      END LOOP;
    END $$"
        .replace("PREFIX", &prefix())
}
