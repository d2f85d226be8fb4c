//! A ledger as a file: JSON lines. The first line is the header, then each leaf verbatim on a line
//! of its own (canonical JSON holds no line breaks), then a trailer that says how many there were,
//! so that a file cut short is noticed as such.

use intended_model::TenantId;
use serde::{Deserialize, Serialize};

/// What the header's `format` says.
pub const FORMAT: &str = "intended-ledger-export";

/// A line is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    #[error("the first line is not the header of a ledger export: {0}")]
    Header(String),
    #[error("the export has the version {0}; this release reads 1")]
    Version(u32),
    #[error("the last line is not the trailer: the file is cut short")]
    Trailer,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportHeader {
    /// The signed checkpoint of the whole tree.
    pub checkpoint: String,
    /// Earlier checkpoints that were kept, oldest first.
    pub checkpoints: Vec<String>,
    pub size: u64,
    pub tenant: TenantId,
    /// The ledger's public key. Trust one that you got from elsewhere rather than this.
    pub vkey: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    checkpoint: String,
    checkpoints: Vec<String>,
    format: String,
    size: u64,
    tenant: TenantId,
    v: u32,
    vkey: String,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportTrailer {
    pub end: bool,
    pub size: u64,
}

impl ExportHeader {
    /// The line, without its line break.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&HeaderLine {
            checkpoint: self.checkpoint.clone(),
            checkpoints: self.checkpoints.clone(),
            format: FORMAT.to_owned(),
            size: self.size,
            tenant: self.tenant.clone(),
            v: 1,
            vkey: self.vkey.clone(),
        })
    }
    pub fn parse(line: &[u8]) -> Result<Self, ExportError> {
        let header: HeaderLine =
            intended_model::json::from_slice(line).map_err(|e| ExportError::Header(e.to_string()))?;
        if header.format != FORMAT {
            return Err(ExportError::Header(format!("the format is `{}`", header.format)));
        }
        if header.v != 1 {
            return Err(ExportError::Version(header.v));
        }
        Ok(Self {
            checkpoint: header.checkpoint,
            checkpoints: header.checkpoints,
            size: header.size,
            tenant: header.tenant,
            vkey: header.vkey,
        })
    }
}

impl ExportTrailer {
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
    pub fn parse(line: &[u8]) -> Result<Self, ExportError> {
        intended_model::json::from_slice(line).ok().filter(|t: &Self| t.end).ok_or(ExportError::Trailer)
    }
}
