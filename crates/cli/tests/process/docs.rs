//! The documents' shell blocks are run in order against a real server, as a reader would. Every other
//! command that a document, a hint or a message names is one that exists: it gets as far as its help.

use std::path::{Path, PathBuf};
use std::process::Command;

use intended_model::Code;

use crate::support::{intended, run};

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
            // Pipes and what is put in by the shell are for the run below.
            found.push(line.split(" # ").next().unwrap().split(['|', '>']).next().unwrap().to_owned());
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
    // As a shell does: what stands between quotes is one word.
    let mut quote = None;
    let mut words = vec![String::new()];
    for c in out.chars() {
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            None if c.is_whitespace() => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words.into_iter().filter(|w| !w.is_empty()).skip(1).collect()
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

/// The documents with shell blocks that are run, in the order in which they are read.
const RUN: [&str; 11] = [
    "README.md",
    "docs/api.md",
    "docs/policy.md",
    "docs/ledger.md",
    "docs/alerts.md",
    "docs/emergency.md",
    "docs/breakers.md",
    "docs/backup.md",
    "docs/keys.md",
    "docs/incident-response.md",
    "docs/cli.md",
];

/// The lines of a text's shell blocks.
fn shell(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => lines.push(line),
            _ => {}
        }
    }
    lines
}

/// A process group that ends with the test.
struct Group(std::process::Child);
impl Drop for Group {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("kill -9 -{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn the_documents_work_as_they_are_written() {
    use std::os::unix::process::CommandExt as _;
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("docs/{}", path.file_name().unwrap().to_str().unwrap());
        let has = path.is_file() && !shell(&std::fs::read_to_string(&path).unwrap()).is_empty();
        assert_eq!(has, RUN.contains(&name.as_str()), "{name}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut script = String::from("set -eu\n");
    let mut replaced = 0;
    for document in RUN {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for line in shell(&text) {
            // What stays up, what builds, and what runs these tests; everything else as it stands.
            let line = match line {
                "cargo run --release -p intended-cli -- dev" => {
                    format!("intended dev --once --listen {address} >dev.txt")
                }
                "./test.sh" => "true".to_owned(),
                "intended serve --data-dir ./data" => format!(
                    "{line} --listen {address} 2>serve.txt &\nn=0; until intended health check >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done"
                ),
                other => match other.split_once(" # exits ") {
                    Some((command, code)) => format!("code=0; {command} || code=$?; [ $code -eq {code} ]"),
                    None => other.replace("127.0.0.1:7070", &address),
                },
            };
            replaced += usize::from(line.contains(&address) || line == "true");
            script.push_str(&format!("{line}\n"));
        }
    }
    assert_eq!(replaced, 6, "dev, the tests, serve, the address in README, api.md and cli.md:\n{script}");
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("policies"), dir.path().join("policies")).unwrap();
    let (out, err) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let binary = Path::new(env!("CARGO_BIN_EXE_intended")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    // The same variables as the other tests give it, and none of the machine's.
    let mut command = Command::new("sh");
    command.envs(intended(&[]).get_envs().filter_map(|(n, v)| v.map(|v| (n, v))));
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("INTENDED_")) {
        command.env_remove(name);
    }
    command.args(["-xc", &script]).current_dir(dir.path()).process_group(0).env("PATH", path);
    command.env("XDG_CONFIG_HOME", dir.path().join("config")).env("INTENDED_SERVER", format!("http://{address}"));
    command.stdin(std::process::Stdio::null());
    command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
    let mut group = Group(command.spawn().unwrap());
    let ended = (0..1_200).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        group.0.try_wait().unwrap()
    });
    let said = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert!(ended.is_some_and(|s| s.success()), "{ended:?}\n{}\n{}", said(&out), said(&err));
    assert!(said(&out).contains("the ledger holds") && said(&out).contains("ALLOW  policy.permit"), "{}", said(&out));
    drop(group);
    // What was served is whole.
    run(&mut intended(&["verify", dir.path().join("data").to_str().unwrap()])).expect(0);
}
