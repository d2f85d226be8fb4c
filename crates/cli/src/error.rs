//! What went wrong on this side, with what to do next.

use intended_model::ExitCode;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Nothing went wrong: what was asked for is done, and there is nothing more to do.
    #[error("")]
    Done,
    #[error("{0}")]
    Usage(String, Option<String>),
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("{server}: the server cannot be reached: {why}")]
    Unreachable { server: String, why: String },
    #[error("{code}: {title}{detail}{}", lines(parts))]
    Refused {
        code: String,
        title: String,
        detail: String,
        /// What `detail` says part by part: a place, and what is wrong there.
        parts: Vec<(String, String)>,
        hint: String,
        exit: ExitCode,
    },
    #[error("{0}")]
    Failed(String, ExitCode),
}

fn lines(parts: &[(String, String)]) -> String {
    parts.iter().map(|(place, what)| format!("\n  {place}: {what}")).collect()
}

impl CliError {
    /// Whether the server refused it with this code.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage(what.into(), Some(hint.into()))
    }
    /// With the file that it is about.
    #[must_use]
    pub fn about(mut self, path: &std::path::Path) -> Self {
        if let Self::Refused { detail, .. } = &mut self {
            *detail = format!(": {}{detail}", path.display());
        }
        self
    }
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(_, hint) => hint.clone(),
            Self::Unreachable { .. } => {
                Some("start one with `intended dev` or `intended serve`, or name it with --server".to_owned())
            }
            Self::Refused { hint, .. } if !hint.is_empty() => Some(hint.clone()),
            _ => None,
        }
    }
    pub const fn exit(&self) -> ExitCode {
        match self {
            Self::Done => ExitCode::Ok,
            Self::Usage(..) | Self::File { .. } => ExitCode::Usage,
            Self::Unreachable { .. } => ExitCode::Unavailable,
            Self::Refused { exit, .. } | Self::Failed(_, exit) => *exit,
        }
    }
}

impl From<intended_runtime::RuntimeError> for CliError {
    fn from(e: intended_runtime::RuntimeError) -> Self {
        let internal = e.internal.map(|i| format!(" ({i})")).unwrap_or_default();
        let detail = if e.detail.is_empty() { internal } else { format!(": {}{internal}", e.detail) };
        Self::Refused {
            code: e.code.to_string(),
            title: e.code.title().to_owned(),
            detail,
            parts: Vec::new(),
            hint: e.code.hint().to_owned(),
            exit: ExitCode::Usage,
        }
    }
}

pub fn file(path: &std::path::Path) -> impl Fn(std::io::Error) -> CliError + '_ {
    |source| CliError::File { path: path.display().to_string(), source }
}
