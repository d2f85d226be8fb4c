//! Signing in with an identity provider: it sends the person back to this program, which listens on
//! this machine for as long as that takes (RFC 8252 section 7.3).

use std::time::Duration;

use intended_model::ExitCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::Client;
use crate::cmd::encode;
use crate::error::{CliError, file};
use crate::output::{note, say};

/// How long somebody may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes of the head of a request.
const MAX_HEAD: usize = 16 * 1024;

pub async fn sign_in(client: &Client, provider: &str) -> Result<Value, CliError> {
    let here = std::path::Path::new("127.0.0.1");
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(file(here))?;
    let port = listener.local_addr().map_err(file(here))?.port();
    let body = json!({"redirect_uri": format!("http://127.0.0.1:{port}/callback")});
    let path = format!("identity-providers/{}", encode(provider));
    let begun = client.call("POST", &format!("{path}/begin"), Some(&body), &[]).await?.body;
    let text = |name: &str| begun.get(name).and_then(Value::as_str).unwrap_or_default();
    note("open this in a browser on this machine:");
    say(text("authorization_url"));
    let failed = |what: &str| CliError::Failed(what.to_owned(), ExitCode::Auth);
    let came = tokio::time::timeout(PATIENCE, callback(&listener, text("state"))).await;
    let code = came.map_err(|_| failed("nobody came back from the identity provider"))??;
    let body = json!({"state": text("state"), "code": code});
    Ok(client.call("POST", &format!("{path}/finish"), Some(&body), &[]).await?.body)
}

/// Waits for the one request that brings the state back. Whatever else asks is told that there is nothing.
async fn callback(listener: &tokio::net::TcpListener, state: &str) -> Result<String, CliError> {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let mut head = Vec::new();
        let whole = async {
            let mut part = [0; 1024];
            while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < MAX_HEAD {
                match stream.read(&mut part).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => head.extend_from_slice(part.get(..n).unwrap_or_default()),
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), whole).await;
        let found = answer(&String::from_utf8_lossy(&head), state);
        let (status, text) = match &found {
            None => ("404 Not Found", "There is nothing here."),
            Some(Ok(_)) => ("200 OK", "You can close this window and go back to the terminal."),
            Some(Err(_)) => ("200 OK", "The identity provider said no. Go back to the terminal."),
        };
        let reply = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
        let _ = stream.write_all(reply.as_bytes()).await;
        let _ = stream.shutdown().await;
        match found {
            None => {}
            Some(Ok(code)) => return Ok(code),
            Some(Err(error)) => {
                let what = format!("the identity provider said `{}`", crate::output::safe(&error));
                return Err(CliError::Failed(what, ExitCode::Auth));
            }
        }
    }
}

/// The code that a request brings, or the error; `None` when it is not the answer to what was asked.
fn answer(head: &str, state: &str) -> Option<Result<String, String>> {
    let target = head.lines().next()?.strip_prefix("GET /callback?")?.split(' ').next()?;
    let part = |name: &str| {
        let mut all = target.split('&').filter_map(|p| p.split_once('=')).filter(|(n, _)| *n == name);
        let (first, more) = (all.next(), all.next());
        first.filter(|_| more.is_none()).and_then(|(_, value)| decode(value))
    };
    if part("state")? != state {
        return None;
    }
    match (part("code"), part("error")) {
        (Some(code), None) => Some(Ok(code)),
        (_, Some(error)) => Some(Err(error)),
        (None, None) => None,
    }
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let pair = [bytes.next()?, bytes.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_what_was_asked_counts() {
        let get = |query: &str| answer(&format!("GET /callback?{query} HTTP/1.1\r\n\r\n"), "s1");
        assert_eq!(get("code=a%2Fb&state=s1"), Some(Ok("a/b".to_owned())));
        assert_eq!(get("error=access_denied&state=s1"), Some(Err("access_denied".to_owned())));
        for other in [
            "code=x",
            "code=x&state=s2",
            "code=x&state=s1&state=s1",
            "state=s1",
            "code=x&code=y&state=s1",
            "code=%f&state=s1",
        ] {
            assert_eq!(get(other), None, "{other}");
        }
        assert_eq!(answer("POST /callback?code=x&state=s1 HTTP/1.1", "s1"), None);
        assert_eq!(answer("GET /favicon.ico HTTP/1.1", "s1"), None);
    }
}
