//! Lines on their way to whoever reads the log, for a server: nobody who has something to say waits
//! until it is read.
//!
//! A reader that stands still (a full disk, a stopped pager, a collector that hangs) fills its pipe, and
//! the next write waits without end. Here only one thread waits then; what does not fit in front of it
//! is dropped, and counted.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use intended_api::logged::LineCounts;
use tracing::Level;

use crate::Format;
use crate::log::{self, Sink};

/// How much waits to be written at most.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub lines: usize,
    pub bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { lines: 8192, bytes: 4 << 20 }
    }
}

/// The lines that wait, and the thread that writes them. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    room: Room,
    counts: Arc<LineCounts>,
    state: Mutex<State>,
    /// Something came.
    came: Condvar,
    /// A line was written, or could not be.
    done: Condvar,
}

/// Held to look and to change, never while anything is written.
#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<String>,
    bytes: usize,
    /// How many were taken in, and with how many of them the writer is through.
    taken: u64,
    through: u64,
}

impl Queue {
    /// Begins to write to `out`, in a thread of its own that lives as long as the process.
    pub fn start<W: Write + Send + 'static>(format: Format, out: W, room: Room) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            room,
            counts: Arc::default(),
            state: Mutex::default(),
            came: Condvar::new(),
            done: Condvar::new(),
        });
        let from = Arc::clone(&shared);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || from.write(format, out))?;
        Ok(Self(shared))
    }

    /// What was not written, for `/metrics`.
    #[must_use]
    pub fn counts(&self) -> Arc<LineCounts> {
        Arc::clone(&self.0.counts)
    }

    /// Waits until all that was said so far is written, for so long at most. Answers whether it is.
    pub fn drain(&self, patience: Duration) -> bool {
        let state = self.0.state();
        let last = state.taken;
        let waited = self.0.done.wait_timeout_while(state, patience, |state| state.through < last);
        waited.unwrap_or_else(PoisonError::into_inner).0.through >= last
    }
}

impl Sink for Queue {
    fn put(&self, line: String) {
        let Room { lines, bytes } = self.0.room;
        let mut state = self.0.state();
        if state.waiting.len() >= lines || line.len() > bytes.saturating_sub(state.bytes) {
            drop(state);
            self.0.counts.dropped(1);
            return;
        }
        state.bytes += line.len();
        state.taken += 1;
        state.waiting.push_back(line);
        drop(state);
        self.0.came.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<W: Write>(&self, format: Format, mut out: W) {
        let mut told = 0;
        loop {
            let state = self.came.wait_while(self.state(), |state| state.waiting.is_empty());
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            let Some(line) = state.waiting.pop_front() else { continue };
            state.bytes -= line.len();
            drop(state);
            if put(&mut out, &line).is_err() {
                self.counts.dropped(1);
            }
            // Whoever reads again is told that something is missing, once all that waited is there.
            let missing = self.counts.read() - told;
            if missing > 0 && self.state().waiting.is_empty() {
                told += missing;
                let what = format!("the log was not read in time: {missing} lines are missing before this one");
                let mut line = log::head(format, Level::WARN, "intended::log", &what);
                log::end(format, &mut line);
                // It stands for lines that are counted already.
                let _ = put(&mut out, &line);
            }
            self.state().through += 1;
            self.done.notify_all();
        }
    }
}

fn put(out: &mut impl Write, line: &str) -> std::io::Result<()> {
    out.write_all(line.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Says what it was given; waits for leave before each write.
    struct Slow {
        given: mpsc::Sender<String>,
        leave: mpsc::Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // Without anybody to give leave it never returns.
            while self.leave.recv().is_err() {
                std::thread::park();
            }
            self.given.send(String::from_utf8_lossy(bytes).into_owned()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn slow(room: Room) -> (Queue, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let ((given, got), (leave, waits)) = (mpsc::channel(), mpsc::channel());
        (Queue::start(Format::Text, Slow { given, leave: waits }, room).unwrap(), got, leave)
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn what_was_said_is_written_in_its_order_before_the_end() {
        let (queue, got, leave) = slow(Room::default());
        for n in 0..100 {
            queue.put(format!("{n}\n"));
            leave.send(()).unwrap();
        }
        assert!(queue.drain(PATIENCE));
        let got: Vec<String> = got.try_iter().collect();
        assert_eq!(got, (0..100).map(|n| format!("{n}\n")).collect::<Vec<_>>());
        assert_eq!(queue.counts().read(), 0);
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_never_reads() {
        let (queue, _got, leave) = slow(Room::default());
        drop(leave);
        queue.put("stuck\n".to_owned());
        assert!(!queue.drain(Duration::from_millis(10)));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_whoever_reads_again_is_told() {
        let (queue, got, leave) = slow(Room { lines: 4, bytes: 100 });
        for n in 0..20 {
            queue.put(format!("{n}\n"));
        }
        // Four wait, and the writer may hold one more.
        let dropped = queue.counts().read();
        assert!((15..=16).contains(&dropped), "{dropped}");
        queue.put("x".repeat(101));
        let dropped = dropped + 1;
        assert_eq!(queue.counts().read(), dropped);
        for _ in 0..6 {
            leave.send(()).unwrap();
        }
        assert!(queue.drain(PATIENCE));
        let got: Vec<String> = got.try_iter().collect();
        assert_eq!(got.first().map(String::as_str), Some("0\n"));
        assert!(got.last().unwrap().contains(&format!("{dropped} lines are missing")), "{got:?}");
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_too() {
        let (queue, _got, _leave) = slow(Room { lines: 1000, bytes: 100 });
        for _ in 0..20 {
            queue.put("y".repeat(50));
        }
        let dropped = queue.counts().read();
        assert!((17..=18).contains(&dropped), "{dropped}");
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let queue = Queue::start(Format::Text, Broken, Room::default()).unwrap();
        queue.put("lost\n".to_owned());
        assert!(queue.drain(PATIENCE));
        assert_eq!(queue.counts().read(), 1);
    }
}
