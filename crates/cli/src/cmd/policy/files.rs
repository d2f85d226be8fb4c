//! A pack's directory: `pack.toml`, `*.cedar`, `tests/*.yaml`. Plain files only: a link could lead out of
//! the pack, and what it leads to would not be what the user's repository holds.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use intended_model::ExitCode;
use intended_policy::pack::MAX_FILE;

use crate::error::{CliError, file};
use crate::output::{note, safe};

pub type Files = BTreeMap<String, String>;

/// Whether a file of this name, relative to the pack's directory, is part of the pack.
pub fn belongs(name: &str) -> bool {
    let plain = |stem: Option<&str>| stem.is_some_and(|s| !s.is_empty() && !s.starts_with('.') && !s.contains('/'));
    let test = name.strip_prefix("tests/");
    name == "pack.toml"
        || plain(name.strip_suffix(".cedar"))
        || plain(test.and_then(|t| t.strip_suffix(".yaml").or_else(|| t.strip_suffix(".yml"))))
}

/// What is beside a pack without being part of it, as a matter of course.
fn expected(name: &str) -> bool {
    name.starts_with('.') || ["README", "README.md", "LICENSE", "CHANGELOG.md", "CODEOWNERS"].contains(&name)
}

pub fn linked(path: &str) -> CliError {
    CliError::Failed(
        format!("{path}: a link or no plain file\n\nhint: a pack holds its files itself; links are not followed"),
        ExitCode::Invalid,
    )
}

/// Reads a pack's directory.
pub fn read(directory: &Path) -> Result<Files, CliError> {
    let mut files = Files::new();
    let mut ignored = Vec::new();
    folder(directory, "", &mut files, &mut ignored)?;
    if files.is_empty() {
        return Err(CliError::usage(
            format!("{}: no pack.toml and no *.cedar", directory.display()),
            "name a pack's directory; `intended policy new <directory>` writes one",
        ));
    }
    if !ignored.is_empty() {
        ignored.sort();
        let names: Vec<String> = ignored.iter().take(5).map(|n| safe(n)).collect();
        let more = if ignored.len() > 5 { format!(" and {} more", ignored.len() - 5) } else { String::new() };
        note(&format!("ignored in {}: {}{more}: no part of a pack", directory.display(), names.join(", ")));
    }
    Ok(files)
}

fn folder(directory: &Path, prefix: &str, files: &mut Files, ignored: &mut Vec<String>) -> Result<(), CliError> {
    for entry in std::fs::read_dir(directory).map_err(file(directory))? {
        let path = entry.map_err(file(directory))?.path();
        let Some(last) = path.file_name().and_then(|n| n.to_str()) else {
            ignored.push(path.display().to_string());
            continue;
        };
        let name = format!("{prefix}{last}");
        let kind = std::fs::symlink_metadata(&path).map_err(file(&path))?.file_type();
        if prefix.is_empty() && last == "tests" {
            if !kind.is_dir() {
                return Err(linked(&path.display().to_string()));
            }
            folder(&path, "tests/", files, ignored)?;
        } else if !belongs(&name) {
            if !expected(last) {
                ignored.push(name);
            }
        } else if kind.is_file() {
            files.insert(name, one(&path)?);
        } else {
            return Err(linked(&path.display().to_string()));
        }
    }
    Ok(())
}

/// One file: UTF-8, and no longer than a pack's files may be.
pub fn one(path: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(file(path))?;
    let length = opened.metadata().map_err(file(path))?.len();
    opened.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(file(path))?;
    utf8(&path.display().to_string(), bytes, length)
}

/// The text of a file whose whole length is `length`.
pub fn utf8(name: &str, bytes: Vec<u8>, length: u64) -> Result<String, CliError> {
    if bytes.len() > MAX_FILE {
        return Err(too_long(name, length.max(bytes.len() as u64)));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let before = e.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        CliError::Failed(format!("{name}:{line}: error[file]: not UTF-8 at byte {at}"), ExitCode::Invalid)
    })
}

pub fn too_long(name: &str, length: u64) -> CliError {
    let what = format!("{name}: error[limit]: the file has {length} bytes; at most {MAX_FILE} are read");
    CliError::Failed(what, ExitCode::Invalid)
}

/// Sizes instead of texts, for what is only said.
pub fn sizes(files: &Files) -> BTreeMap<&str, String> {
    files.iter().map(|(name, text)| (name.as_str(), format!("{} bytes", text.len()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_its_manifest_its_policies_and_its_tests() {
        for name in ["pack.toml", "a.cedar", "tests/a.yaml", "tests/b.yml"] {
            assert!(belongs(name), "{name}");
        }
        for name in
            ["README.md", "x/pack.toml", "x/a.cedar", ".cedar", ".a.cedar", "tests/x/a.yaml", "a.yaml", "tests/.yml"]
        {
            assert!(!belongs(name), "{name}");
        }
    }
}
