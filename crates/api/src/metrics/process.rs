//! What every process tells of itself.

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::encode::{Written, one_gauge};

/// What the system says of this process; absent where it does not say it like Linux.
#[derive(Debug, Default)]
pub struct Process {
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    cpu_seconds: Option<f64>,
    open_files: Option<u64>,
    most_files: Option<u64>,
}

/// Clock ticks in a second, in which Linux tells processor time to programs on every architecture.
const TICKS: f64 = 100.0;

impl Process {
    pub fn read() -> Self {
        let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
        let status = text("status").unwrap_or_default();
        let said = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        };
        let bytes = |name: &str| said(name).and_then(|kib| kib.checked_mul(1024));
        let most_files = text("limits").and_then(|limits| {
            let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        });
        let cpu_seconds = text("stat").and_then(|stat| {
            // After the name, which may hold anything, also brackets.
            let (_, fields) = stat.rsplit_once(')')?;
            let mut fields = fields.split_ascii_whitespace().skip(11);
            let mut ticks = || fields.next()?.parse::<f64>().ok();
            Some((ticks()? + ticks()?) / TICKS)
        });
        let open_files = std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as u64);
        Self {
            resident_bytes: bytes("VmRSS:"),
            virtual_bytes: bytes("VmSize:"),
            threads: said("Threads:"),
            cpu_seconds,
            open_files,
            most_files,
        }
    }

    pub fn encode(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use.", self.resident_bytes),
            ("process_virtual_memory_bytes", "Memory that was asked for.", self.virtual_bytes),
            ("process_threads", "Threads.", self.threads),
            ("process_open_fds", "Open files and connections.", self.open_files),
            ("process_max_fds", "How many files and connections may be open.", self.most_files),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                one_gauge(to, name, help, value)?;
            }
        }
        if let Some(seconds) = self.cpu_seconds {
            let mut family =
                to.encode_descriptor("process_cpu_seconds", "Processor time.", None, MetricType::Counter)?;
            family.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        Ok(())
    }
}
