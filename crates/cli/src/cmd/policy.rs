//! `policy deploy|list`.

use std::collections::BTreeMap;
use std::path::Path;

use intended_model::ExitCode;
use serde_json::json;

use super::Outcome;
use crate::args::Policy;
use crate::client::Client;
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{list, one};

pub async fn run(global: &Global, args: Policy) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Policy::Deploy { directory } => {
            let environment = global
                .environment
                .as_deref()
                .ok_or_else(|| CliError::usage("which environment?", "name it: -e staging"))?;
            let files = pack(&directory)?;
            let sizes: BTreeMap<&str, String> =
                files.iter().map(|(name, text)| (name.as_str(), format!("{} bytes", text.len()))).collect();
            client.would("POST", "deployments", &json!({"environment": environment, "files": sizes}))?;
            let body = json!({"environment": environment, "files": files});
            let reply = client.change("deployments", &body).await?.body;
            one(global.output, &reply);
            Ok(ExitCode::Ok)
        }
        Policy::List => {
            let body = client.get("deployments").await?;
            list(
                global.output,
                body.as_array().map_or(&[][..], Vec::as_slice),
                &[
                    ("environment", "environment"),
                    ("pack", "pack"),
                    ("version", "version"),
                    ("policies", "policies"),
                    ("digest", "digest"),
                ],
            );
            Ok(ExitCode::Ok)
        }
    }
}

/// A pack's files: `pack.toml` and `*.cedar`, in the directory itself. Links are not followed.
pub fn pack(directory: &Path) -> Result<BTreeMap<String, String>, CliError> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(file(directory))? {
        let path = entry.map_err(file(directory))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if name != "pack.toml" && !name.ends_with(".cedar") {
            continue;
        }
        let kind = std::fs::symlink_metadata(&path).map_err(file(&path))?.file_type();
        if !kind.is_file() {
            return Err(CliError::usage(
                format!("{}: not a plain file", path.display()),
                "a pack holds its files itself; links are not followed",
            ));
        }
        files.insert(name.to_owned(), std::fs::read_to_string(&path).map_err(file(&path))?);
    }
    if files.is_empty() {
        return Err(CliError::usage(
            format!("{}: no pack.toml and no *.cedar", directory.display()),
            "name a pack's directory",
        ));
    }
    Ok(files)
}
