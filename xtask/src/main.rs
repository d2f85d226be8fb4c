//! Repository tasks. `cargo xtask check` fails when
//!
//! * a crate depends on one that is not below it,
//! * a pure crate reaches an async runtime, a database, a web stack or the network,
//! * a pure crate's source names the clock, the file system, the environment or a thread,
//! * a generated file differs from what generating it again gives.
//!
//! `cargo xtask generate` writes the generated files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Every crate and the crates directly below it that it may name. Downwards only.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("ledger", &["model"]),
    ("token", &["model"]),
    ("intents", &["model"]),
    ("policy", &["model"]),
    ("engine", &["model", "intents", "policy"]),
    ("verify", &["model", "ledger", "token", "intents", "policy", "engine"]),
    ("rehearse", &["model", "ledger", "intents", "policy", "engine"]),
    ("keyring", &["model", "token", "ledger"]),
    ("store", &["model", "ledger"]),
    ("store-sqlite", &["model", "ledger", "store"]),
    ("store-postgres", &["model", "ledger", "store"]),
    ("runtime", &["model", "ledger", "token", "intents", "policy", "engine", "rehearse", "verify", "keyring", "store"]),
    (
        "api",
        &[
            "model", "ledger", "token", "intents", "policy", "engine", "rehearse", "verify", "keyring", "store",
            "runtime",
        ],
    ),
    ("telemetry", &["model", "runtime", "api"]),
    (
        "testkit",
        &[
            "model",
            "ledger",
            "token",
            "intents",
            "policy",
            "engine",
            "rehearse",
            "keyring",
            "store",
            "store-sqlite",
            "runtime",
            "api",
            "verify",
        ],
    ),
    (
        "cli",
        &[
            "model",
            "ledger",
            "token",
            "intents",
            "policy",
            "engine",
            "rehearse",
            "verify",
            "keyring",
            "store",
            "store-sqlite",
            "runtime",
            "api",
            "telemetry",
        ],
    ),
    (
        "bench",
        &[
            "model",
            "ledger",
            "token",
            "intents",
            "policy",
            "engine",
            "rehearse",
            "verify",
            "keyring",
            "store",
            "store-sqlite",
            "runtime",
            "api",
        ],
    ),
];

/// Crates without clock, I/O, randomness or async.
const PURE: &[&str] = &["model", "ledger", "token", "intents", "policy", "engine", "rehearse", "verify"];

/// What a pure crate must not reach, even through others.
const IMPURE: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "mio",
    "axum",
    "hyper",
    "reqwest",
    "tower",
    "tower-http",
    "rusqlite",
    "libsqlite3-sys",
    "tokio-postgres",
    "tracing-subscriber",
    "rand",
    "fastrand",
];

/// What a pure crate's source must not name outside its tests.
const FORBIDDEN: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env::",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant::now",
    "async fn",
    "tokio::",
    "SystemRandom",
    "println!",
    "eprintln!",
];

/// The table of routes names nothing but the model, so that its page needs nothing else built.
#[path = "../../crates/api/src/needs.rs"]
#[expect(dead_code, reason = "the server looks routes up in it; here it is read as a whole")]
mod needs;

/// What the product claims names nothing but itself, for the same reason.
#[path = "../../crates/runtime/src/capabilities/claims/mod.rs"]
#[expect(dead_code, reason = "the server looks areas up in it; here it is read as a whole")]
mod claims;

mod capabilities;

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let problems = match task.as_str() {
        "check" => {
            let mut problems = layers();
            problems.extend(sources());
            problems.extend(generated(false));
            problems
        }
        "generate" => generated(true),
        _ => vec!["usage: cargo xtask <check|generate>".to_owned()],
    };
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        eprintln!("xtask {task}: ok");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn layers() -> Vec<String> {
    let metadata = match cargo_metadata::MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec() {
        Ok(metadata) => metadata,
        Err(error) => return vec![format!("cargo metadata failed: {error}")],
    };
    let mut problems = Vec::new();
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata.resolve.iter().flat_map(|r| &r.nodes) {
        let normal =
            node.deps.iter().filter(|d| d.dep_kinds.iter().any(|k| k.kind == cargo_metadata::DependencyKind::Normal));
        let to = normal.filter_map(|d| names.get(&d.pkg).cloned()).collect::<Vec<_>>();
        if let Some(name) = names.get(&node.id) {
            edges.entry(name.clone()).or_default().extend(to);
        }
    }
    for (name, below) in &edges {
        let Some(short) = name.strip_prefix("intended-") else { continue };
        let Some(allowed) = allowed.get(short) else {
            problems.push(format!("{name}: has no place in the layers (xtask/src/main.rs)"));
            continue;
        };
        for dependency in below.iter().filter_map(|d| d.strip_prefix("intended-")) {
            if !allowed.contains(&dependency) {
                problems.push(format!("{name} depends on intended-{dependency}, which is not below it"));
            }
        }
    }
    for pure in PURE {
        let start = format!("intended-{pure}");
        let mut seen = BTreeSet::new();
        let mut todo = vec![(start.clone(), vec![start.clone()])];
        while let Some((at, path)) = todo.pop() {
            for next in edges.get(&at).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    let mut path = path.clone();
                    path.push(next.clone());
                    if IMPURE.contains(&next.as_str()) {
                        problems.push(format!("{start} is pure but reaches {next}: {}", path.join(" -> ")));
                    }
                    todo.push((next.clone(), path));
                }
            }
        }
    }
    problems
}

fn sources() -> Vec<String> {
    let mut problems = Vec::new();
    for pure in PURE {
        for file in rust_files(&root().join("crates").join(pure).join("src")) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                for word in FORBIDDEN {
                    if line.contains(word) {
                        problems.push(format!("{}:{}: a pure crate names `{word}`", file.display(), number + 1));
                    }
                }
            }
        }
    }
    problems
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// Generated files: path under the root and content.
fn generated(write: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let files = [
        ("docs/errors/README.md", error_catalogue()),
        ("docs/access-table.md", access_table()),
        ("docs/capabilities.md", capabilities::page()),
        ("README.md", capabilities::readme(&std::fs::read_to_string(root().join("README.md")).unwrap_or_default())),
    ];
    for (path, content) in files {
        let path = root().join(path);
        if write {
            if let Some(parent) = path.parent() {
                let _ = std::fs::create_dir_all(parent);
            }
            if let Err(error) = std::fs::write(&path, content) {
                problems.push(format!("{}: {error}", path.display()));
            }
        } else if std::fs::read_to_string(&path).unwrap_or_default() != content {
            problems.push(format!("{}: is not what `cargo xtask generate` writes", path.display()));
        }
    }
    problems
}

fn access_table() -> String {
    use intended_model::entry::{Role, Scope};
    let mut out = String::from(
        "# Who may do what\n\nGenerated by `cargo xtask generate` from `crates/model/src/access.rs` (roles) and \
         `crates/api/src/needs.rs` (routes).\n\n\
         ## Roles and their scopes\n\n| scope |",
    );
    for role in Role::ALL {
        out.push_str(&format!(" {} |", role.as_str()));
    }
    out.push_str(&format!("\n|---|{}\n", "---|".repeat(Role::ALL.len())));
    for scope in Scope::ALL {
        out.push_str(&format!("| `{}` |", scope.as_str()));
        for role in Role::ALL {
            out.push_str(if role.scopes().contains(*scope) { " yes |" } else { " |" });
        }
        out.push('\n');
    }
    out.push_str(
        "\n## Routes and what they need\n\nThe least: a caller who has the scope nowhere is refused with \
         `credential.scope` before anything of the body is read. In which environment, and whether for the whole \
         tenant, depends on what is asked for. `any`: any credential of the tenant. `operator`: the key of who \
         operates the server.\n\n| route | needs | roles |\n|---|---|---|\n",
    );
    for line in needs::lines() {
        let roles = match line.need {
            needs::Need::Scopes(scopes) => {
                let has = |r: &&Role| scopes.iter().all(|s| r.scopes().contains(*s));
                Role::ALL.iter().filter(has).map(|r| r.as_str()).collect::<Vec<_>>().join(", ")
            }
            needs::Need::Any(scopes) => {
                let has = |r: &&Role| scopes.iter().any(|s| r.scopes().contains(*s));
                Role::ALL.iter().filter(has).map(|r| r.as_str()).collect::<Vec<_>>().join(", ")
            }
            needs::Need::Operator => "none".to_owned(),
            _ => "all".to_owned(),
        };
        out.push_str(&format!("| `{} {}` | {} | {roles} |\n", line.method, line.path, line.need.text()));
    }
    out
}

fn error_catalogue() -> String {
    let mut out = String::from(
        "# Codes\n\nGenerated by `cargo xtask generate` from `crates/model/src/code.rs`. A code never changes its meaning.\n\n\
         | code | status | retry | meaning | what to do |\n|---|---|---|---|---|\n",
    );
    for code in intended_model::Code::ALL {
        let retry = if code.retryable() { "yes" } else { "no" };
        out.push_str(&format!("| `{code}` | {} | {retry} | {} | {} |\n", code.status(), code.title(), code.hint()));
    }
    out
}
