//! `dev`: everything in one process, and the main job shown on real input, through the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use intended_keyring::{ApiKey, KeyKind, RootKey, SystemRng};
use intended_model::decision::DataClass;
use intended_model::entry::{AgentSet, AgentState, BODY_VERSION, Budget, CapabilitySet, Criticality, Scope, Settings};
use intended_model::{CredentialId, Digest, EnvironmentId, ExitCode, Name, TenantId};
use intended_runtime::Runtime;
use intended_runtime::access::CredentialSpec;
use serde_json::{Value, json};

use super::{Outcome, audit, token, verify};
use crate::args::{Dev, Format};
use crate::client::Client;
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{list, note, one, say};
use crate::server::{CONFIG, Limits, ROOT_KEY, Stopping, listen, open, serve, stopped, write_secret};

const TENANT: &str = "demo";
const PACK: [(&str, &str); 3] = [
    ("pack.toml", include_str!("../../../../policies/demo/pack.toml")),
    ("release.cedar", include_str!("../../../../policies/demo/release.cedar")),
    ("support.cedar", include_str!("../../../../policies/demo/support.cedar")),
];

pub async fn run(global: &Global, args: Dev) -> Outcome {
    if global.dry_run {
        return Err(CliError::usage(
            "`intended dev` has no dry run",
            "its data is temporary unless --data-dir is given",
        ));
    }
    if let Some(dir) = args.data_dir.as_ref().filter(|d| d.join(CONFIG).exists()) {
        return Err(CliError::usage(
            format!("{}: `intended init` has set this up, and a demo tenant does not belong in it", dir.display()),
            format!("run it: intended serve --data-dir {}", dir.display()),
        ));
    }
    let mut asked = std::pin::pin!(stopped()?);
    // Before anything is made: a refused address leaves nothing behind.
    let (listener, address) = listen(&args.listen, true).await?;
    let temporary = tempfile::tempdir().map_err(file(std::path::Path::new("temporary directory")))?;
    let dir = args.data_dir.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&dir).map_err(file(&dir))?;
    let root_path = dir.join(ROOT_KEY);
    let root = if root_path.exists() {
        RootKey::parse(&std::fs::read_to_string(&root_path).map_err(file(&root_path))?)
    } else {
        RootKey::generate(&SystemRng::default())
    };
    let root = root.map_err(|e| CliError::Usage(format!("{}: {e}", root_path.display()), None))?;
    if !root_path.exists() {
        write_secret(&root_path, &format!("{}\n", &*root.expose()))?;
    }
    let issuer = format!("http://{address}");
    let runtime = open(&dir, root, &issuer, None).await?;
    let keys = set_up(&runtime, &dir).await?;
    // A receiver to try it with runs on the same machine.
    crate::server::send_webhooks(&runtime, vec![ipnet::IpNet::from(std::net::IpAddr::from([127, 0, 0, 1]))])?;
    let here = [std::net::IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
    runtime.reach_providers(intended_runtime::webhooks::Reach::new(here.map(ipnet::IpNet::from).into()));
    runtime.operated_by(Some(Digest::of(keys.operator.as_bytes())));
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let app = intended_api::App::new(Arc::clone(&runtime));
    let stop_quickly = Stopping { drain: Duration::from_millis(50), finish: Duration::from_secs(2) };
    let data = dir.clone();
    let running = tokio::spawn(async move {
        let stop = async move {
            let _ = stopping.await;
        };
        serve(listener, app, Limits::default(), stop_quickly, &data, None, stop).await
    });
    let shown = tokio::select! {
        shown = show(global, &issuer, &keys) => shown,
        () = &mut asked => Err(CliError::Failed("interrupted".to_owned(), ExitCode::Interrupted)),
    };
    if let Ok(true) = shown
        && !args.once
    {
        if global.output == Format::Table {
            hint(&issuer, &keys.agent, &dir);
        } else {
            note(&format!("API at {issuer}, keys in {}", dir.display()));
        }
        asked.await;
        note("\nstopping");
    }
    let _ = stop.send(());
    running.await.map_err(|e| CliError::Failed(e.to_string(), ExitCode::Unavailable))??;
    Ok(if shown? { ExitCode::Ok } else { ExitCode::VerificationFailed })
}

struct Keys {
    owner: String,
    agent: String,
    operator: String,
}

fn name<T>(parsed: Result<T, intended_model::NameError>) -> Result<T, CliError> {
    parsed.map_err(|e| CliError::Usage(e.to_string(), None))
}

/// The demo tenant: three environments, two agents, what they may touch, and a policy pack.
async fn set_up(runtime: &Runtime, dir: &std::path::Path) -> Result<Keys, CliError> {
    let tenant = name(TenantId::new(TENANT))?;
    let (owner_file, agent_file, operator_file) =
        (dir.join("owner.key"), dir.join("agent.key"), dir.join("operator.key"));
    let operator = || {
        let key = ApiKey::generate(&SystemRng::default(), KeyKind::Operator)
            .map_err(|e| CliError::Usage(e.to_string(), None))?;
        write_secret(&operator_file, key.expose())?;
        Ok::<_, CliError>(key.expose().to_owned())
    };
    if runtime.tenant(&tenant).is_some() {
        let read =
            |path: &std::path::Path| std::fs::read_to_string(path).map(|t| t.trim().to_owned()).map_err(file(path));
        // One that was set up before there was an operator has none yet.
        let operator = match read(&operator_file) {
            Ok(key) => key,
            Err(_) if !operator_file.exists() => operator()?,
            Err(error) => return Err(error),
        };
        return Ok(Keys { owner: read(&owner_file)?, agent: read(&agent_file)?, operator });
    }
    let refunds = Budget {
        agent: None,
        amount: Some("amount".into()),
        id: name(Name::new("refunds-per-day"))?,
        limit: 500_000,
        per_agent: true,
        tool: Some("stripe.create_refund".into()),
        window_secs: 86_400,
    };
    let mut environments = super::serve::environments()?;
    for (_, _, settings) in &mut environments {
        *settings = Settings { budgets: vec![refunds.clone()], ..Settings::default() };
    }
    let bootstrap = runtime.create_tenant(&tenant, &environments).await?;
    let owner = runtime.authenticate(&bootstrap.owner.key)?;
    let all: Vec<EnvironmentId> = environments.iter().map(|(e, _, _)| e.clone()).collect();
    for (agent, team, trust) in DEMO_AGENTS {
        let event = AgentSet {
            agent: agent.into(),
            by: owner.credential.clone(),
            environments: all.clone(),
            kind: "agent".into(),
            owner: "platform".into(),
            state: AgentState::Active,
            teams: vec![name(Name::new(team))?],
            trust,
            categories: Vec::new(),
            purpose: Box::default(),
            tools: Vec::new(),
            workflow: Vec::new(),
            v: BODY_VERSION,
        };
        runtime.set_agent(&owner, event).await?;
    }
    for (id, kind, pattern, criticality, data_class) in [
        ("shop-repository", "repository", "acme/shop", Criticality::High, DataClass::Internal),
        ("orders", "order", "*", Criticality::Medium, DataClass::Confidential),
        ("charges", "charge", "*", Criticality::High, DataClass::Confidential),
        ("customers", "customer", "*", Criticality::Critical, DataClass::Restricted),
    ] {
        let event = CapabilitySet {
            active: true,
            by: owner.credential.clone(),
            capability: name(Name::new(id))?,
            criticality,
            data_class,
            environment: None,
            owner: "platform".into(),
            pattern: pattern.into(),
            resource_type: kind.into(),
            v: BODY_VERSION,
        };
        runtime.set_capability(&owner, event).await?;
    }
    let files: BTreeMap<String, String> = PACK.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    for environment in &all {
        runtime.deploy_pack(&owner, environment, files.clone()).await?;
    }
    let spec = CredentialSpec {
        actions: Vec::new(),
        // Whoever has this key is one of these, and nobody else.
        agents: DEMO_AGENTS.iter().map(|(agent, ..)| (*agent).into()).collect(),
        networks: Vec::new(),
        credential: name(CredentialId::new("agents"))?,
        environments: all,
        // Whoever acts does not also say what came of it: tokens are used by who enforces them.
        scopes: vec![Scope::IntentSubmit, Scope::IntentRead],
        expires_at: None,
        live: true,
        member: None,
        whole: false,
    };
    let agents = runtime.create_credential(&owner, spec).await?;
    write_secret(&owner_file, &bootstrap.owner.key)?;
    write_secret(&agent_file, &agents.key)?;
    Ok(Keys { owner: bootstrap.owner.key, agent: agents.key, operator: operator()? })
}

/// The agents of the demo: id, team, trust.
const DEMO_AGENTS: [(&str, &str, u8); 2] = [("release-agent", "release", 80), ("support-agent", "support", 60)];

/// The shipped example intents.
fn examples() -> Vec<(&'static str, Value)> {
    let intent = |agent: &str, environment: &str, tool: &str, properties: Value, kind: &str, id: &str, goal: &str| {
        json!({
            "subject": {"type": "agent", "id": agent},
            "action": {"name": tool, "properties": properties},
            "resource": {"type": kind, "id": id},
            "environment": environment,
            "goal": goal,
            "session": format!("demo-{agent}"),
        })
    };
    let release = |environment: &str, tool: &str, properties: Value| {
        intent(
            "release-agent",
            environment,
            tool,
            properties,
            "repository",
            "acme/shop",
            "Release version 1.4.0 of the shop",
        )
    };
    let support = |tool: &str, properties: Value, kind: &str, id: &str| {
        intent("support-agent", "production", tool, properties, kind, id, "Help customer 77 with order 1042")
    };
    vec![
        ("read a repository", release("production", "github.get_file_contents", json!({"path": "CHANGELOG.md"}))),
        (
            "open a pull request",
            release(
                "production",
                "github.create_pull_request",
                json!({"title": "Release 1.4.0", "base": "main", "head": "release"}),
            ),
        ),
        (
            "dispatch a release to staging",
            release("staging", "github.run_workflow", json!({"workflow": "release.yml", "ref": "v1.4.0"})),
        ),
        (
            "dispatch a release to production",
            release("production", "github.run_workflow", json!({"workflow": "release.yml", "ref": "v1.4.0"})),
        ),
        ("look up an order", support("orders.get_order", json!({"order": "1042"}), "order", "1042")),
        ("refund 40", support("stripe.create_refund", json!({"charge": "ch_1042", "amount": 40}), "charge", "ch_1042")),
        (
            "refund 4,000",
            support("stripe.create_refund", json!({"charge": "ch_1042", "amount": 4000}), "charge", "ch_1042"),
        ),
        ("delete a customer", support("crm.delete_customer", json!({"customer": "77"}), "customer", "77")),
    ]
}

/// Does the main job and shows it. Whether everything held.
async fn show(global: &Global, server: &str, keys: &Keys) -> Result<bool, CliError> {
    let wait = Duration::from_secs(global.timeout);
    let agent = Client::with(server, TENANT, Some(keys.agent.clone()), wait)?;
    let owner = Client::with(server, TENANT, Some(keys.owner.clone()), wait)?;
    let mut rows = Vec::new();
    let mut allowed = None;
    for (title, intent) in examples() {
        #[expect(clippy::disallowed_methods, reason = "shown to a person")]
        let started = Instant::now();
        let body = agent.call("POST", "intents", Some(&intent), &[]).await?.body;
        let took = started.elapsed();
        let of = |p: &str| body.pointer(p).cloned().unwrap_or_default();
        rows.push(json!({
            "agent": of("/agent"), "intent": title, "environment": of("/environment"), "decision": of("/decision"),
            "reason": of("/reason"), "risk": of("/risk/score"), "id": of("/id"),
            "time": format!("{:.1} ms", took.as_secs_f64() * 1000.0),
        }));
        if allowed.is_none() && body.get("token").is_some() {
            allowed = Some(body);
        }
    }
    let human = global.output == Format::Table;
    if human {
        let columns = ["agent", "intent", "environment", "decision", "reason", "risk", "time"];
        list(global.output, &rows, &columns.map(|c| (c, c)));
        say("");
    }
    let Some(decision) = allowed else {
        return Err(CliError::Failed("nothing was allowed".to_owned(), ExitCode::Deny));
    };
    let text = decision.get("token").and_then(Value::as_str).unwrap_or_default().to_owned();
    // The receipt's key is read with the owner's credential; tokens are the agents'.
    let checks = token::check(&owner, &decision, &text).await?;
    if human {
        say("one token, from the first allow");
        token::show_checks(global.output, &checks);
        say("");
    }
    let dir = tempfile::tempdir().map_err(file(std::path::Path::new("temporary directory")))?;
    let path = dir.path().join("ledger.jsonl");
    std::fs::write(&path, audit::export(&owner).await?).map_err(file(&path))?;
    let report = verify::export(&path, verify::Known::default(), &indicatif::ProgressBar::hidden())?
        .map_err(|f| verify::broken(&f))?;
    if human {
        verify::print(global.output, &report, false);
    } else {
        let checks: Vec<Value> = checks.iter().map(token::check_value).collect();
        one(global.output, &json!({"decisions": rows, "token": checks, "ledger": verify::value(&report, false)}));
    }
    Ok(checks.iter().all(|(_, held, _)| *held))
}

fn hint(server: &str, key: &str, dir: &std::path::Path) {
    say(&format!("\nAPI at {server} (OpenAPI: {server}/openapi.json). Try it:\n"));
    say(&format!(
        "curl -s {server}/v1/tenants/{TENANT}/intents \\\n  -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\\n  -d '{{\"subject\":{{\"type\":\"agent\",\"id\":\"support-agent\"}},\"action\":{{\"name\":\"stripe.create_refund\",\"properties\":{{\"charge\":\"ch_1\",\"amount\":40}}}},\"resource\":{{\"type\":\"charge\",\"id\":\"ch_1\"}},\"environment\":\"production\"}}'\n"
    ));
    // What is the default anyway is not said.
    let place = if server == "http://127.0.0.1:7070" { String::new() } else { format!(" --server {server}") };
    say(&format!("intended{place} --key-file {} status", dir.join("owner.key").display()));
    say("\nCtrl-C stops it.");
}
