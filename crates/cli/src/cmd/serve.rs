//! `init` and `serve`.

use std::time::Duration;

use intended_keyring::{RootKey, SystemRng};
use intended_model::entry::{Settings, Tier};
use intended_model::{EnvironmentId, ExitCode, TenantId};

use super::Outcome;
use crate::args::{Global, Init, Serve};
use crate::error::{CliError, file};
use crate::output::say;
use crate::server::{
    CONFIG, Config, Limits, ROOT_KEY, Stopping, default_connections, default_drain, default_finish, default_head,
    default_requests, listen, open, reopen, serve as run, stopped, write_secret,
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

pub async fn init(global: &Global, args: Init) -> Outcome {
    let dir = &args.data_dir;
    std::fs::create_dir_all(dir).map_err(file(dir))?;
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
    let tenant = TenantId::new(&global.tenant).map_err(|e| CliError::Usage(format!("--tenant: {e}"), None))?;
    let rng = SystemRng::default();
    let root = RootKey::generate(&rng).map_err(|e| CliError::Usage(e.to_string(), None))?;
    write_secret(&dir.join(ROOT_KEY), &format!("{}\n", &*root.expose()))?;
    let issuer = format!("http://{}", args.listen);
    let runtime = open(dir, root, &issuer, None).await?;
    let bootstrap = runtime.create_tenant(&tenant, &environments()?).await?;
    let vkey = runtime.tenant(&tenant).map(|t| t.state().vkey.to_string()).unwrap_or_default();
    runtime.close().await?;
    let config = Config {
        listen: args.listen.clone(),
        issuer,
        root_key_file: ROOT_KEY.into(),
        drain_millis: default_drain(),
        finish_millis: default_finish(),
        max_bytes: None,
        requests_per_second: default_requests(),
        connections: default_connections(),
        head_millis: default_head(),
    };
    let text = toml::to_string(&config).map_err(|e| CliError::Usage(e.to_string(), None))?;
    let path = dir.join(CONFIG);
    // Last: a directory with a config file is one that was set up whole.
    std::fs::write(&path, text).map_err(file(&path))?;
    eprintln!("tenant `{tenant}` with production, staging and development in {}", dir.display());
    eprintln!("root key in {} (keep a copy elsewhere: it unseals the signing keys)", dir.join(ROOT_KEY).display());
    eprintln!("ledger key {vkey}");
    eprintln!("the owner's API key, shown this once:");
    say(&bootstrap.owner.key);
    eprintln!("\nnext: intended serve --data-dir {}", dir.display());
    Ok(ExitCode::Ok)
}

pub async fn serve(args: Serve) -> Outcome {
    let dir = &args.data_dir;
    let config = Config::read(dir)?;
    let root = config.root_key(dir)?;
    let stop = stopped()?;
    let runtime = reopen(dir, root, &config.issuer, config.max_bytes).await?;
    runtime.limit_requests(config.requests_per_second);
    let (listener, address) = listen(args.listen.as_deref().unwrap_or(&config.listen), false).await?;
    let tenants = runtime.tenants().len();
    eprintln!(
        "intended {} on http://{address}, {tenants} tenant(s), data in {}",
        env!("CARGO_PKG_VERSION"),
        dir.display()
    );
    let stopping = Stopping {
        drain: Duration::from_millis(config.drain_millis),
        finish: Duration::from_millis(config.finish_millis),
    };
    let limits = Limits { connections: config.connections, head: Duration::from_millis(config.head_millis) };
    run(listener, intended_api::App::new(runtime), limits, stopping, stop).await?;
    eprintln!("stopped");
    Ok(ExitCode::Ok)
}
