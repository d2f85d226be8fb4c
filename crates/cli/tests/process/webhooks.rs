//! Webhooks of a server that runs, to a receiver that is one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, Site, intents};

/// Takes requests and answers each with this; passes on head and body.
fn receiver(answer: &'static str) -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (send, got) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
                    break;
                }
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let _ = stream.get_mut().write_all(answer.as_bytes());
            if send.send((head, body)).is_err() {
                return;
            }
        }
    });
    (url, got)
}

fn allowed() -> (Site, Server) {
    let site = Site::bare();
    let path = site.dir.join("intended.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}webhook_networks = [\"127.0.0.1/32\"]\n")).unwrap();
    site.set_up()
}

#[test]
fn an_escalation_reaches_who_is_to_be_told() {
    let (site, server) = allowed();
    let (url, got) = receiver("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    let set =
        site.cli(&server, &["webhook", "set", "pager", "--url", &url, "--event", "approval.requested", "-o", "json"]);
    let set = set.expect(0).json();
    assert!(set["secret"].as_str().unwrap().starts_with("whsec_"));
    let tested = site.cli(&server, &["webhook", "test", "pager", "-o", "json"]).expect(0).json();
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(true), &json!(204)));
    let (_, body) = got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["type"], "webhook.test");

    site.agent(&server).post("intents", &intents::refund(400)).expect(202);
    let (head, body) = got.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n") && head.contains("webhook-signature: v1,"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["type"], "approval.requested");
}

#[test]
fn a_receiver_sends_the_server_nowhere_else() {
    let (site, server) = allowed();
    let (elsewhere, got) = receiver("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let (url, first) = receiver(Box::leak(answer.into_boxed_str()));
    site.cli(&server, &["webhook", "set", "pager", "--url", &url, "--event", "approval.requested"]).expect(0);
    let tested = site.cli(&server, &["webhook", "test", "pager", "-o", "json"]).expect(5).json();
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(false), &json!(307)));
    first.recv_timeout(PATIENCE).unwrap();
    assert!(got.try_recv().is_err(), "a redirect was followed");
}

#[test]
fn without_the_operators_word_nothing_is_sent_inside() {
    let (site, server) = Site::new();
    for url in ["http://127.0.0.1:9/x", "https://127.0.0.1:9/x", "https://[::1]/", "https://0x7f.1/"] {
        let refused = site.cli(&server, &["webhook", "set", "pager", "--url", url, "--event", "approval.requested"]);
        assert!(refused.expect(6).err.contains("webhook.url"), "{url}");
    }
}
