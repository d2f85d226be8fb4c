//! Halts for a server that holds its data directory and does not answer: a request is left in the
//! directory, the server's housekeeping applies it and answers beside it.
//!
//! A request carries the key of who asks, so it is readable by its owner only (as the root key in the
//! same directory is), and whoever finds it first removes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use intended_model::emergency::HaltScope;
use intended_model::{Code, ExitCode, TenantId, Timestamp};
use intended_runtime::emergency::Thrown;
use intended_runtime::{Runtime, RuntimeError};
use serde::{Deserialize, Serialize};

use crate::error::{CliError, file};
use crate::server::write_secret;

/// Where in the data directory.
const PLACE: &str = "emergency";
/// How often the server looks.
const LOOK: Duration = Duration::from_millis(200);
/// A halt that takes longer than this to apply does not do what it is for.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A request that is older has nobody who waits for it: its asker was interrupted, and it is not
/// applied behind their back when a server starts some day.
const STALE_MS: i64 = 30_000;
/// Longest request.
const MAX: u64 = 64 * 1024;

/// A halt that is asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub asked_at: Timestamp,
    pub key: String,
    pub reason: String,
    pub scope: HaltScope,
    pub tenant: TenantId,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Answer {
    Thrown { halt: String, index: u64, committed_ms: f64, refused_ms: Option<f64> },
    Refused { code: Code, detail: String },
}

impl From<Result<Thrown, RuntimeError>> for Answer {
    fn from(thrown: Result<Thrown, RuntimeError>) -> Self {
        let ms = |t: Duration| t.as_secs_f64() * 1000.0;
        match thrown {
            Ok(thrown) => Self::Thrown {
                halt: thrown.halt.to_string(),
                index: thrown.index,
                committed_ms: ms(thrown.committed),
                refused_ms: thrown.refused.map(ms),
            },
            Err(error) => Self::Refused { code: error.code, detail: error.detail },
        }
    }
}

/// Leaves a request for the server and waits for its answer; `None` when nobody gave one. Then the
/// request is taken back: it is not applied later, behind the back of whoever gave up on it.
pub fn ask(dir: &Path, name: &str, request: &Request) -> Result<Option<Answer>, CliError> {
    let place = dir.join(PLACE);
    private(&place)?;
    hand_over(&place, dir);
    let (whole, answer) = (place.join(format!("{name}.request")), place.join(format!("{name}.answer")));
    let part = place.join(format!("{name}.part"));
    let text = serde_json::to_string(request).map_err(|e| CliError::Usage(e.to_string(), None))?;
    write_secret(&part, &text)?;
    hand_over(&part, dir);
    std::fs::rename(&part, &whole).map_err(file(&whole))?;
    let mut taken = false;
    let mut left = PATIENCE;
    loop {
        if let Ok(text) = std::fs::read_to_string(&answer) {
            let _ = std::fs::remove_file(&answer);
            let answer = serde_json::from_str(&text).map_err(|e| CliError::Usage(e.to_string(), None))?;
            return Ok(Some(answer));
        }
        if left.is_zero() {
            // Whoever removes it has it.
            if !taken && std::fs::remove_file(&whole).is_ok() {
                return Ok(None);
            }
            if taken {
                let what =
                    "the server took the halt and does not say what became of it: see `intended emergency status`";
                return Err(CliError::Failed(what.to_owned(), ExitCode::Unavailable));
            }
            (taken, left) = (true, PATIENCE);
        }
        std::thread::sleep(LOOK);
        left = left.saturating_sub(LOOK);
    }
}

fn private(place: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(place).map_err(file(place))
}

/// Who asks may be root, and the server somebody else: what is left for it belongs to whom the data
/// directory belongs to. Where that cannot be done nobody answers, and that is said.
fn hand_over(path: &Path, dir: &Path) {
    use std::os::unix::fs::{MetadataExt as _, lchown};
    let owner = |path: &Path| std::fs::symlink_metadata(path).ok().map(|m| (m.uid(), m.gid()));
    if let (Some(wanted), Some(has)) = (owner(dir), owner(path))
        && wanted.0 != has.0
    {
        let _ = lchown(path, Some(wanted.0), Some(wanted.1));
    }
}

/// Applies what is asked for in a data directory, until the server stops.
pub async fn serve(runtime: Arc<Runtime>, dir: PathBuf) {
    let place = dir.join(PLACE);
    if let Err(error) = private(&place).and_then(|()| std::fs::read_dir(&place).map(drop).map_err(file(&place))) {
        tracing::error!(%error, "halts cannot be asked for through the data directory");
    }
    // Taken by a process that died: nobody waits for it, and the key in it is to go.
    for path in std::fs::read_dir(&place).into_iter().flatten().filter_map(|e| e.ok().map(|e| e.path())) {
        if path.extension().is_some_and(|e| e == "taken") {
            let _ = std::fs::remove_file(path);
        }
    }
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let pulse = runtime.loops().begin("emergency requests", TAKEN_WITHIN);
    loop {
        pulse.at("looking for a request");
        look.tick().await;
        let Ok(found) = std::fs::read_dir(&place) else { continue };
        for path in found.filter_map(|entry| entry.ok().map(|e| e.path())) {
            if path.extension().is_some_and(|e| e == "request") {
                pulse.at("applying a request");
                apply(&runtime, &path).await;
            }
        }
    }
}

async fn apply(runtime: &Runtime, path: &Path) {
    // Renamed first: of a server and who gives up on it, one has the request.
    let taken = path.with_extension("taken");
    if std::fs::rename(path, &taken).is_err() {
        return;
    }
    let request = read(&taken);
    let answer: Answer = match request {
        Ok(request) => throw(runtime, &request).await.into(),
        Err(what) => Answer::Refused { code: Code::RequestInvalid, detail: what },
    };
    match &answer {
        Answer::Thrown { halt, index, .. } => {
            tracing::warn!(halt, index, "a halt was thrown through the data directory")
        }
        Answer::Refused { code, detail } => {
            tracing::warn!(%code, detail, "a halt was asked for through the data directory and refused");
        }
    }
    let part = path.with_extension("part");
    let text = serde_json::to_string(&answer).unwrap_or_default();
    let written = write_secret(&part, &text).is_ok() && std::fs::rename(&part, path.with_extension("answer")).is_ok();
    if !written {
        tracing::warn!("the answer could not be written");
    }
    // The key is in it.
    let _ = std::fs::remove_file(&taken);
}

fn read(path: &Path) -> Result<Request, String> {
    let size = std::fs::symlink_metadata(path).map_err(|e| e.to_string())?;
    if !size.is_file() || size.len() > MAX {
        return Err("it is no request".to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

/// Throws the halt that is asked for, as who asks.
pub async fn throw(runtime: &Runtime, request: &Request) -> Result<Thrown, RuntimeError> {
    let by = runtime.authenticate(&request.key)?;
    if by.tenant.id != request.tenant {
        let detail = format!("the key is not one of the tenant `{}`", request.tenant);
        return Err(RuntimeError::new(Code::CredentialUnknown, detail));
    }
    let reason = request.reason.trim();
    if reason.is_empty() || reason.len() > 500 {
        return Err(RuntimeError::at(Code::RequestInvalid, "/reason", "say why, in 1 to 500 characters"));
    }
    let age = crate::when::now().millis_since(request.asked_at);
    if age > STALE_MS {
        let detail = format!("it was asked for {} s ago, and nobody waits for it any more", age / 1000);
        return Err(RuntimeError::new(Code::RequestInvalid, detail));
    }
    runtime.throw(&by, request.scope.clone(), reason).await
}
