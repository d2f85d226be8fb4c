//! `init` and `serve`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use intended_keyring::{ApiKey, KeyKind, RootKey, SystemRng};
use intended_model::entry::{Role, RoleGrant, Settings, Tier};
use intended_model::{EnvironmentId, ExitCode, MemberId, TenantId};
use serde_json::json;

use super::Outcome;
use crate::args::{Format, Init, LogFormat, Serve};
use crate::config::Global;
use crate::error::{CliError, file};
use crate::kept;
use crate::output::{note, notes_as_json, one, say};
use crate::server::{
    CONFIG, Config, Limits, ROOT_KEY, Stopping, default_connections, default_drain, default_finish, default_head,
    default_idle, default_key_days, default_requests, default_session, host, listen, open, reopen, send_webhooks,
    serve as run, stopped, write_secret,
};

/// The environments that a tenant starts with.
pub fn environments() -> Result<Vec<(EnvironmentId, Tier, Settings)>, CliError> {
    [("production", Tier::Production), ("staging", Tier::Staging), ("development", Tier::Development)]
        .into_iter()
        .map(|(name, tier)| {
            let id = EnvironmentId::new(name).map_err(|e| CliError::Usage(e.to_string(), None))?;
            Ok((id, tier, Settings::default()))
        })
        .collect()
}

/// `iss` of the tokens: as it was said, or of an address that others can use as it is.
fn issuer(args: &Init) -> Result<String, CliError> {
    let listen: SocketAddr = args.listen.parse().map_err(|_| {
        CliError::usage(format!("--listen: `{}` is not an address", args.listen), "write it like 127.0.0.1:7070")
    })?;
    match &args.issuer {
        Some(issuer) => {
            let rest = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://")).unwrap_or_default();
            if rest.is_empty() || rest.starts_with('/') || !rest.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(CliError::usage(
                    format!("--issuer: `{issuer}` is not where a server is reached"),
                    "write it like https://authority.acme.example",
                ));
            }
            Ok(issuer.trim_end_matches('/').to_owned())
        }
        None if listen.ip().is_unspecified() || listen.port() == 0 => Err(CliError::usage(
            format!("nobody reaches the server as {listen}, and tokens name who has issued them"),
            "say how it is reached: --issuer https://authority.acme.example",
        )),
        None => Ok(format!("http://{listen}")),
    }
}

/// A directory that only its owner can look into. One that was there and has something in it is left as it is.
fn private(dir: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file(dir))?;
    let mode = std::fs::metadata(dir).map_err(file(dir))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    if std::fs::read_dir(dir).map_err(file(dir))?.next().is_none() {
        return std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(file(dir));
    }
    note(&format!("warning: others can look into {}; chmod 700 keeps them out", dir.display()));
    Ok(())
}

pub async fn init(global: &Global, args: Init) -> Outcome {
    let dir = &args.data_dir;
    let tenant = TenantId::new(&global.tenant).map_err(|e| CliError::Usage(format!("--tenant: {e}"), None))?;
    let issuer = issuer(&args)?;
    if let Some(name) = &args.owner_member {
        let long = |_| CliError::Usage(format!("--owner-member: `{name}` is not a member's name"), None);
        MemberId::new(name).map_err(long)?;
    }
    if dir.join(CONFIG).exists() {
        return Err(CliError::usage(
            format!("{}: there is a {CONFIG} already", dir.display()),
            format!("run it: intended serve --data-dir {}", dir.display()),
        ));
    }
    for left in [ROOT_KEY, intended_store_sqlite::FILE] {
        if dir.join(left).exists() {
            return Err(CliError::usage(
                format!("{}: there is a `{left}` but no {CONFIG}", dir.display()),
                "a set-up that did not finish, or the data of `intended dev`: choose another directory, or remove it",
            ));
        }
    }
    if let Some(path) = [&args.owner_key_file, &args.operator_key_file].into_iter().flatten().find(|p| p.exists()) {
        return Err(CliError::usage(
            format!("{}: it is there already", path.display()),
            "keys are not written over: name another file",
        ));
    }
    if global.dry_run {
        let what = json!({
            "dry_run": true, "data_dir": dir.display().to_string(), "tenant": tenant, "listen": args.listen,
            "issuer": issuer,
        });
        one(global.output, &what);
        return Ok(ExitCode::Ok);
    }
    private(dir)?;
    let rng = SystemRng::default();
    let root = RootKey::generate(&rng).map_err(|e| CliError::Usage(e.to_string(), None))?;
    write_secret(&dir.join(ROOT_KEY), &format!("{}\n", &*root.expose()))?;
    let operator = ApiKey::generate(&rng, KeyKind::Operator).map_err(|e| CliError::Usage(e.to_string(), None))?;
    let runtime = open(dir, root, &issuer, None).await?;
    let bootstrap = runtime.create_tenant(&tenant, &environments()?).await?;
    let invited = match args.owner_member.as_deref() {
        Some(name) => Some(invite(&runtime, &bootstrap.owner.key, name).await?),
        None => None,
    };
    let vkey = runtime.tenant(&tenant).map(|t| t.state().vkey.to_string()).unwrap_or_default();
    runtime.close().await?;
    let config = Config {
        listen: args.listen.clone(),
        issuer: issuer.clone(),
        node: None,
        root_key_file: Some(ROOT_KEY.into()),
        root_key_env: None,
        root_key_command: None,
        drain_millis: default_drain(),
        finish_millis: default_finish(),
        max_bytes: None,
        requests_per_second: default_requests(),
        signing_key_days: default_key_days(),
        webhook_networks: Vec::new(),
        siem: Vec::new(),
        readiness: intended_runtime::readiness::Thresholds::default(),
        identity_provider_networks: Vec::new(),
        connections: default_connections(),
        head_millis: default_head(),
        operator_key_sha256: Some(operator.hash()),
        checkpoint_dir: None,
        trusted_proxies: Vec::new(),
        session_minutes: default_session(),
        session_idle_minutes: default_idle(),
        log_format: None,
        otlp: None,
    };
    let text = toml::to_string(&config).map_err(|e| CliError::Usage(e.to_string(), None))?;
    if let Some(path) = &args.owner_key_file {
        write_secret(path, &format!("{}\n", bootstrap.owner.key))?;
    }
    if let Some(path) = &args.operator_key_file {
        write_secret(path, &format!("{}\n", operator.expose()))?;
    }
    let path = dir.join(CONFIG);
    // Last: a directory with a config file is one that was set up whole.
    std::fs::write(&path, text).map_err(file(&path))?;
    note(&format!("tenant `{tenant}` with production, staging and development in {}", dir.display()));
    note(&format!("root key in {} (keep a copy elsewhere: it unseals the signing keys)", dir.join(ROOT_KEY).display()));
    note(&format!("ledger key {vkey}"));
    let keys = [
        ("the owner's API key", "key", &args.owner_key_file, bootstrap.owner.key.as_str()),
        ("the server operator's key", "operator_key", &args.operator_key_file, operator.expose()),
    ];
    if global.output == Format::Table {
        for (what, _, path, key) in keys {
            match path {
                Some(path) => note(&format!("{what} is in {}", path.display())),
                None => {
                    note(&format!("{what}, shown this once:"));
                    say(key);
                }
            }
        }
    } else {
        let mut report = json!({
            "tenant": tenant, "credential": bootstrap.owner.credential, "issuer": issuer, "vkey": vkey,
        });
        if let Some(members) = report.as_object_mut() {
            if let Some(link) = &invited {
                members.insert("owner_member".to_owned(), link.member.as_str().into());
                members.insert("owner_link".to_owned(), link.code.expose().into());
            }
            for (_, name, path, key) in keys {
                match path {
                    Some(path) => members.insert(format!("{name}_file"), path.display().to_string().into()),
                    None => members.insert(name.to_owned(), key.into()),
                };
            }
        }
        one(global.output, &report);
    }
    if let Some(link) = invited.as_ref().filter(|_| global.output == Format::Table) {
        let until = link.expires_at;
        note(&format!("`{}` signs in once with this, by `intended login --link`, until {until}:", link.member));
        say(link.code.expose());
    }
    note(&format!("\nnext: intended serve --data-dir {}", dir.display()));
    Ok(ExitCode::Ok)
}

/// Makes somebody an owner who can sign in.
async fn invite(
    runtime: &intended_runtime::Runtime,
    key: &str,
    name: &str,
) -> Result<intended_runtime::sign_in::NewLink, CliError> {
    let member = MemberId::new(name).map_err(|e| CliError::Usage(format!("--owner-member: {e}"), None))?;
    let owner = runtime.authenticate(key)?;
    let grant = RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Owner, whole: true };
    let spec = intended_runtime::access::MemberSpec { active: true, grants: vec![grant], ..Default::default() };
    runtime.set_member(&owner, member.clone(), spec).await?;
    Ok(runtime.issue_link(&owner, &member).await?)
}

pub async fn serve(global: &Global, args: Serve) -> Outcome {
    let dir = &args.data_dir;
    // From the first word on: whoever reads the log reads why it does not start, too.
    if args.log_format == Some(LogFormat::Json) {
        notes_as_json();
    }
    let config = Config::read(dir)?;
    let format = match args.log_format.or(config.log_format) {
        Some(LogFormat::Json) => intended_telemetry::Format::Json,
        Some(LogFormat::Text) | None => intended_telemetry::Format::Text,
    };
    if format == intended_telemetry::Format::Json {
        notes_as_json();
    }
    let root = config.root_key(dir)?;
    let exporters = crate::siem::exporters(dir, &config.siem)?;
    let collector = config.otlp.as_ref().map(|otlp| otlp.collector(dir)).transpose()?;
    let address = args.listen.as_deref().unwrap_or(&config.listen);
    if global.dry_run {
        one(
            global.output,
            &json!({"dry_run": true, "data_dir": dir.display().to_string(), "listen": address, "issuer": config.issuer}),
        );
        return Ok(ExitCode::Ok);
    }
    let traces = collector.map(crate::otlp::Collector::start);
    crate::logging::install_queued(global.quiet, global.verbose, format, traces.as_ref())?;
    let stop = stopped()?;
    let runtime = reopen(dir, root, &config.issuer, config.max_bytes).await?;
    runtime.root_key_from(Arc::new(crate::server::Restart(dir.to_path_buf())));
    if let Some(node) = config.node.or_else(host) {
        runtime.name_node(node);
    }
    let checkpoint_dir = config.checkpoint_dir.map(|place| dir.join(place));
    let held = kept::hold(&runtime, checkpoint_dir.as_deref(), &args.checkpoint, args.first_checkpoint).await?;
    let held = Arc::new(tokio::sync::Mutex::new(held));
    if let Some(place) = &checkpoint_dir {
        runtime.keeps_checkpoints_in(kept::Dir(place.clone()));
    }
    runtime.limit_requests(config.requests_per_second);
    runtime.rotate_keys_within(config.signing_key_days);
    send_webhooks(&runtime, config.webhook_networks)?;
    runtime.reach_providers(intended_runtime::webhooks::Reach::new(config.identity_provider_networks));
    runtime.operated_by(config.operator_key_sha256);
    runtime.hold_readiness_to(config.readiness);
    runtime.limit_sessions(intended_runtime::sign_in::SessionRules {
        absolute_ms: i64::from(config.session_minutes) * 60_000,
        idle_ms: i64::from(config.session_idle_minutes) * 60_000,
    });
    let (listener, address) = listen(address, false).await?;
    let tenants = runtime.tenants().len();
    note(&format!(
        "intended {} on http://{address}, {tenants} tenant(s), data in {}",
        env!("CARGO_PKG_VERSION"),
        dir.display()
    ));
    // An issuer with https says that something in front ends TLS.
    if !address.ip().is_loopback() && !config.issuer.starts_with("https://") {
        note("warning: others can reach this, and without TLS API keys and tokens are readable on the way.");
        note("         Put a proxy that ends TLS in front, and its https:// address as `issuer` into the config file.");
    }
    let stopping = Stopping {
        drain: Duration::from_millis(config.drain_millis),
        finish: Duration::from_millis(config.finish_millis),
    };
    let exports = crate::siem::start(&runtime, exporters);
    let limits = Limits { connections: config.connections, head: Duration::from_millis(config.head_millis) };
    let keeping =
        checkpoint_dir.clone().map(|place| tokio::spawn(kept::keep(Arc::clone(&runtime), place, Arc::clone(&held))));
    let app = intended_api::App::new(Arc::clone(&runtime)).behind(&config.trusted_proxies);
    let served = run(listener, app, limits, stopping, dir, traces, stop).await;
    // What was sent and not acknowledged yet is sent again by the next one.
    exports.iter().for_each(tokio::task::JoinHandle::abort);
    keeping.iter().for_each(tokio::task::JoinHandle::abort);
    if let Some(place) = &checkpoint_dir {
        kept::once(&runtime, place, &mut *held.lock().await).await;
    }
    served?;
    note("stopped");
    Ok(ExitCode::Ok)
}
