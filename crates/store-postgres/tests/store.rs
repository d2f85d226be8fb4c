//! The engine keeps the contract's promises, on a server that the test starts and stops.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use intended_store::conformance::{CHECKS, Place};
use intended_store::{BoxFuture, Store};
use intended_store_postgres::PostgresStore;

/// A server of its own in a temporary directory, reached through a socket there.
struct Server {
    process: Child,
    directory: tempfile::TempDir,
}

/// The directory of `initdb` and `postgres`, and whose user may run them.
fn binaries() -> PathBuf {
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let asked = asked.map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim()));
    let mut installed: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|d| d.path().join("bin"))
        .collect();
    installed.sort();
    let mut places = asked.into_iter().chain(["/usr/local/bin".into()]).chain(installed.into_iter().rev());
    places
        .find(|place| place.join("initdb").is_file() && place.join("postgres").is_file())
        .expect("no PostgreSQL server found: install the package `postgresql` (test.sh does)")
}

/// The program, run by a user that is not root: the server refuses to be root's. It is killed when
/// the test dies.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user() {
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    }
    command.arg(program);
    command
}

/// Whom to become: nobody else, unless this is root.
fn user() -> Option<&'static str> {
    let output = |args: &[&str]| Command::new("id").args(args).output().ok().filter(|o| o.status.success());
    let root = output(&["-u"]).is_some_and(|o| o.stdout.trim_ascii() == b"0");
    let number = |name| output(&["-u", name]).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    let number = root.then(|| number("postgres").or_else(|| number("nobody")).unwrap_or_else(|| "65534".to_owned()));
    number.map(|n| &*n.leak())
}

impl Server {
    fn start() -> Self {
        let bin = binaries();
        let directory = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        if let Some(user) = user() {
            let changed = Command::new("chown").arg(user).arg(directory.path()).status().unwrap();
            assert!(changed.success());
        }
        let data = directory.path().join("data");
        let made = command(&bin.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = command(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, directory }
    }

    /// A connection string for one schema of the server.
    fn url(&self, schema: &str) -> String {
        let socket = self.directory.path().display();
        format!("host={socket} user=postgres dbname=postgres options='-c search_path={schema}'")
    }

    async fn admin(&self, text: &str) -> Result<(), String> {
        let connected = tokio_postgres::connect(&self.url("public"), tokio_postgres::NoTls).await;
        let (client, connection) = connected.map_err(|e| e.to_string())?;
        let task = tokio::spawn(connection);
        let done = client.batch_execute(text).await.map_err(|e| e.to_string());
        drop(client);
        let _ = task.await;
        done
    }

    async fn ready(&self) {
        for _ in 0..300 {
            if self.admin("SELECT 1").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not start: {}", std::fs::read_to_string(self.directory.path().join("log")).unwrap());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown: nothing here is to be kept.
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        for _ in 0..100 {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Schema(String);

impl Place for Schema {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async move { Arc::new(PostgresStore::open(&self.0).await.unwrap()) as Arc<dyn Store> })
    }
}

/// One test, because all checks share one server: starting it takes longer than they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds() {
    let server = Server::start();
    server.ready().await;
    let mut broken = Vec::new();
    for (name, check) in CHECKS {
        server.admin(&format!("CREATE SCHEMA {name}")).await.unwrap();
        let place = Schema(server.url(name));
        let check = tokio::spawn(async move { check(&place).await });
        if let Err(error) = check.await {
            broken.push((name, error.to_string()));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
