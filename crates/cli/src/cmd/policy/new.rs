//! `policy new`.

use std::path::Path;

use intended_model::{ExitCode, Name};
use serde_json::json;

use crate::args::Format;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{note, one, say};

pub fn run(global: &Global, directory: &Path, name: Option<&str>) -> Outcome {
    let own = std::path::absolute(directory).map_err(file(directory))?;
    let own = own.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    let wanted = name.unwrap_or(&own);
    let name = Name::new(wanted).map_err(|e| {
        CliError::usage(format!("`{wanted}` cannot name a pack: {e}"), "name it with --name: --name support")
    })?;
    let files = intended_rehearse::scaffold::scaffold(&name);
    // All or nothing: what is there is looked at before anything is written.
    for path in files.keys().map(|f| directory.join(f)) {
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(CliError::usage(
                format!("{} is there already, and nothing is overwritten", path.display()),
                "name a new directory",
            ));
        }
    }
    if global.dry_run {
        note(&format!("dry run: {} files would be written to {}", files.len(), directory.display()));
        return Ok(ExitCode::Ok);
    }
    for (name, text) in &files {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(file(parent))?;
        }
        let mut created = std::fs::File::create_new(&path).map_err(file(&path))?;
        std::io::Write::write_all(&mut created, text.as_bytes()).map_err(file(&path))?;
    }
    if global.output == Format::Table {
        for name in files.keys() {
            say(&directory.join(name).display().to_string());
        }
    } else {
        one(global.output, &json!({"pack": name, "directory": directory, "files": files.keys().collect::<Vec<_>>()}));
    }
    let shown = directory.display();
    note(&format!("\nnext: intended policy test {shown}\n      intended policy deploy {shown} -e staging"));
    Ok(ExitCode::Ok)
}
