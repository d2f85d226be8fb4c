//! A server that a test starts and stops.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server of its own in a temporary directory, reached through a socket there.
pub struct Server {
    process: Child,
    directory: tempfile::TempDir,
    settings: Vec<String>,
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
    /// A server with these settings, ready.
    pub async fn start(settings: &[&str]) -> Self {
        let bin = binaries();
        let directory = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        if let Some(user) = user() {
            let changed = Command::new("chown").arg(user).arg(directory.path()).status().unwrap();
            assert!(changed.success());
        }
        let made = command(&bin.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(directory.path().join("data"))
            .current_dir("/")
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
        let process = Self::run(&directory, &settings);
        let server = Self { process, directory, settings };
        server.ready().await;
        server
    }

    fn run(directory: &tempfile::TempDir, settings: &[String]) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(directory.path().join("log")).unwrap();
        command(&binaries().join("postgres"))
            .arg("-D")
            .arg(directory.path().join("data"))
            .arg("-k")
            .arg(directory.path())
            .args(["-c", "listen_addresses=", "-c", "max_connections=60"])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Kills the server and every process of it, as a crash of its machine would.
    pub fn kill(&mut self) {
        let of = self.process.id().to_string();
        let child = |pid: &String| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|parent| parent.trim() == of))
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|d| d.file_name().into_string().unwrap());
        let children: Vec<String> = processes.filter(child).collect();
        // The first to go is the parent: it would start the others again.
        self.process.kill().unwrap();
        let _ = Command::new("kill").arg("-KILL").args(&children).stderr(Stdio::null()).status();
        self.process.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        self.process = Self::run(&self.directory, &self.settings);
        self.ready().await;
    }

    /// Where its socket is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A connection string for one schema of the server.
    pub fn url(&self, schema: &str) -> String {
        let socket = self.directory.path().display();
        format!("host={socket} user=postgres dbname=postgres options='-c search_path={schema}'")
    }

    pub async fn admin(&self, text: &str) -> Result<(), String> {
        let connected = tokio_postgres::connect(&self.url("public"), tokio_postgres::NoTls).await;
        let (client, connection) = connected.map_err(|e| e.to_string())?;
        let task = tokio::spawn(connection);
        let done = client.batch_execute(text).await.map_err(|e| e.to_string());
        drop(client);
        let _ = task.await;
        done
    }

    /// A single value that the server answers, as text.
    pub async fn ask(&self, text: &str) -> String {
        let (client, connection) = tokio_postgres::connect(&self.url("public"), tokio_postgres::NoTls).await.unwrap();
        let task = tokio::spawn(connection);
        let answer = client.query_one(text, &[]).await.unwrap().get(0);
        drop(client);
        let _ = task.await;
        answer
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
