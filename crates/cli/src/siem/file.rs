//! Events in a file: appended, and on the disk before they count as sent.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use intended_runtime::siem::{Collector, Line, Sending};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Relative to the data directory. Its directory has to be there.
    pub path: PathBuf,
    /// From this size on it becomes `<path>.1`, and a new one is begun.
    #[serde(default = "default_max")]
    pub max_bytes: u64,
    /// How many of those are kept; the oldest goes.
    #[serde(default = "default_keep")]
    pub keep: u32,
}

const fn default_max() -> u64 {
    128 << 20
}
const fn default_keep() -> u32 {
    10
}

pub struct File {
    path: PathBuf,
    max: u64,
    keep: u32,
    /// With its length, as far as it is whole.
    open: Option<(std::fs::File, u64)>,
}

impl File {
    pub fn new(dir: &Path, config: &Config) -> Result<Self, String> {
        if config.max_bytes < 4_096 || config.keep == 0 {
            return Err("`max_bytes` is at least 4096, and `keep` at least 1".to_owned());
        }
        let path = dir.join(&config.path);
        if !path.parent().is_some_and(Path::is_dir) || path.is_dir() {
            return Err(format!("{}: this is no file in a directory that is there", path.display()));
        }
        Ok(Self { path, max: config.max_bytes, keep: config.keep, open: None })
    }

    fn numbered(&self, n: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        name.into()
    }

    /// The rename and the new name are on the disk, too.
    fn sync_directory(&self) -> std::io::Result<()> {
        let dir = self.path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(dir)?.sync_all()
    }

    fn opened(&mut self) -> std::io::Result<(std::fs::File, u64)> {
        if let Some(open) = self.open.take() {
            // Somebody else may have moved it away or put another in its place.
            use std::os::unix::fs::MetadataExt as _;
            let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            let there = std::fs::metadata(&self.path);
            if there.is_ok_and(|there| open.0.metadata().is_ok_and(|held| same(&held, &there))) {
                return Ok(open);
            }
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(&self.path)?;
        let mut length = file.metadata()?.len();
        // What a crash left of a line was never acknowledged: it comes again, whole.
        const LOOK: u64 = 64 << 10;
        while length > 0 {
            let from = length.saturating_sub(LOOK);
            let mut tail = Vec::new();
            file.seek(SeekFrom::Start(from))?;
            (&mut file).take(length - from).read_to_end(&mut tail)?;
            match tail.iter().rposition(|b| *b == b'\n') {
                Some(at) => {
                    length = from + at as u64 + 1;
                    break;
                }
                None => length = from,
            }
        }
        file.set_len(length)?;
        self.sync_directory()?;
        Ok((file, length))
    }

    fn rotate(&self) -> std::io::Result<()> {
        for n in (1..self.keep).rev() {
            match std::fs::rename(self.numbered(n), self.numbered(n + 1)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.numbered(1))?;
        self.sync_directory()
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let (mut file, mut length) = self.opened()?;
        if length > 0 && length + bytes.len() as u64 > self.max {
            drop(file);
            self.rotate()?;
            (file, length) = self.opened()?;
        }
        file.seek(SeekFrom::Start(length))?;
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_data()) {
            // No half of a line stays, as far as the disk lets that be undone.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.open = Some((file, length + bytes.len() as u64));
        Ok(())
    }
}

impl Collector for File {
    fn send<'a>(&'a mut self, batch: &'a [Line]) -> Sending<'a, Duration> {
        let mut bytes = Vec::with_capacity(batch.iter().map(|l| l.text.len() + 1).sum());
        for line in batch {
            bytes.extend_from_slice(line.text.as_bytes());
            bytes.push(b'\n');
        }
        // A disk takes its time: other work on this thread goes on elsewhere.
        let written = intended_runtime::admin::aside(|| self.append(&bytes));
        let said = written.map_err(|e| e.to_string());
        Box::pin(async move { said.map(|()| Duration::ZERO) })
    }
}

#[cfg(test)]
mod tests {
    use intended_model::Timestamp;
    use intended_runtime::siem::Severity;

    use super::*;

    fn lines(from: u32, to: u32) -> Vec<Line> {
        let line = |n| Line {
            text: format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(100)),
            kind: "decision",
            severity: Severity::Low,
            at: Timestamp::from_millis(0),
        };
        (from..to).map(line).collect()
    }
    fn numbers(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        let n = |l: &str| serde_json::from_str::<serde_json::Value>(l).unwrap()["n"].as_u64().unwrap();
        text.lines().map(n).collect()
    }

    #[tokio::test]
    async fn a_file_grows_by_whole_lines_and_makes_room_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: "siem.jsonl".into(), max_bytes: 4_096, keep: 2 };
        let path = dir.path().join("siem.jsonl");
        let mut file = File::new(dir.path(), &config).unwrap();
        for n in 0..6 {
            file.send(&lines(n * 10, n * 10 + 10)).await.unwrap();
        }
        // Three batches fit into one; of older ones two are kept.
        assert_eq!(numbers(&path), (30..60).collect::<Vec<_>>());
        assert_eq!(numbers(&file.numbered(1)), (0..30).collect::<Vec<_>>());
        for n in 6..13 {
            file.send(&lines(n * 10, n * 10 + 10)).await.unwrap();
        }
        assert_eq!(numbers(&path), (120..130).collect::<Vec<_>>());
        assert_eq!(numbers(&file.numbered(2)), (60..90).collect::<Vec<_>>());
        assert!(!file.numbered(3).exists());
    }

    #[tokio::test]
    async fn half_a_line_goes_and_a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: "siem.jsonl".into(), max_bytes: 1 << 20, keep: 1 };
        let path = dir.path().join("siem.jsonl");
        File::new(dir.path(), &config).unwrap().send(&lines(0, 3)).await.unwrap();
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(format!("{{\"n\":3,\"pad\":\"{}", "y".repeat(200_000)).as_bytes()).unwrap();
        drop(torn);
        let mut file = File::new(dir.path(), &config).unwrap();
        file.send(&lines(3, 5)).await.unwrap();
        assert_eq!(numbers(&path), [0, 1, 2, 3, 4]);
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        file.send(&lines(5, 6)).await.unwrap();
        assert_eq!(numbers(&path), [5]);
        // It cannot be written: that is said, and nothing is taken for sent.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(!file.send(&lines(6, 7)).await.unwrap_err().contains("siem.jsonl"), "where it is is the operator's");
    }
}
