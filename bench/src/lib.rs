//! What the programs under `bench/` share: a small HTTP/1.1 client with one kept-alive connection,
//! and latency figures. Absolute times mean little on a shared machine; the programs print ratios
//! against what they measured in the same run.

#![allow(clippy::disallowed_methods, reason = "measuring time is what this is for")]

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One kept-alive connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response: status and body.
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends one request, already encoded, and reads the whole response.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<Response> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let bad = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = find(&self.buffer, b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end]).map_err(|_| bad("head is not text"))?;
            let status = head.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(|| bad("no status"))?;
            let length: usize = head
                .lines()
                .filter_map(|l| l.split_once(':'))
                .find(|(n, _)| n.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, v)| v.trim().parse().ok())
                .ok_or_else(|| bad("no content-length"))?;
            let total = end + 4 + length;
            while self.buffer.len() < total {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok(Response { status, body: self.buffer[end + 4..total].to_vec() });
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// Encodes a request.
#[must_use]
pub fn encode(method: &str, host: &str, path: &str, key: Option<&str>, body: Option<&str>) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    if let Some(key) = key {
        out.push_str(&format!("authorization: Bearer {key}\r\n"));
    }
    if let Some(body) = body {
        out.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    } else {
        out.push_str("\r\n");
    }
    out.into_bytes()
}

/// Latencies of one measurement.
#[derive(Default, Clone)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    pub fn add(&mut self, since: Instant) {
        self.0.push(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The quantile `q` (0–1) in microseconds.
    #[must_use]
    pub fn quantile(&mut self, q: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        self.0.sort_unstable();
        let at = ((self.0.len() - 1) as f64 * q).round() as usize;
        self.0[at] as f64 / 1000.0
    }
}

/// `clients` connections send what `request` makes until `duration` is over. Responses with a
/// status that `expect` refuses end the measurement with an error.
pub async fn load<R, E>(
    address: &str,
    clients: usize,
    duration: Duration,
    request: R,
    expect: E,
) -> io::Result<(Latencies, f64)>
where
    R: Fn(usize, u64) -> Vec<u8> + Clone + Send + 'static,
    E: Fn(u16) -> bool + Clone + Send + 'static,
{
    let start = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (request, expect, address) = (request.clone(), expect.clone(), address.to_owned());
        tasks.push(tokio::spawn(async move {
            let mut connection = Client::connect(&address).await?;
            let mut latencies = Latencies::default();
            let mut n = 0;
            while start.elapsed() < duration {
                let bytes = request(client, n);
                let sent = Instant::now();
                let response = connection.send(&bytes).await?;
                latencies.add(sent);
                if !expect(response.status) {
                    let body = String::from_utf8_lossy(&response.body).into_owned();
                    return Err(io::Error::other(format!("status {}: {body}", response.status)));
                }
                n += 1;
            }
            Ok::<_, io::Error>(latencies)
        }));
    }
    let mut all = Latencies::default();
    for task in tasks {
        all.merge(task.await.map_err(io::Error::other)??);
    }
    let rate = all.len() as f64 / start.elapsed().as_secs_f64();
    Ok((all, rate))
}

/// Median of `rounds` fdatasyncs of 4 KiB written in place, in microseconds.
pub fn fdatasync_p50(dir: &std::path::Path, rounds: usize) -> io::Result<f64> {
    use std::os::unix::fs::FileExt as _;
    let path = dir.join(format!("fdatasync-{}", std::process::id()));
    let file = std::fs::File::create(&path)?;
    let block = vec![0xa5_u8; 4096];
    for i in 0..1024 {
        file.write_all_at(&block, i * 4096)?;
    }
    file.sync_all()?;
    let mut latencies = Latencies::default();
    for i in 0..rounds {
        let start = Instant::now();
        file.write_all_at(&block, (i as u64 % 1024) * 4096)?;
        file.sync_data()?;
        latencies.add(start);
    }
    std::fs::remove_file(path)?;
    Ok(latencies.quantile(0.5))
}
