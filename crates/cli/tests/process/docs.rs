//! Every command that the documents, the hints and the messages name is one that exists: it gets as
//! far as its own help.

use std::path::{Path, PathBuf};
use std::process::Command;

use intended_model::Code;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `intended …` in code spans and shell blocks of a text.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut shell = false;
    for line in text.lines() {
        if line.starts_with("```") {
            shell = line == "```sh";
        } else if shell && line.starts_with("intended ") {
            found.push(line.split('#').next().unwrap().to_owned());
        } else if !shell {
            found.extend(line.split('`').skip(1).step_by(2).filter(|c| c.starts_with("intended ")).map(str::to_owned));
        }
    }
    found
}

/// The words of a command, with something in the place of what the reader puts in.
fn words(command: &str) -> Vec<String> {
    let mut out = String::new();
    let mut placeholder = false;
    for c in command.chars() {
        match c {
            '<' => placeholder = true,
            '>' => {
                placeholder = false;
                out.push('x');
            }
            '…' => out.push('x'),
            '|' if !placeholder => break,
            c if !placeholder => out.push(c),
            _ => {}
        }
    }
    out.split_whitespace().skip(1).map(str::to_owned).collect()
}

#[test]
fn every_command_that_is_named_somewhere_exists() {
    let mut texts: Vec<(String, String)> =
        Code::ALL.iter().map(|c| (format!("hint of {c}"), c.hint().to_owned())).collect();
    let mut files = vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("bench/README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    texts.extend(files.into_iter().map(|f| (f.display().to_string(), std::fs::read_to_string(&f).unwrap())));
    let mut seen = 0;
    for (place, text) in texts {
        for command in commands(&text) {
            let words = words(&command);
            let output = Command::new(env!("CARGO_BIN_EXE_intended")).args(&words).arg("--help").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{place}: `{command}`\n{said}");
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} commands were found");
}
