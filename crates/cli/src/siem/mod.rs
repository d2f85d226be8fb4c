//! Where the ledger is streamed to: `[[siem]]` tables of the config file, and what carries events to
//! a file, a syslog collector, an HTTPS endpoint. Addresses and files are the operator's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use intended_model::{Name, TenantId};
use intended_runtime::Runtime;
use intended_runtime::siem::{Collector, Exporter, Filter, Format, Sink, SinkSpec, Start};
use serde::{Deserialize, Serialize};

use crate::error::CliError;

mod file;
pub mod https;
mod syslog;

/// One `[[siem]]` table.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its cursor is kept under this name.
    pub name: Name,
    pub format: Format,
    /// None: every tenant of the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantId>,
    /// Where one begins that has never sent anything.
    #[serde(default)]
    pub start: Start,
    /// Most events in one batch.
    #[serde(default = "default_batch")]
    pub batch: usize,
    #[serde(default)]
    pub filter: Filter,
    /// Exactly one of these three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<file::Config>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog: Option<syslog::Config>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<https::Config>,
}

const fn default_batch() -> usize {
    256
}
/// Most events of a batch.
const MAX_BATCH: usize = 4_096;
/// Most sinks of a server.
const MAX_SINKS: usize = 16;

/// PEM files of a TLS connection, relative to the data directory.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Who may have signed the collector's certificate; absent: whom this machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The server's own certificate and key, where the collector asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<PathBuf>,
}

/// Sinks and what sends for them. Nothing is connected to yet; what is wrong in the tables is said.
pub fn exporters(dir: &Path, tables: &[Table]) -> Result<Vec<Exporter>, CliError> {
    let wrong = |table: &Table, what: String| CliError::Usage(format!("siem `{}`: {what}", table.name), None);
    if tables.len() > MAX_SINKS {
        return Err(CliError::Usage(format!("there are more than {MAX_SINKS} [[siem]] tables"), None));
    }
    let mut out = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        if tables.iter().take(at).any(|other| other.name == table.name) {
            return Err(wrong(table, "there are two of this name".to_owned()));
        }
        if let Some(what) = table.filter.wrong() {
            return Err(wrong(table, what));
        }
        if !(1..=MAX_BATCH).contains(&table.batch) {
            return Err(wrong(table, format!("`batch` lies within 1 to {MAX_BATCH}")));
        }
        let (transport, collector): (_, Box<dyn Collector>) = match (&table.file, &table.syslog, &table.https) {
            (Some(config), None, None) => {
                ("file", Box::new(file::File::new(dir, config).map_err(|what| wrong(table, what))?))
            }
            (None, Some(config), None) => {
                ("syslog", Box::new(syslog::Syslog::new(dir, config).map_err(|what| wrong(table, what))?))
            }
            (None, None, Some(config)) => {
                let https = https::Https::new(dir, config, table.format);
                ("https", Box::new(https.map_err(|what| wrong(table, what))?))
            }
            _ => return Err(wrong(table, "name exactly one of `file`, `syslog` and `https`".to_owned())),
        };
        let spec = SinkSpec {
            name: table.name.clone(),
            format: table.format,
            filter: table.filter.clone(),
            tenants: table.tenants.clone(),
            start: table.start,
            transport,
            batch: table.batch,
        };
        out.push(Exporter::new(Sink::new(spec), collector));
    }
    Ok(out)
}

/// Begins to export. It goes on until what is answered is aborted.
pub fn start(runtime: &Arc<Runtime>, exporters: Vec<Exporter>) -> Vec<tokio::task::JoinHandle<()>> {
    runtime.set_sinks(exporters.iter().map(Exporter::sink).collect());
    exporters.into_iter().map(|exporter| tokio::spawn(Arc::clone(runtime).export(exporter))).collect()
}

pub fn text_of(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
