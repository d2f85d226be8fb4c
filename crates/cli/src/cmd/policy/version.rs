//! Versions by what people call them: a digest, the beginning of one, a draft, `deployed`, a directory.

use std::path::Path;

use intended_model::ExitCode;
use serde_json::Value;

use super::files::{self, Files};
use super::{environment, short, text};
use crate::client::Client;
use crate::cmd::encode;
use crate::config::Global;
use crate::error::CliError;

/// A version that was published.
pub struct Published {
    pub pack: String,
    pub version: String,
    pub digest: String,
    pub files: Files,
    /// As the server has it.
    pub body: Value,
}

impl Published {
    /// `pack@digest`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.pack, short(&self.digest))
    }
}

/// One side of a comparison.
pub enum Side {
    Directory { name: String, files: Files },
    Published(Box<Published>),
}

impl Side {
    pub const fn files(&self) -> &Files {
        match self {
            Self::Directory { files, .. } => files,
            Self::Published(published) => &published.files,
        }
    }
    pub fn name(&self) -> String {
        match self {
            Self::Directory { name, .. } => name.clone(),
            Self::Published(published) => published.name(),
        }
    }
    /// Of what the server has.
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Directory { .. } => None,
            Self::Published(published) => Some(&published.digest),
        }
    }
}

pub fn is_draft(what: &str) -> bool {
    what.starts_with("draft-")
}

fn is_digest(what: &str) -> bool {
    let hex = what.strip_prefix("sha256:").unwrap_or(what);
    hex.len() >= 6 && hex.len() <= 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

pub async fn fetch(client: &Client, pack: &str, digest: &str) -> Result<Published, CliError> {
    let body = client.get(&format!("packs/{}/versions/{}", encode(pack), encode(digest))).await?;
    let files = body.get("files").cloned().and_then(|f| serde_json::from_value(f).ok()).unwrap_or_default();
    Ok(Published {
        pack: text(&body, "/pack"),
        version: text(&body, "/version"),
        digest: text(&body, "/digest"),
        files,
        body,
    })
}

/// `PACK@DIGEST`, or a digest alone: then the packs are searched for it.
pub async fn named(client: &Client, what: &str) -> Result<Published, CliError> {
    if let Some((pack, digest)) = what.split_once('@') {
        return fetch(client, pack, digest).await;
    }
    if !is_digest(what) {
        return Err(CliError::usage(
            format!("`{what}` is no directory, no draft, and no digest (at least six hex digits)"),
            "see what there is: intended policy list",
        ));
    }
    let hex = what.strip_prefix("sha256:").unwrap_or(what).to_ascii_lowercase();
    let mut found: Vec<(String, String)> = Vec::new();
    for pack in client.rows("packs").await? {
        let pack = text(&pack, "/pack");
        for version in client.rows(&format!("packs/{}/versions", encode(&pack))).await? {
            let digest = text(&version, "/digest");
            if digest.strip_prefix("sha256:").is_some_and(|d| d.starts_with(&hex)) {
                found.push((pack.clone(), digest));
            }
        }
    }
    match found.as_slice() {
        [(pack, digest)] => fetch(client, pack, digest).await,
        [] => Err(CliError::usage(format!("no version `{what}`"), "see what there is: intended policy list")),
        several => {
            let all: Vec<String> = several.iter().map(|(pack, digest)| format!("{pack}@{}", short(digest))).collect();
            Err(CliError::usage(format!("`{what}` begins several digests: {}", all.join(", ")), "write more of it"))
        }
    }
}

/// A draft and its entity tag.
pub async fn draft(client: &Client, id: &str) -> Result<Value, CliError> {
    client.get(&format!("drafts/{}", encode(id))).await
}

/// The row of what an environment decides by.
pub async fn deployment(client: &Client, environment: &str) -> Result<Value, CliError> {
    let rows = client.rows("deployments").await?;
    let row = rows.into_iter().find(|r| r.get("environment").and_then(Value::as_str) == Some(environment));
    row.ok_or_else(|| {
        CliError::usage(format!("there is no environment `{environment}`"), "see which there are: intended status")
    })
}

/// What an environment decides by, if anything.
pub async fn deployed(client: &Client, environment: &str) -> Result<Option<Published>, CliError> {
    let row = deployment(client, environment).await?;
    if row.get("digest").is_none_or(Value::is_null) {
        return Ok(None);
    }
    fetch(client, &text(&row, "/pack"), &text(&row, "/digest")).await.map(Some)
}

/// Whatever was named. No server is asked for a directory.
pub async fn side(global: &Global, what: &str) -> Result<Side, CliError> {
    let path = Path::new(what);
    if path.is_dir() {
        return Ok(Side::Directory { name: what.to_owned(), files: files::read(path)? });
    }
    let client = Client::new(global)?;
    let published = if what == "deployed" {
        let environment = environment(global)?;
        deployed(&client, environment)
            .await?
            .ok_or_else(|| CliError::Failed(format!("nothing is deployed in `{environment}`"), ExitCode::Usage))?
    } else if is_draft(what) {
        let draft = draft(&client, what).await?;
        fetch(&client, &text(&draft, "/pack"), &text(&draft, "/digest")).await?
    } else {
        named(&client, what).await?
    };
    Ok(Side::Published(Box::new(published)))
}
