//! Processes that end with the test, a client that knows when an answer was whole, a server set up
//! as a user sets one up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Long enough for a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The command, without anything from the environment that would change what it does.
pub fn intended(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_intended"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("INTENDED_") || ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"].contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).env("XDG_CONFIG_HOME", "/no/such/directory");
    command
}

/// A child that is killed when it is let go.
pub struct Owned(pub Child);

impl Owned {
    /// How it ended, if it ends in time.
    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The same, having checked how it ended.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\nstderr:\n{}", self.out, self.err))
    }
}

fn drain(from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut from, mut bytes) = (from, Vec::new());
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs it to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    run_with(command, None)
}

/// The same with something on its standard input.
#[track_caller]
pub fn run_with(command: &mut Command, input: Option<&str>) -> Ran {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = Owned(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let (out, err) = (drain(child.0.stdout.take().unwrap()), drain(child.0.stderr.take().unwrap()));
    if let (Some(text), Some(mut stdin)) = (input, child.0.stdin.take()) {
        let _ = stdin.write_all(text.as_bytes());
    }
    let Some(status) = child.wait(4 * PATIENCE) else { panic!("it does not end: {command:?}") };
    Ran { code: status.code().unwrap_or(-1), out: out.join().unwrap(), err: err.join().unwrap() }
}

/// A running server, or `dev`.
pub struct Server {
    child: Owned,
    pub address: SocketAddr,
    err: Arc<Mutex<String>>,
    out: Arc<Mutex<String>>,
    /// Whether nobody reads what it says any more.
    unread: Arc<AtomicBool>,
}

fn follow(
    from: impl std::io::Read + Send + 'static,
    lines: mpsc::Sender<Option<String>>,
    unread: Arc<AtomicBool>,
) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            kept.lock().unwrap().push_str(&format!("{line}\n"));
            let _ = lines.send(Some(line));
            while unread.load(Ordering::Acquire) {
                std::thread::park();
            }
        }
        let _ = lines.send(None);
    });
    text
}

impl Server {
    /// Starts it; the address is the one that it says.
    pub fn spawn(command: &mut Command) -> Result<Self, Ran> {
        let mut child = Owned(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let (sender, lines) = mpsc::channel();
        let unread = Arc::<AtomicBool>::default();
        let err = follow(child.0.stderr.take().unwrap(), sender.clone(), Arc::clone(&unread));
        let out = follow(child.0.stdout.take().unwrap(), sender, Arc::default());
        let mut ended = 0;
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(Some(line)) => {
                    let address = line.split_once("http://").and_then(|(_, rest)| {
                        rest.split([',', ' ', '/', ')']).next().and_then(|a| a.parse::<SocketAddr>().ok())
                    });
                    if let Some(address) = address {
                        return Ok(Self { child, address, err, out, unread });
                    }
                }
                Ok(None) if ended == 0 => ended += 1,
                Ok(None) => {
                    let code = child.wait(PATIENCE).and_then(|s| s.code()).unwrap_or(-1);
                    let (out, err) = (out.lock().unwrap().clone(), err.lock().unwrap().clone());
                    return Err(Ran { code, out, err });
                }
                Err(_) => panic!("it does not start: {}", err.lock().unwrap()),
            }
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
    /// What it has said so far.
    pub fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }
    pub fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }
    /// From its next line on nobody reads what it says on stderr; the pipe stays open.
    pub fn read_no_more(&self) {
        self.unread.store(true, Ordering::Release);
    }
    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }
    pub fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.0.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }
    /// Asks it to stop and waits for it.
    #[track_caller]
    pub fn stop(self) -> Ran {
        self.signal("TERM");
        self.ended()
    }
    #[track_caller]
    pub fn ended(mut self) -> Ran {
        let Some(status) = self.child.wait(PATIENCE) else { panic!("it does not stop: {}", self.err()) };
        Ran { code: status.code().unwrap_or(-1), out: self.out(), err: self.err() }
    }
}

/// An answer that came whole.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl Reply {
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

/// A caller.
#[derive(Clone)]
pub struct Http {
    pub address: SocketAddr,
    pub key: String,
    pub tenant: String,
}

/// A request on the wire.
fn head(method: &str, path: &str, key: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    head.push_str(&format!("authorization: Bearer {key}\r\n"));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if length > 0 {
        head.push_str(&format!("content-type: application/json\r\ncontent-length: {length}\r\n"));
    }
    head + "\r\n"
}

/// Reads one answer to its end; an answer that broke off is an error.
pub fn read_reply(stream: &mut TcpStream) -> std::io::Result<Reply> {
    let broken = |what: &str| std::io::Error::other(what.to_owned());
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| broken("no head"))?;
    let (head, body) = (String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase(), &bytes[at + 4..]);
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| broken("no status"))?;
    let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
    let length: usize = length.and_then(|l| l.trim().parse().ok()).ok_or_else(|| broken("no length"))?;
    if body.len() != length {
        return Err(broken("the body broke off"));
    }
    let body =
        serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).trim().to_owned()));
    Ok(Reply { status, body })
}

pub fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Http {
    pub fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Reply> {
        let mut stream = connect(self.address)?;
        let (head, body) = self.wire(method, path, body, headers);
        stream.write_all((head + &body).as_bytes())?;
        read_reply(&mut stream)
    }

    /// A request in two parts, head and body.
    pub fn wire(&self, method: &str, path: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> (String, String) {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/v1/tenants/{}/{path}", self.tenant) };
        let body = body.map(Value::to_string).unwrap_or_default();
        (head(method, &path, &self.key, headers, body.len()), body)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None, &[]).unwrap_or_else(|e| panic!("{path}: {e}"))
    }
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body), &[]).unwrap_or_else(|e| panic!("{path}: {e}"))
    }
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, Some(body), &[]).unwrap_or_else(|e| panic!("{path}: {e}"))
    }
}

/// Waits for something to become so.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The tenant of these tests.
pub const TENANT: &str = "acme";
pub const ISSUER: &str = "http://127.0.0.1:7070";
pub const ENVIRONMENTS: [&str; 3] = ["production", "staging", "development"];

/// A data directory and the keys to it.
pub struct Site {
    /// Holds the directory unless it lies elsewhere.
    _held: Option<tempfile::TempDir>,
    pub dir: PathBuf,
    pub owner: String,
    pub operator: String,
    pub agent: String,
    pub vkey: String,
}

pub fn demo_pack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/demo")
}

impl Site {
    /// `init` alone.
    pub fn bare() -> Self {
        let held = tempfile::tempdir().unwrap();
        let dir = held.path().join("data");
        Self { _held: Some(held), ..Self::bare_in(dir) }
    }

    pub fn bare_in(dir: PathBuf) -> Self {
        let text = dir.to_str().unwrap().to_owned();
        let ran = run(&mut intended(&["init", "--data-dir", &text, "--tenant", TENANT, "--issuer", ISSUER]));
        let ran = ran.expect(0);
        assert_eq!(ran.out.lines().count(), 2, "the two keys alone are data: {}", ran.out);
        let vkey = ran.err.lines().find_map(|l| l.strip_prefix("ledger key ")).unwrap().to_owned();
        let key = |n| ran.out.lines().nth(n).unwrap().to_owned();
        Self { _held: None, dir, owner: key(0), operator: key(1), agent: String::new(), vkey }
    }

    /// Set up as a user would: two agents, what they may touch, a policy, a key for the agents.
    pub fn new() -> (Self, Server) {
        Self::bare().set_up()
    }

    pub fn set_up(mut self) -> (Self, Server) {
        let server = self.start().unwrap();
        let owner = self.owner(&server);
        for (agent, team) in [("release-agent", "release"), ("support-agent", "support")] {
            let body = json!({"environments": ENVIRONMENTS, "teams": [team], "trust": 70});
            owner.put(&format!("agents/{agent}"), &body).expect(200);
        }
        for (id, kind) in
            [("shop-repository", "repository"), ("orders", "order"), ("charges", "charge"), ("customers", "customer")]
        {
            let body =
                json!({"resource_type": kind, "pattern": "*", "criticality": "medium", "data_class": "internal"});
            owner.put(&format!("capabilities-registry/{id}"), &body).expect(200);
        }
        for environment in &ENVIRONMENTS[..2] {
            let pack = demo_pack();
            self.cli(&server, &["policy", "deploy", pack.to_str().unwrap(), "-e", environment]).expect(0);
        }
        let body = json!({
            "credential": "agents", "environments": ENVIRONMENTS, "scopes": ["intent:submit", "intent:read", "token:verify"],
        });
        let created = owner.post("credentials", &body).expect(201);
        self.agent = created["key"].as_str().unwrap().to_owned();
        (self, server)
    }

    /// The same keys with another directory.
    pub fn view(&self, dir: PathBuf) -> Self {
        Self {
            _held: None,
            dir,
            owner: self.owner.clone(),
            operator: self.operator.clone(),
            agent: self.agent.clone(),
            vkey: self.vkey.clone(),
        }
    }

    pub fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// Changes a line of the config file.
    pub fn configure(&self, name: &str, value: Option<u64>) {
        let path = self.dir.join("intended.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().filter(|l| !l.starts_with(name)).map(str::to_owned).collect();
        lines.extend(value.map(|v| format!("{name} = {v}")));
        std::fs::write(path, lines.join("\n")).unwrap();
    }

    /// `serve`, or how it refused.
    pub fn start(&self) -> Result<Server, Ran> {
        Server::spawn(&mut intended(&["serve", "--data-dir", self.path(), "--listen", "127.0.0.1:0"]))
    }

    pub fn owner(&self, server: &Server) -> Http {
        Http { address: server.address, key: self.owner.clone(), tenant: TENANT.to_owned() }
    }
    pub fn agent(&self, server: &Server) -> Http {
        Http { address: server.address, key: self.agent.clone(), tenant: TENANT.to_owned() }
    }

    /// A command against the server with the owner's key.
    pub fn command(&self, server: &Server, arguments: &[&str]) -> Command {
        let mut command = intended(arguments);
        command.args(["--server", &server.url(), "--tenant", TENANT]).env("INTENDED_API_KEY", &self.owner);
        command
    }
    #[track_caller]
    pub fn cli(&self, server: &Server, arguments: &[&str]) -> Ran {
        run(&mut self.command(server, arguments))
    }
    /// The same as somebody else.
    #[track_caller]
    pub fn cli_as(&self, server: &Server, key: &str, arguments: &[&str]) -> Ran {
        run(self.command(server, arguments).env("INTENDED_API_KEY", key))
    }
    /// A person who may do everything, and their key.
    pub fn person(&self, server: &Server, name: &str) -> String {
        let owner = self.owner(server);
        let grants = json!([{"role": "owner", "whole": true}]);
        owner.put(&format!("members/{name}"), &json!({"grants": grants, "active": true})).expect(200);
        let scopes = ["emergency:read", "emergency:write"];
        let body = json!({"credential": format!("{name}-key"), "member": name, "scopes": scopes, "whole": true});
        owner.post("credentials", &body).expect(201)["key"].as_str().unwrap().to_owned()
    }
    /// The same, and the answer as data.
    #[track_caller]
    pub fn data(&self, server: &Server, arguments: &[&str]) -> Value {
        self.cli(server, &[arguments, &["-o", "json"]].concat()).expect(0).json()
    }
}

/// Intents that the demo policy decides in each way.
pub mod intents {
    use serde_json::{Value, json};

    pub fn lookup(order: &str) -> Value {
        json!({
            "subject": {"type": "agent", "id": "support-agent"},
            "action": {"name": "orders.get_order", "properties": {"order": order}},
            "resource": {"type": "order", "id": order},
            "environment": "production",
        })
    }
    pub fn refund(amount: u64) -> Value {
        json!({
            "subject": {"type": "agent", "id": "support-agent"},
            "action": {"name": "stripe.create_refund", "properties": {"charge": "ch_1", "amount": amount}},
            "resource": {"type": "charge", "id": "ch_1"},
            "environment": "production",
        })
    }
    pub fn delete() -> Value {
        json!({
            "subject": {"type": "agent", "id": "support-agent"},
            "action": {"name": "crm.delete_customer", "properties": {"customer": "77"}},
            "resource": {"type": "customer", "id": "77"},
            "environment": "production",
        })
    }
    pub fn within(mut intent: Value, environment: &str) -> Value {
        intent["environment"] = environment.into();
        intent
    }
}
