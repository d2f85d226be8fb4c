//! `tenant` and `environment`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{Outcome, encode};
use crate::args::{Environment, Tenant};
use crate::client::Client;
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{list, note, one};
use crate::server::write_secret;

pub async fn tenant(global: &Global, args: Tenant) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Tenant::Create { name, owner_key_file } => {
            if let Some(path) = owner_key_file.as_ref().filter(|p| p.exists()) {
                return Err(CliError::usage(
                    format!("{}: it is there already", path.display()),
                    "keys are not written over: name another file",
                ));
            }
            let mut made = client.change("/v1/tenants", &json!({"tenant": name})).await?.body;
            if let (Some(path), Some(members)) = (&owner_key_file, made.as_object_mut()) {
                let key = members.remove("key").as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
                write_secret(path, &format!("{key}\n"))?;
                members.insert("key_file".to_owned(), path.display().to_string().into());
            }
            one(global.output, &made);
            if owner_key_file.is_none() {
                note("`key` is the owner's API key, shown this once");
            }
        }
        Tenant::List => {
            let rows = client.rows("/v1/tenants?limit=500").await?;
            list(global.output, &rows, &["tenant", "environments", "suspended"].map(|c| (c, c)));
        }
        Tenant::Suspend { name, reason, confirm } => {
            if !client.says_only() {
                note(&format!(
                    "every decision of `{name}` would deny, and every request of its credentials be refused"
                ));
                confirm::name(global, confirm.as_deref(), &name, "suspend")?;
            }
            let path = format!("/v1/tenants/{}/suspend", encode(&name));
            one(global.output, &client.change(&path, &json!({"reason": reason})).await?.body);
        }
        Tenant::Reinstate { name, reason } => {
            let path = format!("/v1/tenants/{}/reinstate", encode(&name));
            one(global.output, &client.change(&path, &json!({"reason": reason})).await?.body);
        }
    }
    Ok(ExitCode::Ok)
}

pub async fn environment(global: &Global, args: Environment) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Environment::List => {
            let rows = client.rows("environments?limit=500").await?;
            list(global.output, &rows, &["environment", "tier", "suspended"].map(|c| (c, c)));
        }
        Environment::Suspend { name, reason, confirm } => {
            if !client.says_only() {
                note(&format!("every decision in `{name}` would deny, and its tokens be refused online"));
                confirm::name(global, confirm.as_deref(), &name, "suspend")?;
            }
            let path = format!("environments/{}/suspend", encode(&name));
            one(global.output, &client.change(&path, &json!({"reason": reason})).await?.body);
        }
        Environment::Reinstate { name, reason } => {
            let path = format!("environments/{}/reinstate", encode(&name));
            one(global.output, &client.change(&path, &json!({"reason": reason})).await?.body);
        }
    }
    Ok(ExitCode::Ok)
}
