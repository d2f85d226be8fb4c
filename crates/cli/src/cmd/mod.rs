//! One file per verb.

use intended_model::ExitCode;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::note;

mod access;
mod approval;
mod audit;
mod backup;
mod breaker;
mod capabilities;
mod dev;
mod emergency;
mod health;
mod incident;
mod intent;
mod keys;
mod login;
mod policy;
mod readiness;
mod restore;
mod self_test;
mod serve;
mod siem;
mod status;
mod tail;
mod tenant;
mod token;
pub mod verify;
mod webhook;

pub type Outcome = Result<ExitCode, CliError>;

pub async fn run(cli: Cli) -> Outcome {
    let global = Global::resolve(cli.global, cli.command.remote())?;
    match cli.command {
        Command::Dev(args) => dev::run(&global, args).await,
        Command::Serve(args) => serve::serve(&global, args).await,
        Command::Init(args) => serve::init(&global, args).await,
        Command::Backup(args) => backup::run(&global, &args),
        Command::Restore(args) => restore::run(&global, &args).await,
        Command::Keys(args) => keys::run(&global, args).await,
        Command::Status(args) => status::run(&global, &args).await,
        Command::Intent(args) => intent::run(&global, args).await,
        Command::Token(args) => token::run(&global, args).await,
        Command::Audit(args) => audit::run(&global, args).await,
        Command::Verify(args) => verify::run(&global, &args),
        Command::Health(crate::args::Health::Check) => health::check(&Client::new(&global)?, &global).await,
        Command::Readiness(args) => readiness::run(&global, args).await,
        Command::Capabilities(args) => capabilities::run(&global, args).await,
        Command::Emergency(args) => emergency::run(&global, args).await,
        Command::Breaker(args) => breaker::run(&global, args).await,
        Command::Policy(args) => policy::run(&global, args).await,
        Command::Access(args) => access::run(&global, args).await,
        Command::Approval(args) => approval::run(&global, args).await,
        Command::Incident(args) => incident::run(&global, args).await,
        Command::Webhook(args) => webhook::run(&global, args).await,
        Command::Siem(args) => siem::run(&global, args).await,
        Command::Tenant(args) => tenant::tenant(&global, args).await,
        Command::Environment(args) => tenant::environment(&global, args).await,
        Command::Login(args) => login::login(&global, args).await,
        Command::Logout => login::logout(&global).await,
        Command::Whoami => login::whoami(&global).await,
        Command::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "intended", &mut std::io::stdout());
            Ok(ExitCode::Ok)
        }
        Command::Man { directory } => man(&global, &directory),
    }
}

/// Writes the man pages.
fn man(global: &Global, directory: &std::path::Path) -> Outcome {
    if global.dry_run {
        note(&format!("dry run: the man pages would be written to {}", directory.display()));
        return Ok(ExitCode::Ok);
    }
    std::fs::create_dir_all(directory).map_err(file(directory))?;
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    clap_mangen::generate_to(command, directory).map_err(file(directory))?;
    note(&format!("next: man -l {}", directory.join("intended.1").display()));
    Ok(ExitCode::Ok)
}

/// The ledger's public key as the user knows it.
pub fn trusted_key(path: Option<&std::path::Path>) -> Result<Option<String>, CliError> {
    path.map(|path| Ok(std::fs::read_to_string(path).map_err(file(path))?.trim().to_owned())).transpose()
}

/// Percent-encodes what stands in a path or query.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// What a decision means for the exit code.
pub fn exit_of(decision: &serde_json::Value) -> ExitCode {
    let text = |name: &str| decision.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    match (text("decision"), text("reason")) {
        (_, reason) if reason.starts_with("halt.") => ExitCode::Halted,
        ("allow" | "modify", _) => ExitCode::Ok,
        ("escalate" | "defer", _) => ExitCode::Pending,
        _ => ExitCode::Deny,
    }
}

/// A file's content, or stdin's for `-`.
pub fn read(path: &std::path::Path) -> Result<Vec<u8>, CliError> {
    use std::io::Read as _;
    if path == std::path::Path::new("-") {
        let mut out = Vec::new();
        std::io::stdin().read_to_end(&mut out).map_err(crate::error::file(path))?;
        return Ok(out);
    }
    std::fs::read(path).map_err(crate::error::file(path))
}
