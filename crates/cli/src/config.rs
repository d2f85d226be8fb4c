//! What the commands go by, read once: flag, then environment variable, then profile, then default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::{Format, GlobalArgs};
use crate::error::{CliError, file};
use crate::session;

/// Profile that is taken when none is named.
const DEFAULT: &str = "default";

/// The settings of one run.
#[derive(Clone)]
pub struct Global {
    pub server: String,
    pub tenant: String,
    /// From a flag, a variable or the profile.
    pub environment: Option<String>,
    /// From the flag alone: what was said about this very command.
    pub environment_flag: Option<String>,
    pub key_file: Option<PathBuf>,
    /// The key itself, from its variable: it never stands in an argument.
    pub api_key: Option<String>,
    /// Whether a key was given that stands before a session.
    pub has_other_key: bool,
    /// Where the profile's session is kept.
    pub session_file: Option<PathBuf>,
    pub output: Format,
    pub timeout: u64,
    pub verbose: bool,
    pub quiet: bool,
    pub print_curl: bool,
    pub no_input: bool,
    pub yes: bool,
    pub dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    server: Option<String>,
    tenant: Option<String>,
    environment: Option<String>,
    /// Relative to the config file.
    key_file: Option<PathBuf>,
}

/// A variable that says something.
#[expect(clippy::disallowed_methods, reason = "configuration is read here")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// `$XDG_CONFIG_HOME/intended/config.toml`.
fn path() -> Option<PathBuf> {
    let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
    // The XDG specification has relative paths ignored.
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home)?;
    Some(base.join("intended/config.toml"))
}

fn profile(name: Option<&str>) -> Result<Profile, CliError> {
    let missing = |place: &str, known: &str| {
        CliError::usage(format!("there is no profile `{}` in {place}", name.unwrap_or(DEFAULT)), known.to_owned())
    };
    let Some(path) = path() else {
        return name.map_or(Ok(Profile::default()), |_| Err(missing("any config file", "set XDG_CONFIG_HOME or HOME")));
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && name.is_none() => return Ok(Profile::default()),
        Err(e) => return Err(file(&path)(e)),
    };
    let mut found: File =
        toml::from_str(&text).map_err(|e| CliError::Usage(format!("{}: {e}", path.display()), None))?;
    let known = found.profiles.keys().cloned().collect::<Vec<_>>().join(", ");
    let mut profile = match (found.profiles.remove(name.unwrap_or(DEFAULT)), name) {
        (Some(profile), _) => profile,
        (None, None) => Profile::default(),
        (None, Some(_)) => return Err(missing(&path.display().to_string(), &format!("there are: {known}"))),
    };
    if let (Some(key), Some(dir)) = (&profile.key_file, path.parent()) {
        profile.key_file = Some(dir.join(key));
    }
    Ok(profile)
}

impl Global {
    /// `remote`: the command talks to a server, so the profile counts. What runs a server goes by
    /// its own config file, and must start whatever stands in somebody's home.
    pub fn resolve(args: GlobalArgs, remote: bool) -> Result<Self, CliError> {
        let name = args.profile.or_else(|| variable("INTENDED_PROFILE"));
        let profile = if remote { profile(name.as_deref())? } else { Profile::default() };
        let environment = args.environment.clone().or_else(|| variable("INTENDED_ENVIRONMENT"));
        let api_key = variable("INTENDED_API_KEY");
        let server = args.server.or(profile.server).unwrap_or_else(|| "http://127.0.0.1:7070".to_owned());
        let tenant = args.tenant.or(profile.tenant).unwrap_or_else(|| "demo".to_owned());
        let session_file = path().and_then(|p| session::path(&p, name.as_deref().unwrap_or(DEFAULT)));
        let has_other_key = args.key_file.is_some() || api_key.is_some();
        // Who has signed in is who acts, unless this very run was given a key. The session goes to the
        // server and tenant that it is of, and nowhere else.
        let signed_in = || {
            let kept = session_file.as_deref().filter(|_| remote && !has_other_key).and_then(session::read)?;
            (kept.server == server && kept.tenant == tenant).then_some(kept.key)
        };
        let api_key = api_key.or_else(signed_in);
        // A key in a variable stands before a file in a profile.
        let key_file = args.key_file.or_else(|| profile.key_file.filter(|_| api_key.is_none()));
        Ok(Self {
            has_other_key,
            session_file,
            server,
            tenant,
            environment: environment.or(profile.environment),
            environment_flag: args.environment,
            key_file,
            api_key,
            output: args.output,
            timeout: args.timeout,
            verbose: args.verbose,
            quiet: args.quiet,
            print_curl: args.print_curl,
            no_input: args.no_input,
            yes: args.yes,
            dry_run: args.dry_run,
        })
    }
}
