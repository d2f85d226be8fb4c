//! `audit query|proof|verify|export`.

use std::io::Write as _;

use intended_model::ExitCode;
use serde_json::Value;

use super::intent::encode;
use super::{Outcome, verify};
use crate::args::{Audit, Global};
use crate::client::Client;
use crate::error::{CliError, file};
use crate::output::{list, one};

pub async fn run(global: &Global, args: Audit) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Audit::Query { kind, agent, decision, reason, limit } => {
            let mut path = format!("audit?limit={limit}");
            for (name, value) in [
                ("kind", kind),
                ("agent", agent),
                ("decision", decision),
                ("reason", reason),
                ("environment", global.environment.clone()),
            ] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encode(&value)));
                }
            }
            let body = client.get(&path).await?;
            let rows = body.get("entries").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let columns = [
                ("index", "index"),
                ("at", "time"),
                ("kind", "kind"),
                ("/entry/body/input/intent/subject/id", "agent"),
                ("/entry/body/input/intent/action/name", "action"),
                ("/entry/body/decision/decision", "decision"),
                ("/entry/body/decision/reason", "reason"),
            ];
            list(global.output, rows, &columns);
            Ok(ExitCode::Ok)
        }
        Audit::Proof { index } => {
            let body = client.get(&format!("audit/proof?index={index}")).await?;
            let vkey = client
                .get("audit/checkpoint")
                .await?
                .get("vkey")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let receipt: intended_ledger::Receipt = serde_json::from_str(&body.to_string())
                .map_err(|e| CliError::Failed(e.to_string(), ExitCode::VerificationFailed))?;
            one(global.output, &body);
            match receipt.verify(&vkey) {
                Ok(proved) => {
                    eprintln!(
                        "holds: entry {} is in the tree of {} with the root {}",
                        proved.index, proved.size, proved.root
                    );
                    Ok(ExitCode::Ok)
                }
                Err(error) => {
                    Err(CliError::Failed(format!("the proof does not hold: {error}"), ExitCode::VerificationFailed))
                }
            }
        }
        Audit::Export { file: path } => {
            let mut out = std::io::BufWriter::new(std::fs::File::create(&path).map_err(file(&path))?);
            let bytes = export(&client, |chunk| out.write_all(chunk).map_err(file(&path))).await?;
            out.flush().map_err(file(&path))?;
            eprintln!("{bytes} bytes in {}\nnext: intended verify {}", path.display(), path.display());
            Ok(ExitCode::Ok)
        }
        Audit::Verify => {
            let dir = tempfile::tempdir().map_err(file(std::path::Path::new("temporary directory")))?;
            let path = dir.path().join("ledger.jsonl");
            let mut out = std::io::BufWriter::new(std::fs::File::create(&path).map_err(file(&path))?);
            export(&client, |chunk| out.write_all(chunk).map_err(file(&path))).await?;
            out.flush().map_err(file(&path))?;
            verify::run(global, &crate::args::Verify { path, vkey: None, checkpoint: None })
        }
    }
}

/// Streams an export; returns its bytes.
pub async fn export(client: &Client, mut write: impl FnMut(&[u8]) -> Result<(), CliError>) -> Result<u64, CliError> {
    let mut response = client.stream("audit/exports").await?;
    let mut bytes = 0;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|e| CliError::Failed(format!("the export broke off: {e}"), ExitCode::Unavailable))?
    {
        bytes += chunk.len() as u64;
        write(&chunk)?;
    }
    Ok(bytes)
}
