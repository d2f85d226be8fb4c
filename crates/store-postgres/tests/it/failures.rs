//! The server or a connection to it fails: nothing acknowledged is lost, nothing refused is there,
//! and what is unknown is said to be.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use intended_ledger::{Frontier, leaf_hash};
use intended_model::{TenantId, Timestamp};
use intended_store::{Commit, Committed, MAX_QUEUE_BYTES, NewEntry, Store, StoreError, StoredEntry, Write};
use intended_store_postgres::PostgresStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::server::Server;

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn nothing() -> Commit {
    Commit {
        tenant: acme(),
        now: Timestamp::from_millis(1),
        control_version: None,
        reads: Vec::new(),
        writes: Vec::new(),
        entries: Vec::new(),
    }
}

fn entry(n: u64) -> NewEntry {
    NewEntry { kind: "test".into(), control: false, subject: None, body: format!("{{\"n\":{n}}}").into() }
}

fn appending(n: u64) -> Commit {
    let writes = vec![Write::Add { key: "count".into(), n: 1, max: i64::MAX, expires_at: None }];
    Commit { writes, entries: vec![entry(n)], ..nothing() }
}

async fn store(server: &Server) -> Arc<PostgresStore> {
    let store = Arc::new(PostgresStore::open(&server.url("public")).await.unwrap());
    store.create_tenant(&acme()).await.unwrap();
    store
}

/// The ledger, whole, with as many entries as the counter says.
async fn ledger(store: &PostgresStore) -> Vec<StoredEntry> {
    // Behind whatever is still under way.
    store.commit(nothing()).await.unwrap();
    let head = store.head(&acme()).await.unwrap();
    let entries = store.entries(&acme(), 0, usize::MAX).await.unwrap();
    let mut frontier = Frontier::empty();
    for entry in &entries {
        frontier.push(leaf_hash(&entry.leaf));
    }
    assert_eq!((frontier.size(), frontier.root()), (head.size, head.root));
    assert_eq!(store.counter_now(&acme(), "count"), Ok(entries.len() as i64));
    entries
}

fn says(entries: &[StoredEntry], n: u64) -> bool {
    entries.iter().any(|e| String::from_utf8_lossy(&e.leaf).contains(&format!("{{\"n\":{n}}}")))
}

type Told = Vec<(u64, Result<Committed, StoreError>)>;

/// Holds the ledger against what was told of each commit.
fn hold(entries: &[StoredEntry], told: &Told) {
    for (n, outcome) in told {
        match outcome {
            Ok(committed) => assert_eq!(entries[committed.first_index as usize].leaf, committed.leaves[0], "{n}"),
            Err(StoreError::Stopped(_)) => {}
            Err(error) => assert!(!says(entries, *n), "{n} is there, although {error}"),
        }
    }
}

/// Four writers, each committing until it is told to stop.
fn writers(store: &Arc<PostgresStore>, stop: &Arc<AtomicBool>) -> tokio::task::JoinSet<Told> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (store, stop) = (Arc::clone(store), Arc::clone(stop));
        tasks.spawn(async move {
            let mut told = Vec::new();
            for n in (writer..).step_by(4) {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let outcome = store.commit(appending(n)).await;
                if outcome.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                told.push((n, outcome));
            }
            told
        });
    }
    tasks
}

fn numbers(text: &str) -> Vec<&str> {
    text.split(',').filter(|pid| !pid.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_nothing_and_leave_nothing() {
    let server = Server::start(&["fsync=off"]).await;
    let store = store(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = writers(&store, &stop);
    for round in 0..60 {
        tokio::time::sleep(Duration::from_millis(11 + round % 7 * 5)).await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        server.admin(cut).await.unwrap();
    }
    stop.store(true, Ordering::Release);
    let told = tasks.join_all().await.concat_told();
    let (good, bad) = (told.iter().filter(|(_, o)| o.is_ok()).count(), told.iter().filter(|(_, o)| o.is_err()).count());
    assert!(good > 20 && bad > 0, "{good} acknowledged, {bad} not");
    // The server was there all the time, so nothing was left open.
    assert!(!told.iter().any(|(_, o)| matches!(o, Err(StoreError::Stopped(_)))));
    hold(&ledger(&store).await, &told);
}

trait Concat {
    fn concat_told(self) -> Told;
}

impl Concat for Vec<Told> {
    fn concat_told(self) -> Told {
        self.into_iter().flatten().collect()
    }
}

/// Terminates the backend that waits for `event`, once it does.
async fn terminate(server: &Server, event: &str) {
    let waiting = format!("SELECT count(pid)::text FROM pg_stat_activity WHERE wait_event = '{event}'");
    let started = Instant::now();
    while server.ask(&waiting).await == "0" {
        assert!(started.elapsed() < Duration::from_secs(8), "nobody waits for {event}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let text = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = '{event}'");
    server.admin(&text).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_during_the_commit_is_asked_about() {
    let server = Server::start(&["fsync=off"]).await;
    let store = store(&server).await;
    let commit = |n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit(appending(n)).await })
    };
    commit(0).await.unwrap().unwrap();

    // Before the server has committed: a trigger sleeps at the beginning of the commit.
    server
        .admin(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'; \
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON entries DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await
        .unwrap();
    let waiting = commit(1);
    terminate(&server, "PgSleep").await;
    let outcome = waiting.await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    server.admin("DROP TRIGGER slow ON entries").await.unwrap();
    assert_eq!(ledger(&store).await.len(), 1, "nothing of it is there");

    // After it has, while it waits for a standby: acknowledged, once the server vouches for it.
    let standby = async |name: &str| {
        server.admin(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await.unwrap();
        server.admin("SELECT pg_reload_conf()").await.unwrap();
    };
    standby("nobody").await;
    let waiting = commit(2);
    terminate(&server, "SyncRep").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished(), "no standby has it");
    standby("").await;
    let acknowledged = waiting.await.unwrap().unwrap();
    let entries = ledger(&store).await;
    assert_eq!(entries[acknowledged.first_index as usize].leaf, acknowledged.leaves[0]);
    assert_eq!(entries.len(), 2);

    // And unknown, if it does not in time. The engine goes on, and reading tells.
    standby("nobody").await;
    let waiting = commit(3);
    terminate(&server, "SyncRep").await;
    let outcome = waiting.await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Stopped(_))), "{outcome:?}");
    assert!(!store.health().await.writable);
    standby("").await;
    let entries = ledger(&store).await;
    assert!(says(&entries, 3) && entries.len() == 3);
    assert!(store.health().await.writable);

    // An error at the commit that leaves the session is a refusal, at once.
    server
        .admin(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE disk_full; END'; \
             CREATE CONSTRAINT TRIGGER no AFTER INSERT ON entries DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION no()",
        )
        .await
        .unwrap();
    let outcome = commit(4).await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Full(_))), "{outcome:?}");
    server.admin("DROP TRIGGER no ON entries").await.unwrap();
    commit(5).await.unwrap().unwrap();
    assert_eq!(ledger(&store).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_comes_back_with_everything_acknowledged() {
    let mut server = Server::start(&["fsync=on", "wal_writer_delay=10s"]).await;
    let store = store(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = writers(&store, &stop);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.restart().await;
    }
    // The engine is the same all the time, and goes on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = store.head(&acme()).await.unwrap().size;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Release);
    let told = tasks.join_all().await.concat_told();
    let entries = ledger(&store).await;
    assert!(entries.len() as u64 > before, "it does not go on");
    hold(&entries, &told);
    assert!(told.iter().filter(|(_, o)| o.is_ok()).count() > 50);
    assert!(told.iter().any(|(_, o)| o.is_err()), "no kill came amid a commit");

    // While there is no server, what was under way stays unknown or is refused, in bounded time.
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.commit(appending(1_000_000)).await }
    });
    server.kill();
    let outcome = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
    server.restart().await;
    hold(&ledger(&store).await, &vec![(1_000_000, outcome)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_silence_do_not_stop_the_writer() {
    let server = Server::start(&["fsync=off"]).await;
    let store = store(&server).await;
    let plain = |n| Commit { entries: vec![entry(n)], ..nothing() };
    store.commit(plain(0)).await.unwrap();

    // Every reader waits for a lock, and more wait for a connection.
    let url = server.url("public");
    let (locker, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    locker.batch_execute("BEGIN; LOCK TABLE facts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = Arc::clone(&store);
        reads.spawn(async move { store.facts(&acme(), "", "", 10).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let written = tokio::time::timeout(Duration::from_secs(3), store.commit(plain(1))).await;
    written.expect("the writer waits for readers").unwrap();

    // What waits is bounded by weight: the first of these is held up, the others do not fit behind it.
    let heavy = || {
        let body = "x".repeat(MAX_QUEUE_BYTES / 4);
        let body = NewEntry { body: format!("\"{body}\"").into(), ..entry(0) };
        Commit { reads: vec![("held up".into(), 1)], entries: vec![body], ..nothing() }
    };
    let mut queue = tokio::task::JoinSet::new();
    for n in 0..6 {
        let store = Arc::clone(&store);
        queue.spawn(async move { store.commit(heavy()).await.map(|_| ()) });
        tokio::time::sleep(Duration::from_millis(if n == 0 { 300 } else { 20 })).await;
    }
    let refused = queue.join_next().await.unwrap().unwrap();
    assert_eq!(refused, Err(StoreError::Overloaded));
    locker.batch_execute("COMMIT").await.unwrap();
    for outcome in queue.join_all().await {
        assert!(matches!(outcome, Err(StoreError::Conflict(_) | StoreError::Overloaded)), "{outcome:?}");
    }
    reads.join_all().await;
    drop(locker);
    let _ = connection.await;
    store.commit(plain(2)).await.unwrap();

    // The server's side of every connection falls silent; new ones are answered.
    let ours = "SELECT coalesce(string_agg(pid::text, ','), '') FROM pg_stat_activity \
                WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let ours = server.ask(ours).await;
    assert!(!numbers(&ours).is_empty());
    assert!(Command::new("kill").arg("-STOP").args(numbers(&ours)).status().unwrap().success());
    let started = Instant::now();
    let reading = tokio::task::spawn_blocking({
        let store = Arc::clone(&store);
        move || store.fact_now(&acme(), "a")
    });
    let outcome = store.commit(plain(3)).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert!(matches!(reading.await.unwrap(), Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(20));
    store.commit(plain(4)).await.unwrap();
    assert_eq!(store.fact_now(&acme(), "a"), Ok(None));
    let _ = Command::new("kill").arg("-CONT").args(numbers(&ours)).status();
    let entries = store.entries(&acme(), 0, 99).await.unwrap();
    assert!(!says(&entries, 3) && says(&entries, 4) && entries.len() == 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purging_waits_for_no_writer_and_settings_are_held() {
    let server = Server::start(&["fsync=off", "synchronous_commit=local"]).await;
    let store = store(&server).await;
    let expired = |n| Write::Put {
        key: format!("old/{n}").into(),
        value: Vec::new(),
        expires_at: Some(Timestamp::from_millis(1)),
    };
    store.commit(Commit { writes: (0..1_700).map(expired).collect(), ..nothing() }).await.unwrap();
    server
        .admin(
            "CREATE TABLE pieces (size bigint); \
             CREATE FUNCTION piece() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO pieces SELECT count(*) FROM gone; RETURN NULL; END'; \
             CREATE TRIGGER piece AFTER DELETE ON facts REFERENCING OLD TABLE AS gone \
             FOR EACH STATEMENT EXECUTE FUNCTION piece()",
        )
        .await
        .unwrap();
    let url = server.url("public");
    let (locker, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    locker.batch_execute("BEGIN; SELECT FROM facts WHERE key = 'old/7' FOR UPDATE").await.unwrap();
    let purging = store.purge_expired(Timestamp::from_millis(2));
    let purged = tokio::time::timeout(Duration::from_secs(5), purging).await.expect("it waits for a lock");
    assert_eq!(purged, Ok(1_699));
    assert_eq!(server.ask("SELECT max(size) || ' in ' || count(*) FROM pieces").await, "500 in 4");
    locker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(store.purge_expired(Timestamp::from_millis(2)).await, Ok(1));

    // The server's default is weaker than what is promised: the engine's sessions do not have it.
    server
        .admin(
            "CREATE TABLE seen (setting text); \
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO seen VALUES (current_setting(''synchronous_commit'')); RETURN NULL; END'; \
             CREATE TRIGGER see AFTER INSERT ON entries FOR EACH ROW EXECUTE FUNCTION see()",
        )
        .await
        .unwrap();
    store.commit(Commit { entries: vec![entry(0)], ..nothing() }).await.unwrap();
    assert_eq!(server.ask("SELECT string_agg(DISTINCT setting, ',') FROM seen").await, "on");
    drop(locker);
    let _ = connection.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_commits_are_refused_is_not_written() {
    let server = Server::start(&["fsync=off"]).await;
    let store = store(&server).await;
    let other = TenantId::new("other").unwrap();
    store.create_tenant(&other).await.unwrap();
    let heads = "SELECT string_agg(name || xmin::text, ' ' ORDER BY name) FROM heads";
    let before = server.ask(heads).await;
    let (locker, connection) = tokio_postgres::connect(&server.url("public"), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    locker.batch_execute("BEGIN; SELECT FROM heads FOR UPDATE").await.unwrap();
    // The first is held up, so that the next two share a batch.
    let mut tasks = tokio::task::JoinSet::new();
    let refused = Commit { tenant: other, control_version: Some(7), ..nothing() };
    for commit in [refused.clone(), appending(0), refused] {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.commit(commit).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    locker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(tasks.join_all().await.iter().filter(|ok| **ok).count(), 1);
    let after = server.ask(heads).await;
    let (before, after): (Vec<_>, Vec<_>) = (before.split(' ').collect(), after.split(' ').collect());
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1]);
    drop(locker);
    let _ = connection.await;
}

/// What becomes of the next commit on its way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Passed,
    /// The server has it; the client is told that the session is over.
    Fatal,
    /// The server has it; the client hears nothing.
    Silent,
    /// The server never has it, and both connections end.
    Lost,
}

/// Stands before the server's socket as a pooler does, and gives one commit its fate.
async fn proxy(server: PathBuf, front: UnixListener, fate: Arc<Mutex<Fate>>) {
    while let Ok((client, _)) = front.accept().await {
        tokio::spawn(carry(client, server.clone(), Arc::clone(&fate)));
    }
}

async fn carry(mut client: UnixStream, server: PathBuf, fate: Arc<Mutex<Fate>>) {
    let mut server = UnixStream::connect(server).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let n = tokio::select! {
            n = client.read(&mut asked) => n.unwrap_or(0),
            n = server.read(&mut answered) => match n {
                Ok(n) if n > 0 => {
                    client.write_all(&answered[..n]).await.unwrap();
                    continue;
                }
                _ => return,
            },
        };
        let commit = asked[..n].windows(7).any(|w| w == b"COMMIT\0");
        let fate = if commit { std::mem::replace(&mut *fate.lock().unwrap(), Fate::Passed) } else { Fate::Passed };
        if n == 0 || fate == Fate::Lost {
            return;
        }
        server.write_all(&asked[..n]).await.unwrap();
        if fate != Fate::Passed {
            // The server has answered, and the client does not hear it.
            server.read_exact(&mut answered[..1]).await.unwrap();
            if fate == Fate::Fatal {
                let fields = b"SFATAL\0VFATAL\0C08P01\0Mserver conn crashed?\0\0";
                client.write_all(b"E").await.unwrap();
                client.write_all(&(fields.len() as u32 + 4).to_be_bytes()).await.unwrap();
                client.write_all(fields).await.unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_answered_with_what_became_of_it() {
    let server = Server::start(&["fsync=off"]).await;
    let front = tempfile::tempdir_in("/tmp").unwrap();
    let listener = UnixListener::bind(front.path().join(".s.PGSQL.5432")).unwrap();
    let fate = Arc::new(Mutex::new(Fate::Passed));
    let proxy = tokio::spawn(proxy(server.directory().join(".s.PGSQL.5432"), listener, Arc::clone(&fate)));
    let url = format!("host={} user=postgres dbname=postgres", front.path().display());
    let store = PostgresStore::open(&url).await.unwrap();
    store.create_tenant(&acme()).await.unwrap();
    let only_facts = |n: u64| Commit {
        writes: vec![Write::Put { key: format!("f/{n}").into(), value: vec![1], expires_at: None }],
        ..nothing()
    };
    let mut told = Told::new();
    for (n, its) in (0..).zip([Fate::Passed, Fate::Fatal, Fate::Lost, Fate::Silent, Fate::Passed]) {
        *fate.lock().unwrap() = its;
        let started = Instant::now();
        let outcome = store.commit(appending(n)).await;
        match (its, &outcome) {
            (Fate::Lost, Err(StoreError::Unavailable(_))) => {}
            (Fate::Passed | Fate::Fatal | Fate::Silent, Ok(_)) => {}
            _ => panic!("{its:?}: {outcome:?}"),
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{its:?} took {:?}", started.elapsed());
        assert_eq!(*fate.lock().unwrap(), Fate::Passed, "no commit came by");
        told.push((n, outcome));
    }
    // Also when there is no entry to know it by; and one that leaves no trace is unknown.
    *fate.lock().unwrap() = Fate::Fatal;
    store.commit(only_facts(1)).await.unwrap();
    *fate.lock().unwrap() = Fate::Lost;
    assert!(matches!(store.commit(only_facts(2)).await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.facts(&acme(), "f/", "", 9).await.unwrap().len(), 1);
    *fate.lock().unwrap() = Fate::Fatal;
    assert!(matches!(store.commit(nothing()).await, Err(StoreError::Stopped(_))));
    hold(&ledger(&store).await, &told);
    proxy.abort();
}
