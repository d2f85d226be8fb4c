//! What a git repository holds of a pack, by asking `git` itself.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::files::{self, Files, belongs, linked};
use crate::error::{CliError, file};

/// Longest location that the server takes.
const MAX_LOCATION: usize = 512;

fn git(directory: &Path, arguments: &[&str]) -> Result<Vec<u8>, CliError> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(arguments).stdin(Stdio::null()).env("GIT_OPTIONAL_LOCKS", "0");
    let ended = command.output().map_err(file(Path::new("git")))?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.lines().next().unwrap_or("it ended without a word").to_owned();
    Err(CliError::Usage(format!("git: {said}"), None))
}

fn line(directory: &Path, arguments: &[&str]) -> Option<String> {
    let out = git(directory, arguments).ok()?;
    Some(String::from_utf8_lossy(&out).trim().to_owned()).filter(|t| !t.is_empty())
}

/// The commit that a name means.
pub fn commit(directory: &Path, name: &str) -> Result<String, CliError> {
    let wanted = format!("{name}^{{commit}}");
    line(directory, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]).ok_or_else(|| {
        CliError::usage(
            format!("{}: git has no commit `{name}` there", directory.display()),
            "name a branch, a tag or a commit of the directory's repository",
        )
    })
}

/// The pack in a directory as a commit has it.
pub fn at(directory: &Path, commit: &str) -> Result<Files, CliError> {
    let tree = git(directory, &["ls-tree", "-r", "-l", "-z", commit])?;
    let mut found = Files::new();
    for entry in tree.split(|b| *b == 0).filter(|e| !e.is_empty()) {
        let entry = String::from_utf8_lossy(entry);
        let Some((facts, name)) = entry.split_once('\t') else { continue };
        let mut facts = facts.split_whitespace();
        let (mode, _, object, size) = (facts.next(), facts.next(), facts.next(), facts.next());
        if name == "tests" || belongs(name) && !mode.is_some_and(|m| m.starts_with("100")) {
            return Err(linked(&format!("{commit}:{name}")));
        }
        let Some(object) = object.filter(|_| belongs(name)) else { continue };
        let size = size.and_then(|s| s.parse::<u64>().ok()).unwrap_or(0);
        if size > intended_policy::pack::MAX_FILE as u64 {
            return Err(files::too_long(&format!("{commit}:{name}"), size));
        }
        let bytes = git(directory, &["cat-file", "blob", object])?;
        found.insert(name.to_owned(), files::utf8(&format!("{commit}:{name}"), bytes, size)?);
    }
    if found.is_empty() {
        return Err(CliError::usage(
            format!("{} holds no pack at {commit}", directory.display()),
            "name a pack's directory, and a commit that has it",
        ));
    }
    Ok(found)
}

/// Where a directory's content comes from: its remote and its path there. The commit is named if the
/// directory holds what it holds. Nothing for what is in no repository.
pub fn source(directory: &Path) -> Option<Value> {
    let location = location(directory)?;
    let clean = git(directory, &["status", "--porcelain", "--", "."]).is_ok_and(|out| out.is_empty());
    let head = line(directory, &["rev-parse", "--verify", "--quiet", "HEAD"]).filter(|_| clean);
    Some(match head {
        Some(head) => json!({"location": location, "revision": head}),
        None => json!({"location": location}),
    })
}

/// Repository and path of a directory.
pub fn location(directory: &Path) -> Option<String> {
    let top = line(directory, &["rev-parse", "--show-toplevel"])?;
    let prefix = line(directory, &["rev-parse", "--show-prefix"]).unwrap_or_default();
    let remote = line(directory, &["config", "--get", "remote.origin.url"]).map(|url| without_user(&url));
    let repository = remote.or_else(|| Path::new(&top).file_name()?.to_str().map(str::to_owned))?;
    let location = format!("{repository} {}", prefix.trim_end_matches('/')).trim_end().to_owned();
    (location.len() <= MAX_LOCATION).then_some(location)
}

/// A remote's address without what may be a password.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}://{host}/{path}").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_password_in_a_remote_goes_nowhere() {
        let clean = super::without_user;
        assert_eq!(clean("https://me:secret@git.example/acme/policy.git"), "https://git.example/acme/policy.git");
        assert_eq!(clean("https://token@git.example"), "https://git.example");
        assert_eq!(clean("git@git.example:acme/policy.git"), "git@git.example:acme/policy.git");
    }
}
