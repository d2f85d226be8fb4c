//! The config file that a restored directory gets, and the root key that it is opened with.
//!
//! Whoever wrote a backup wrote the config file in it: nothing signs it. It says where the root key comes
//! from, who operates the server, whom it believes and where it sends. So that is shown before it counts,
//! and no program that it names is run, now or by a later start, unless the operator says so.

use intended_keyring::RootKey;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::archive::Content;
use crate::args::Restore;
use crate::error::{CliError, file};
use crate::output::note;
use crate::server::{CONFIG, Config};

pub struct Brought {
    pub text: String,
    pub config: Config,
    /// The operator's own copy, and not what is in the backup.
    own: bool,
}

impl Brought {
    pub fn of(args: &Restore, content: &Content) -> Result<Self, CliError> {
        let (text, place) = match &args.config {
            Some(path) => (std::fs::read_to_string(path).map_err(file(path))?, path.display().to_string()),
            None => (content.config.clone(), format!("{}: {CONFIG} in it", args.backup.display())),
        };
        let config = toml::from_str(&text).map_err(|e| CliError::Usage(format!("{place}: {e}"), None))?;
        Ok(Self { text, config, own: args.config.is_some() })
    }

    /// What of it is about keys, trust and destinations.
    pub fn lines(&self) -> Value {
        let c = &self.config;
        json!({
            "listen": c.listen, "issuer": c.issuer,
            "root_key_file": c.root_key_file, "root_key_env": c.root_key_env, "root_key_command": c.root_key_command,
            "operator_key_sha256": c.operator_key_sha256,
            "trusted_proxies": c.trusted_proxies, "identity_provider_networks": c.identity_provider_networks,
            "webhook_networks": c.webhook_networks, "checkpoint_dir": c.checkpoint_dir,
            "siem": c.siem, "otlp": c.otlp,
        })
    }

    pub fn show(&self) {
        let whose = if self.own { "your own file" } else { "in the backup, signed by nobody" };
        note(&format!("the config file ({whose}) says; --config FILE takes another:"));
        for (name, value) in self.lines().as_object().into_iter().flatten() {
            note(&format!("  {name:<27} {}", shown(value)));
        }
        note("");
    }

    /// `None`: not known on a dry run, which runs nothing.
    pub fn root_key(
        &self,
        args: &Restore,
        content: &Content,
        dry_run: bool,
    ) -> Result<Option<(String, RootKey)>, CliError> {
        let command = self.config.root_key_command.as_ref();
        if command.is_some() && !self.own && !args.run_root_key_command && !dry_run {
            return Err(CliError::usage(
                "the config file in the backup names a program to run for the root key: nothing was run or restored",
                "look at it above. --config FILE takes your own copy of the file; --run-root-key-command runs the \
                 program, now and at every start",
            ));
        }
        let parse = |place: String, text: &str| match RootKey::parse(text) {
            Ok(key) => Ok(Some((place, key))),
            Err(error) => Err(CliError::Usage(format!("{place}: {error}"), None)),
        };
        if let Some(path) = &args.root_key_file {
            let text = Zeroizing::new(std::fs::read_to_string(path).map_err(file(path))?);
            return parse(path.display().to_string(), &text);
        }
        if let Some(text) = &content.root_key {
            return parse("the root key in the backup".to_owned(), text);
        }
        if self.config.root_key_file.as_ref().is_some_and(|path| path.is_relative()) {
            return Err(CliError::usage(
                "the root key is not in the backup".to_owned(),
                "name the copy of it that you keep elsewhere: --root-key-file root.key",
            ));
        }
        if command.is_some() && dry_run {
            note("a dry run runs no program: the root key was not looked at");
            return Ok(None);
        }
        // An environment variable, a program, a file with a whole path: where it is does not change.
        Ok(Some(("what the config file names".to_owned(), self.config.root_key(&args.data_dir)?)))
    }
}

/// On one line, and nothing in it moves a terminal's cursor.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "-".to_owned(),
        Value::Array(list) if list.is_empty() => return "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let plain = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    text.chars().map(plain).collect()
}
