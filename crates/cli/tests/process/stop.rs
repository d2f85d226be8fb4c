//! Being asked to stop: not ready first, what is running is answered, the end is clean and in time.

use std::io::Write as _;
use std::time::Duration;

use crate::support::{Site, connect, intended, intents, read_reply, run, until};

#[test]
fn sigterm_is_not_ready_first_then_answers_what_runs_then_ends_with_0() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    // Long enough to be seen on any machine.
    site.configure("drain_millis", Some(2_000));
    let server = site.start().unwrap();
    let agent = site.agent(&server);
    assert_eq!(agent.get("/readyz").status, 200);
    // Half a request is on its way when the signal comes.
    let (head, body) = agent.wire("POST", "intents", Some(&intents::lookup("1")), &[]);
    let mut under_way = connect(server.address).unwrap();
    under_way.write_all(head.as_bytes()).unwrap();
    server.signal("TERM");
    until("/readyz says no", || agent.get("/readyz").status == 503);
    // Not ready is not yet closed: whoever has not noticed is served.
    agent.post("intents", &intents::lookup("2")).expect(200);
    assert_eq!(
        agent.send("GET", "/readyz?verbose=1", None, &[("accept", "application/json")]).unwrap().body["draining"],
        true
    );
    until("no more connections are taken", || agent.send("GET", "/livez", None, &[]).is_err());
    under_way.write_all(body.as_bytes()).unwrap();
    let answer = read_reply(&mut under_way).unwrap().expect(200);
    assert!(answer["token"].is_string(), "{answer}");
    let ended = server.ended().expect(0);
    assert!(ended.err.contains("stopped"), "{}", ended.err);
    // A last checkpoint covers all of it.
    let report = run(&mut intended(&["verify", site.path(), "-o", "json"])).expect(0);
    assert_eq!(report.json()["decisions"], 2);
    assert!(!report.err.contains("newer entries"), "{}", report.err);
    let server = site.start().unwrap();
    let receipt = site.owner(&server).get(&format!("intents/{}/receipt", answer["id"].as_str().unwrap())).expect(200);
    assert_eq!(receipt["entry"], answer["receipt"]["entry"]);
}

#[test]
fn clients_that_send_nothing_do_not_hold_up_the_end() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    site.configure("drain_millis", Some(0));
    site.configure("finish_millis", Some(300));
    let server = site.start().unwrap();
    let agent = site.agent(&server);
    let silent = connect(server.address).unwrap();
    let mut half = connect(server.address).unwrap();
    half.write_all(b"POST /v1/tenants/acme/intents HTTP/1.1\r\nhost: localhost\r\ncontent-le").unwrap();
    let (head, body) = agent.wire("POST", "intents", Some(&intents::lookup("1")), &[]);
    let mut stuck = connect(server.address).unwrap();
    stuck.write_all((head + &body[..10]).as_bytes()).unwrap();
    // All of them are known to the server.
    assert_eq!(agent.get("/livez").status, 200);
    std::thread::sleep(Duration::from_millis(100));
    server.stop().expect(0);
    drop((silent, half, stuck));
    run(&mut intended(&["verify", site.path()])).expect(0);
}

/// Half a request, or none, holds a place only for so long; and there are only so many places.
#[test]
fn clients_that_say_nothing_make_room_for_those_who_do() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    site.configure("connections", Some(4));
    site.configure("head_millis", Some(700));
    let server = site.start().unwrap();
    let began = std::time::Instant::now();
    let mut slow: Vec<_> = (0..4).map(|_| connect(server.address).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"POST /v1/tenants/acme/intents HTTP/1.1\r\nhost: localhost\r\ncontent-le").unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(site.agent(&server).get("/livez").status, 200);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(600), "four are four: {waited:?}");
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    }
    server.stop().expect(0);
}

#[test]
fn ctrl_c_ends_it_as_well() {
    let site = Site::bare();
    let server = site.start().unwrap();
    server.signal("INT");
    server.ended().expect(0);
}

#[test]
fn a_directory_is_served_once() {
    let site = Site::bare();
    let server = site.start().unwrap();
    let second = site.start().err().unwrap().expect(1);
    assert!(second.err.contains(site.path()) && second.err.contains("another process"), "{}", second.err);
    server.stop().expect(0);
    site.start().unwrap().stop().expect(0);
}
