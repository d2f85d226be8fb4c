//! `policy fmt`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use intended_model::ExitCode;
use serde_json::json;

use super::changes::unified;
use super::files;
use super::findings::Finding;
use crate::args::Format;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{list, note, say};

pub fn run(global: &Global, paths: &[PathBuf], check: bool) -> Outcome {
    let check_only = check || global.dry_run;
    let (mut rows, mut broken, mut differ) = (Vec::new(), 0, 0);
    for path in &policies(paths)? {
        let text = files::one(path)?;
        let name = path.display().to_string();
        let formatted = match intended_policy::format(&name, &text) {
            Ok(formatted) => formatted,
            Err(error) => {
                broken += 1;
                let found: Option<Finding> = serde_json::to_value(&*error.0).and_then(serde_json::from_value).ok();
                eprintln!("{}\n", found.map_or_else(|| error.to_string(), |f| f.render(Path::new(""))));
                continue;
            }
        };
        let same = formatted == text;
        differ += usize::from(!same);
        rows.push(json!({"file": name, "changed": !same}));
        if same {
            continue;
        }
        if check_only {
            if global.output == Format::Table {
                say(unified(&name, &name, &text, &formatted).trim_end());
            }
        } else {
            replace(path, &formatted)?;
            if global.output == Format::Table {
                say(&format!("formatted {name}"));
            }
        }
    }
    if global.output != Format::Table {
        list(global.output, &rows, &[]);
    }
    if broken > 0 {
        return Err(CliError::Failed(
            format!("{} could not be formatted", super::many(broken, "file", "files")),
            ExitCode::Invalid,
        ));
    }
    if check_only && differ > 0 {
        note(&format!(
            "{} would change: run `intended policy fmt` without --check",
            super::many(differ, "file", "files")
        ));
        return Ok(if check { ExitCode::Invalid } else { ExitCode::Ok });
    }
    Ok(ExitCode::Ok)
}

/// The policy files that are named, and those in the directories that are.
fn policies(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut found = Vec::new();
    for path in paths {
        let kind = std::fs::symlink_metadata(path).map_err(file(path))?;
        if !std::fs::metadata(path).map_err(file(path))?.is_dir() {
            if !kind.is_file() {
                return Err(files::linked(&path.display().to_string()));
            }
            found.push(path.clone());
            continue;
        }
        let mut within = Vec::new();
        for entry in std::fs::read_dir(path).map_err(file(path))? {
            let entry = entry.map_err(file(path))?.path();
            let wanted = entry.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.ends_with(".cedar"));
            if wanted && std::fs::symlink_metadata(&entry).is_ok_and(|m| m.is_file()) {
                within.push(entry);
            } else if wanted {
                return Err(files::linked(&entry.display().to_string()));
            }
        }
        if within.is_empty() {
            return Err(CliError::usage(
                format!("{}: no *.cedar", path.display()),
                "name a pack's directory, or a file",
            ));
        }
        within.sort();
        found.extend(within);
    }
    Ok(found)
}

/// Puts a text in a file's place at once, with the file's own permissions.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(parent).map_err(file(parent))?;
    beside.write_all(text.as_bytes()).map_err(file(path))?;
    let permissions = std::fs::metadata(path).map_err(file(path))?.permissions();
    beside.as_file().set_permissions(permissions).map_err(file(path))?;
    beside.persist(path).map(drop).map_err(|e| file(path)(e.error))
}
