//! `access members invite`.

use std::path::Path;

use intended_model::ExitCode;
use serde_json::{Value, json};

use crate::args::Format;
use crate::client::Client;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::error::CliError;
use crate::output::{note, one, say};
use crate::server::write_secret;

pub async fn run(global: &Global, member: &str, code_file: Option<&Path>) -> Outcome {
    if let Some(path) = code_file.filter(|p| p.exists()) {
        return Err(CliError::usage(
            format!("{}: it is there already", path.display()),
            "codes are not written over: name another file",
        ));
    }
    let client = Client::new(global)?;
    let mut link = client.change(&format!("members/{}/links", encode(member)), &json!({})).await?.body;
    let text = |link: &Value, name: &str| link.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (code, until) = (text(&link, "code"), text(&link, "expires_at"));
    if let Some(path) = code_file {
        write_secret(path, &format!("{code}\n"))?;
        if let Some(members) = link.as_object_mut() {
            members.remove("code");
            members.insert("code_file".to_owned(), path.display().to_string().into());
        }
    }
    match (global.output, code_file) {
        (Format::Table, None) => {
            note(&format!("`{member}` can sign in with this once, until {until}; it is shown this once:"));
            say(&code);
        }
        (Format::Table, Some(path)) => {
            note(&format!("the code of `{member}` is in {}, good once, until {until}", path.display()));
        }
        (format, _) => one(format, &link),
    }
    note(&format!("next, by them: intended login --link --server {} --tenant {}", global.server, global.tenant));
    Ok(ExitCode::Ok)
}
