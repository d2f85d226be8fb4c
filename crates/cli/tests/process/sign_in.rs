//! People sign in on the command line: invited, with a password, and with a real identity provider.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Ran, Server, Site, TENANT, intended, run, run_with, until};

const PASSWORD: &str = "tortoise under the lamp";

/// A person at a machine: their own config directory.
struct Person {
    home: tempfile::TempDir,
    server: String,
}

impl Person {
    fn at(server: &Server) -> Self {
        Self { home: tempfile::tempdir().unwrap(), server: server.url() }
    }
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = intended(arguments);
        command.args(["--server", &self.server, "--tenant", TENANT]).env("XDG_CONFIG_HOME", self.home.path());
        command
    }
    fn run(&self, arguments: &[&str], input: &str) -> Ran {
        run_with(&mut self.command(arguments), Some(input))
    }
    fn session(&self) -> PathBuf {
        self.home.path().join("intended/session-default.json")
    }
}

fn invite(site: &Site, server: &Server, name: &str, role: &str) -> String {
    let body = json!({"active": true, "grants": [{"role": role, "whole": true}]});
    site.owner(server).put(&format!("members/{name}"), &body).expect(200);
    let ran = site.cli(server, &["access", "members", "invite", name]).expect(0);
    assert_eq!(ran.out.lines().count(), 1, "the code alone is data: {}", ran.out);
    ran.out.trim().to_owned()
}

#[test]
fn who_is_invited_sets_a_password_signs_in_and_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::bare();
    let server = site.start().unwrap();
    let (code, person) = (invite(&site, &server, "alice", "admin"), Person::at(&server));
    person.run(&["whoami"], "").expect(4);
    let weak = person.run(&["login", "--link"], &format!("{code}\nalice is my name\n")).expect(6);
    assert!(weak.err.contains("sign_in.weak") && !weak.err.contains("alice is my name"), "{}", weak.err);
    person.run(&["login", "--link"], &format!("{code}\n{PASSWORD}\n")).expect(4);
    let code = invite(&site, &server, "alice", "admin");
    let ran = person.run(&["login", "--link"], &format!("{code}\n{PASSWORD}\n")).expect(0);
    assert!(ran.err.contains("signed in as `alice`") && ran.out.is_empty(), "{ran:?}");
    let mode = std::fs::metadata(person.session()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let who = person.run(&["whoami", "-o", "json"], "").expect(0).json();
    assert_eq!((&who["acts_as"], &who["method"]), (&json!("member.alice"), &json!("link")));
    let table = person.run(&["whoami"], "").expect(0).out;
    assert!(table.contains("member.alice in acme") && table.contains("admin in the whole tenant"), "{table}");
    // What the role gives, and no more.
    person.run(&["access", "members", "invite", "nobody"], "").expect(1);
    person.run(&["emergency", "halt", "--reason", "x", "--confirm", TENANT], "").expect(4);
    // Neither to another server nor to another tenant.
    let elsewhere = run(intended(&["whoami", "--server", &server.url(), "--tenant", "other"])
        .env("XDG_CONFIG_HOME", person.home.path()));
    assert!(elsewhere.expect(4).err.contains("credential.missing"));
    person.run(&["logout"], "").expect(0);
    assert!(!person.session().exists());
    person.run(&["whoami"], "").expect(4);
    person.run(&["logout"], "").expect(1);
    let ran = person.run(&["login", "--member", "alice", "--no-input"], &format!("{PASSWORD}\n")).expect(0);
    assert!(!format!("{ran:?}{}{}", server.err(), server.out()).contains(PASSWORD));
    let wrong = person.run(&["login", "--member", "alice"], "not the password at all\n").expect(4);
    assert!(wrong.err.contains("sign_in.failed"), "{}", wrong.err);
    let file = person.home.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let login = ["login", "--member", "alice", "--password-file", file.to_str().unwrap()];
    person.run(&login, "").expect(0);
    for flag in ["--dry-run", "--print-curl"] {
        let said = person.run(&[&login[..], &[flag]].concat(), "").expect(0).out;
        assert!(said.contains("sessions") && !said.contains(PASSWORD), "{said}");
    }
    server.stop().expect(0);
    run(&mut intended(&["verify", site.path()])).expect(0);
}

#[test]
fn the_first_owner_is_invited_when_a_server_is_set_up() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let arguments =
        ["init", "--data-dir", data.to_str().unwrap(), "--tenant", TENANT, "--owner-member", "alice", "-o", "json"];
    let report = run(&mut intended(&arguments)).expect(0).json();
    let server =
        Server::spawn(&mut intended(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]));
    let server = server.unwrap();
    let person = Person::at(&server);
    let code = report["owner_link"].as_str().unwrap();
    person.run(&["login", "--link"], &format!("{code}\n{PASSWORD}\n")).expect(0);
    let who = person.run(&["whoami", "-o", "json"], "").expect(0).json();
    assert_eq!(who["grants"][0]["role"], "owner");
}

/// Where the test command has put the provider.
fn modules() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let modules = target.join("oidc/node_modules");
    assert!(modules.join("oidc-provider").exists(), "npm install --prefix target/oidc oidc-provider@8 (see test.sh)");
    modules
}

/// A browser as far as it takes: cookies, redirects, two forms. Gives where it ended up.
struct Browser(tempfile::TempDir);

impl Browser {
    fn go(&self, arguments: &[&str]) -> (String, String) {
        let jar = self.0.path().join("cookies");
        let mut command = Command::new("curl");
        command.args(["-sS", "-L", "--max-time", "20", "--noproxy", "*", "-w", "\n%{url_effective}"]);
        command.arg("-b").arg(&jar).arg("-c").arg(&jar).args(arguments).stdin(Stdio::null());
        let ran = run(&mut command);
        let (page, url) = ran.out.rsplit_once('\n').unwrap_or_default();
        (page.to_owned(), url.to_owned())
    }
    fn sign_in(&self, authorization_url: &str, who: &str) -> String {
        let (page, _) = self.go(&[authorization_url]);
        let action = |page: &str| {
            let (_, rest) = page.split_once("action=\"").unwrap_or_else(|| panic!("no form: {page}"));
            rest.split('"').next().unwrap().to_owned()
        };
        let (page, _) =
            self.go(&["-d", "prompt=login", "-d", &format!("login={who}"), "-d", "password=any", &action(&page)]);
        self.go(&["-d", "prompt=consent", &action(&page)]).1
    }
}

fn parameter(url: &str, name: &str) -> String {
    let query = url.split_once('?').unwrap_or_else(|| panic!("no query: {url}")).1;
    query.split('&').filter_map(|p| p.split_once('=')).find(|(n, _)| *n == name).unwrap().1.to_owned()
}

#[test]
fn people_sign_in_with_a_real_identity_provider_and_are_what_their_groups_are_mapped_to() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/provider.mjs");
    let mut node = Command::new("node");
    let provider = Server::spawn(node.arg(script).arg(modules()).stdin(Stdio::null())).unwrap();
    let site = Site::bare();
    let path = site.dir.join("intended.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}identity_provider_networks = [\"127.0.0.0/8\", \"::1/128\"]\n")).unwrap();
    let server = site.start().unwrap();
    let body = json!({
        "issuer": provider.url(), "client_id": "intended", "client_secret": "the-client-s-secret",
        "mappings": {"Operators": {"grants": [{"role": "operator", "whole": true}], "groups": ["on-call"]}},
    });
    site.owner(&server).put("identity-providers/corp", &body).expect(200);

    // The command line, with somebody at a browser.
    let person = Person::at(&server);
    let login = |person: &Person, who: &str| {
        let mut command = person.command(&["login", "--provider", "corp"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        std::io::BufRead::read_line(&mut out, &mut url).unwrap();
        Browser(tempfile::tempdir().unwrap()).sign_in(url.trim(), who);
        let ended = child.wait_with_output().unwrap();
        (ended.status.code().unwrap(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (code, err) = login(&person, "alice");
    assert_eq!(code, 0, "{err}\n{}", provider.err());
    let who = person.run(&["whoami", "-o", "json"], "").expect(0).json();
    assert_eq!((&who["member"], &who["method"], &who["name"]), (&json!("alice"), &json!("oidc"), &json!("Alice A.")));
    assert_eq!((&who["grants"][0]["role"], &who["groups"]), (&json!("operator"), &json!(["on-call"])));
    let (code, err) = login(&Person::at(&server), "bob");
    assert!(code != 0 && err.contains("sign_in.provider") && err.contains("groups"), "{code}: {err}");

    // Step by step: a state is good once, and a code too.
    let owner = site.owner(&server);
    let begin = || {
        let body = json!({"redirect_uri": "http://127.0.0.1:9/callback"});
        let begun: Value = owner.post("identity-providers/corp/begin", &body).expect(201);
        let url = Browser(tempfile::tempdir().unwrap()).sign_in(begun["authorization_url"].as_str().unwrap(), "alice");
        assert_eq!(parameter(&url, "state"), begun["state"].as_str().unwrap());
        (begun["state"].clone(), parameter(&url, "code"))
    };
    let finish = |state: &Value, code: &str| {
        let reply = owner.post("identity-providers/corp/finish", &json!({"state": state, "code": code}));
        (reply.status, reply.body["code"].as_str().unwrap_or_default().to_owned())
    };
    let (state, code) = begin();
    assert_eq!(finish(&state, &code).0, 201);
    assert_eq!(finish(&state, &code), (400, "sign_in.state".to_owned()));
    let (fresh, unused) = begin();
    assert_eq!(finish(&fresh, &code), (502, "sign_in.provider".to_owned()), "the code of another sign-in");
    assert_eq!(finish(&json!("made-up"), &unused), (400, "sign_in.state".to_owned()));
    // A code with another's verifier: PKCE.
    let (mine, _) = begin();
    let (_, theirs) = begin();
    assert_eq!(finish(&mine, &theirs), (502, "sign_in.provider".to_owned()));
    until("the log is written", || !server.err().is_empty());
    for secret in ["the-client-s-secret", code.as_str(), theirs.as_str()] {
        assert!(!server.err().contains(secret) && !server.out().contains(secret), "{secret} is in the log");
    }
    server.stop().expect(0);
    run(&mut intended(&["verify", site.path()])).expect(0);
}
