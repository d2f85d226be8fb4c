//! `kill -9` at random moments. What was acknowledged is there, what was consumed stays consumed, the
//! ledger only ever grew, and in the end all of it re-executes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use intended_ledger::{Frontier, NodeHash, Receipt, leaf_hash};
use serde_json::{Value, json};

use crate::support::{Http, Reply, Server, Site, intended, intents, run};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A decision whose answer came whole.
#[derive(Clone)]
struct Decision {
    /// The idempotency key.
    key: String,
    intent: Value,
    id: String,
    outcome: String,
    receipt: Value,
    token: Option<String>,
    intent_hash: String,
}

impl Decision {
    fn of(key: &str, intent: &Value, reply: &Reply) -> Self {
        let body = &reply.body;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let decision = Self {
            key: key.to_owned(),
            intent: intent.clone(),
            id: text("id"),
            outcome: text("decision"),
            receipt: body["receipt"].clone(),
            token: body["token"].as_str().map(str::to_owned),
            intent_hash: text("intent_hash"),
        };
        let status = match decision.outcome.as_str() {
            "allow" => 200,
            "escalate" => 202,
            "deny" => 403,
            _ => panic!("{}: {body}", reply.status),
        };
        assert_eq!((reply.status, decision.token.is_some()), (status, status == 200), "{body}");
        decision
    }
    fn index(&self) -> u64 {
        self.receipt["index"].as_u64().unwrap()
    }
}

/// The token's own name, whatever else it says.
fn jti(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()["jti"].as_str().unwrap().to_owned()
}

/// What one client saw before the server was gone.
#[derive(Default)]
struct Seen {
    decided: Vec<Decision>,
    /// Consumed, with the ledger index.
    consumed: Vec<(Decision, u64)>,
    /// Allowed and not consumed.
    fresh: Vec<Decision>,
    /// Sent without an answer.
    asked: Option<(String, Value)>,
    spent: Option<Decision>,
}

fn submit(http: &Http, key: &str, intent: &Value) -> std::io::Result<Reply> {
    http.send("POST", "intents", Some(intent), &[("idempotency-key", key)])
}

fn consume(http: &Http, decision: &Decision) -> std::io::Result<Value> {
    let body = json!({
        "token": decision.token, "environment": "production", "intent_hash": decision.intent_hash, "consume": true,
    });
    Ok(http.send("POST", "tokens/verify", Some(&body), &[])?.expect(200))
}

/// Submits and consumes until the server is gone.
fn client(http: &Http, name: &str, seed: u64) -> Seen {
    let (mut random, mut seen) = (Random(seed), Seen::default());
    for n in 0_u64.. {
        let mut intent = match random.below(8) {
            0 => intents::refund(4_000),
            1 => intents::delete(),
            2..5 => intents::refund(1 + n),
            _ => intents::lookup(&n.to_string()),
        };
        if random.below(3) == 0 {
            // Concurrent decisions of one session have to be decided again.
            intent["session"] = "shared".into();
        }
        let key = format!("{name}-{n}");
        let Ok(reply) = submit(http, &key, &intent) else {
            seen.asked = Some((key, intent));
            return seen;
        };
        if reply.body["code"] == "commit.conflict" {
            continue;
        }
        let decision = Decision::of(&key, &intent, &reply);
        seen.decided.push(decision.clone());
        if decision.token.is_none() {
            continue;
        }
        if random.below(2) == 0 {
            seen.fresh.push(decision);
            continue;
        }
        match consume(http, &decision) {
            Ok(verdict) => {
                assert_eq!(verdict["active"], true, "{verdict}");
                let index = verdict["consumed_index"].as_u64().unwrap();
                seen.consumed.push((decision, index));
            }
            Err(_) => {
                seen.spent = Some(decision);
                return seen;
            }
        }
    }
    seen
}

/// Everything that was ever acknowledged.
struct Known {
    vkey: String,
    decided: Vec<Decision>,
    /// jti → index of the consumption, if its answer came.
    consumed: HashMap<String, Option<u64>>,
    /// Signed tree heads: size → root.
    heads: BTreeMap<u64, NodeHash>,
}

impl Known {
    fn receipt(&mut self, receipt: &Value) {
        let receipt: Receipt = serde_json::from_str(&receipt.to_string()).unwrap();
        let proved = receipt.verify(&self.vkey).unwrap();
        let known = *self.heads.entry(proved.size).or_insert(proved.root);
        assert_eq!(known, proved.root, "two roots were signed for the size {}", proved.size);
    }

    fn decision(&mut self, decision: Decision) {
        self.receipt(&decision.receipt);
        self.decided.push(decision);
    }

    /// It is there with the same entry and index.
    fn still(&mut self, owner: &Http, decision: &Decision) {
        let receipt = owner.get(&format!("intents/{}/receipt", decision.id)).expect(200);
        assert_eq!(receipt["index"], decision.receipt["index"], "{}", decision.id);
        assert_eq!(receipt["entry"], decision.receipt["entry"], "{}", decision.id);
        self.receipt(&receipt);
    }

    /// The same key gives the same answer, with the same token.
    fn again(&self, agent: &Http, decision: &Decision) {
        let reply = submit(agent, &decision.key, &decision.intent).unwrap();
        let again = Decision::of(&decision.key, &decision.intent, &reply);
        assert_eq!((&again.id, again.index(), &again.outcome), (&decision.id, decision.index(), &decision.outcome));
        assert_eq!(again.token.as_deref().map(jti), decision.token.as_deref().map(jti));
    }
}

/// What must hold after a restart.
fn check(known: &mut Known, seen: Vec<Seen>, site: &Site, server: &Server, random: &mut Random) {
    let (owner, agent) = (site.owner(server), site.agent(server));
    for client in seen {
        for decision in client.decided {
            known.still(&owner, &decision);
            if random.below(4) == 0 {
                known.again(&agent, &decision);
            }
            known.decision(decision);
        }
        for (decision, index) in client.consumed {
            let verdict = consume(&agent, &decision).unwrap();
            assert_eq!((&verdict["active"], &verdict["refusal"]), (&json!(false), &json!("token.consumed")));
            known.consumed.insert(jti(decision.token.as_deref().unwrap()), Some(index));
        }
        if let Some(decision) = client.fresh.last() {
            let verdict = consume(&agent, decision).unwrap();
            assert_eq!(verdict["active"], true, "an unused token survives: {verdict}");
            let index = verdict["consumed_index"].as_u64().unwrap();
            known.consumed.insert(jti(decision.token.as_deref().unwrap()), Some(index));
        }
        // Nobody knows what became of these: asked again, they are decided and consumed once.
        if let Some((key, intent)) = client.asked {
            let reply = submit(&agent, &key, &intent).unwrap();
            known.decision(Decision::of(&key, &intent, &reply));
        }
        if let Some(decision) = client.spent {
            let verdict = consume(&agent, &decision).unwrap();
            assert!(verdict["active"] == true || verdict["refusal"] == "token.consumed", "{verdict}");
            let verdict = consume(&agent, &decision).unwrap();
            assert_eq!(verdict["refusal"], "token.consumed", "{verdict}");
            known.consumed.insert(jti(decision.token.as_deref().unwrap()), None);
        }
    }
    // Some of what was there long ago.
    for _ in 0..3 {
        let at = usize::try_from(random.below(known.decided.len().max(1) as u64)).unwrap();
        if let Some(decision) = known.decided.get(at).cloned() {
            known.still(&owner, &decision);
            known.again(&agent, &decision);
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |t| t.parse().unwrap_or_else(|_| panic!("{name}={t}")))
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills = number("INTENDED_KILLS", 300);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("INTENDED_SEED", now.as_nanos() as u64);
    println!("INTENDED_KILLS={kills} INTENDED_SEED={seed}");
    let started = Instant::now();
    let mut random = Random(seed);
    let (site, server) = Site::new();
    let mut server = Some(server);
    // Tokens are looked at again after a restart, on however slow a machine.
    let settings = json!({"tier": "production", "settings": {"token_ttl_secs": 300}});
    site.owner(server.as_ref().unwrap()).put("environments/production", &settings).expect(200);
    let mut known =
        Known { vkey: site.vkey.clone(), decided: Vec::new(), consumed: HashMap::new(), heads: BTreeMap::new() };
    for round in 0..kills {
        let running = server.take().unwrap();
        let http = site.agent(&running);
        let wait = Duration::from_micros(random.below(50_000));
        let seeds: Vec<u64> = (0..4).map(|_| random.next()).collect();
        let mut halt = None;
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0_u64..)
                .zip(&seeds)
                .map(|(n, seed)| {
                    let http = &http;
                    scope.spawn(move || client(http, &format!("{seed:x}-{round}-{n}"), *seed))
                })
                .collect();
            std::thread::sleep(wait);
            if round % 10 == 5 {
                let body = json!({"environment": "staging", "reason": "drill"});
                halt = Some(site.owner(&running).post("emergency/halts", &body).expect(201));
            }
            running.kill();
            clients.into_iter().map(|c| c.join().unwrap()).collect()
        });
        if round % 25 == 24 {
            // What a kill leaves can be verified as it is, and that changes nothing.
            run(&mut intended(&["verify", site.path()])).expect(0);
        }
        let running = site.start().unwrap_or_else(|ran| panic!("round {round}: {ran:?}"));
        check(&mut known, seen, &site, &running, &mut random);
        if let Some(halt) = halt {
            // An acknowledged halt is in force after the restart, and lifted it is gone.
            let owner = site.owner(&running);
            let staging = intents::within(intents::lookup("1"), "staging");
            assert_eq!(owner.post("intents", &staging).expect(403)["reason"], "halt.environment");
            let path = format!("emergency/halts/{}/resume", halt["halt"].as_str().unwrap());
            owner.post(&path, &json!({"reason": "drill is over"})).expect(200);
            assert_eq!(owner.post("intents", &staging).expect(200)["decision"], "allow");
        }
        server = Some(running);
    }
    let killed = started.elapsed();
    whole(&site, server.unwrap(), &known);
    println!(
        "{kills} kills in {:.1} s, {} decisions and {} consumptions acknowledged, {:.1} s in all",
        killed.as_secs_f64(),
        known.decided.len(),
        known.consumed.len(),
        started.elapsed().as_secs_f64()
    );
    assert!(kills == 0 || !known.decided.is_empty() && !known.consumed.is_empty(), "nothing was tested");
}

/// In the end: the whole ledger against everything that was acknowledged, then verified offline.
fn whole(site: &Site, server: Server, known: &Known) {
    let export = site.dir.with_extension("jsonl");
    site.cli(&server, &["audit", "export", export.to_str().unwrap()]).expect(0);
    let text = std::fs::read_to_string(&export).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let leaves = &lines[1..lines.len() - 1];
    let mut consumptions = HashSet::new();
    let (mut tree, mut decisions) = (Frontier::empty(), 0);
    for leaf in leaves {
        tree.push(leaf_hash(leaf.as_bytes()));
        if let Some(root) = known.heads.get(&tree.size()) {
            assert_eq!(*root, tree.root(), "the signed root of {} entries", tree.size());
        }
        let value: Value = serde_json::from_str(leaf).unwrap();
        match value["kind"].as_str().unwrap() {
            "decision" => decisions += 1,
            "token.consumed" => {
                let jti = value["body"]["jti"].as_str().unwrap().to_owned();
                let at = known.consumed.get(&jti).unwrap_or_else(|| panic!("nobody consumed {jti}"));
                assert!(at.is_none_or(|at| Some(at) == value["index"].as_u64()), "{jti}");
                assert!(consumptions.insert(jti), "consumed twice");
            }
            _ => {}
        }
    }
    assert_eq!(consumptions.len(), known.consumed.len(), "no consumption is lost");
    for decision in &known.decided {
        let leaf: Value = serde_json::from_str(leaves[usize::try_from(decision.index()).unwrap()]).unwrap();
        assert_eq!(leaf, decision.receipt["entry"], "{}", decision.id);
    }
    server.stop().expect(0);
    let vkey = site.dir.with_extension("vkey");
    std::fs::write(&vkey, &site.vkey).unwrap();
    for path in [site.path(), export.to_str().unwrap()] {
        let ran = run(&mut intended(&["verify", path, "--vkey", vkey.to_str().unwrap(), "-o", "json"])).expect(0);
        let report = ran.json();
        assert_eq!(report["entries"], leaves.len(), "{path}: {}", ran.err);
        assert_eq!((&report["holds"], &report["decisions"]), (&json!(true), &json!(decisions)));
        assert_eq!(report["consumptions"], consumptions.len());
    }
}
