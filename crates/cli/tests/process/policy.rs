//! `policy`: a pack's whole life as a user lives it, and what is refused on the way.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Http, Ran, Server, Site, TENANT, intended, intents, run};

/// A directory with a new pack in it.
struct Pack {
    _held: tempfile::TempDir,
    dir: PathBuf,
}

impl Pack {
    fn new() -> Self {
        let held = tempfile::tempdir().unwrap();
        let dir = held.path().join("support");
        run(&mut intended(&["policy", "new", dir.to_str().unwrap(), "--quiet"])).expect(0);
        Self { _held: held, dir }
    }
    fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }
    fn beside(&self, name: &str) -> PathBuf {
        self.dir.with_file_name(name)
    }
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }
    #[track_caller]
    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.dir.join(name)).unwrap();
        assert!(text.contains(from), "{from}");
        self.write(name, &text.replace(from, to));
    }
    /// Refunds above 20 take a lead; the tests say so too.
    fn stricter(&self) {
        self.edit("support.cedar", "decimal(\"100.0\")", "decimal(\"20.0\")");
        self.edit(
            "tests/support.yaml",
            "intent: refund-40, decision: allow, policies: [support.refund-small]",
            "intent: refund-40, decision: escalate",
        );
        self.edit("tests/fixtures.yaml", "    delete:", "    refund-10: { action: stripe.create_refund, resource: charge/ch_1, arguments: { amount: 10 } }\n    delete:");
        self.edit("tests/support.yaml", "      - { intent: delete", "      - { agent: support-agent, intent: refund-10, decision: allow, policies: [support.refund-small] }\n      - { intent: delete");
    }
}

fn policy(arguments: &[&str]) -> Ran {
    run(&mut intended(&[&["policy"], arguments].concat()))
}

/// One of the tenant's people, at the command line.
struct Person<'s> {
    server: &'s Server,
    key: String,
}

impl<'s> Person<'s> {
    fn new(site: &Site, server: &'s Server, name: &str, groups: &[&str]) -> Self {
        let owner = site.owner(server);
        owner
            .put(
                &format!("members/{name}"),
                &json!({"groups": groups, "grants": [{"role": "owner", "whole": true}], "active": true}),
            )
            .expect(200);
        let scopes =
            ["policy:read", "policy:write", "policy:approve", "intent:read", "emergency:read", "emergency:write"];
        let body = json!({"credential": format!("{name}-key"), "member": name, "scopes": scopes, "whole": true});
        let created = owner.post("credentials", &body).expect(201);
        Self { server, key: created["key"].as_str().unwrap().to_owned() }
    }
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = intended(arguments);
        run(command.args(["--server", &self.server.url(), "--tenant", TENANT]).env("INTENDED_API_KEY", &self.key))
    }
    #[track_caller]
    fn policy(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["policy"], arguments].concat())
    }
    #[track_caller]
    fn data(&self, arguments: &[&str]) -> Value {
        self.policy(&[arguments, &["-o", "json"]].concat()).expect(0).json()
    }
}

/// Production takes two approvals of policy owners.
fn two_approvals(owner: &Http) {
    let settings = json!({"policy": {"approvals": 2, "approvers": "policy-owners"}});
    owner.put("environments/production", &json!({"tier": "production", "settings": settings})).expect(200);
}

/// A server where the scaffold's names exist, and its pack decides in production.
fn prepared() -> (Site, Server, Pack) {
    let (site, server) = Site::new();
    let pack = Pack::new();
    site.owner(&server)
        .put(
            "members/lea",
            &json!({"groups": ["support-leads"], "grants": [{"role": "approver", "whole": true}], "active": true}),
        )
        .expect(200);
    site.cli(&server, &["policy", "deploy", pack.path(), "-e", "production"]).expect(0);
    (site, server, pack)
}

fn decides(site: &Site, server: &Server) -> String {
    let rows = site.owner(server).get("deployments").expect(200);
    let row = rows.as_array().unwrap().iter().find(|r| r["environment"] == "production").unwrap().clone();
    row["digest"].as_str().unwrap().to_owned()
}

fn refund(site: &Site, server: &Server, amount: u64) -> String {
    let reply = site.agent(server).post("intents", &intents::refund(amount));
    reply.body["decision"].as_str().unwrap().to_owned()
}

#[test]
fn a_new_pack_passes_and_nothing_is_overwritten() {
    let pack = Pack::new();
    let text = std::fs::read_to_string(pack.dir.join("pack.toml")).unwrap();
    assert!(text.starts_with("name = \"support\""), "{text}");
    let again = policy(&["new", pack.path()]).expect(1);
    assert!(again.err.contains("pack.toml") && again.err.contains("nothing is overwritten"), "{}", again.err);
    // One file in the way is enough for none to be written.
    let half = pack.beside("half");
    std::fs::create_dir_all(half.join("tests")).unwrap();
    std::fs::write(half.join("support.cedar"), "mine").unwrap();
    policy(&["new", half.to_str().unwrap()]).expect(1);
    assert!(!half.join("pack.toml").exists());
    assert_eq!(std::fs::read_to_string(half.join("support.cedar")).unwrap(), "mine");
    assert!(policy(&["new", pack.beside("No Name").to_str().unwrap()]).expect(1).err.contains("--name"));
    let named = policy(&["new", pack.beside("No Name").to_str().unwrap(), "--name", "other", "-o", "json"]).expect(0);
    assert_eq!(named.json()["pack"], "other");
    assert!(named.err.contains("intended policy test"), "{}", named.err);
    // It is valid, has nothing to warn of, is in the one layout, and passes.
    let ran = policy(&["lint", pack.path(), "--deny-warnings"]).expect(0);
    assert!(ran.out.contains("no errors, no warnings"), "{}", ran.out);
    policy(&["fmt", pack.path(), "--check"]).expect(0);
    let ran = policy(&["test", pack.path()]).expect(0);
    assert!(ran.out.contains("8 cases pass") && ran.out.contains("coverage 100 %: 4 of 4 policies"), "{}", ran.out);
    assert!(ran.err.is_empty(), "{}", ran.err);
}

#[test]
fn a_failing_case_shows_what_differs_and_how_it_was_decided() {
    let pack = Pack::new();
    pack.edit("support.cedar", "decimal(\"100.0\")", "decimal(\"20.0\")");
    let ran = policy(&["test", pack.path()]).expect(7);
    for part in [
        "FAIL",
        "tests/support.yaml:10:9",
        "refund-40",
        "expected allow, got escalate",
        "GATE",
        "policy.escalate",
        "1 of 8 cases FAIL",
    ] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    // Not covered any more: by name and place, and below what the pack asks of itself.
    let place = format!("support.refund-small  {}/support.cedar:", pack.path());
    assert!(ran.out.contains(&place) && ran.out.contains("at least 100 % are wanted: FAIL"), "{}", ran.out);
    assert!(ran.out.lines().all(|l| l.chars().count() <= 100 || l.contains(pack.path())), "{}", ran.out);
    let xml = pack.beside("results.xml");
    let report = policy(&["test", pack.path(), "-o", "json", "--junit", xml.to_str().unwrap()]).expect(7).json();
    assert_eq!((&report["failed"], &report["passed"]), (&1.into(), &7.into()));
    assert_eq!(report["coverage"]["uncovered"][0]["policy"], "support.refund-small");
    let failing = report["cases"].as_array().unwrap().iter().find(|c| c["passed"] == false).unwrap();
    assert!(failing["gates"].is_array() && failing["intent"] == "refund-40", "{failing}");
    let xml = std::fs::read_to_string(xml).unwrap();
    assert!(xml.contains("tests=\"8\" failures=\"1\"") && xml.contains("<failure"), "{xml}");
    // A part of the tests: its cases count, the pack's coverage does not.
    let one = format!("{}/tests/support.yaml", pack.path());
    policy(&["test", &one]).expect(7);
    policy(&["test", pack.path(), "--filter", "no such test"]).expect(1);
    pack.edit("tests/support.yaml", "decision: allow, policies: [support.refund-small]", "decision: escalate");
    assert!(policy(&["test", pack.path()]).expect(7).out.contains("8 cases pass"));
    policy(&["test", pack.path(), "--filter", "support"]).expect(0);
    policy(&["test", pack.path(), "--filter", "support", "--threshold", "90"]).expect(7);
    pack.edit("pack.toml", "coverage_percent = 100", "coverage_percent = 75");
    policy(&["test", pack.path()]).expect(0);
    policy(&["test", pack.path(), "--threshold", "76"]).expect(7);
}

#[test]
fn what_is_wrong_is_shown_with_its_line_and_a_suggestion() {
    let pack = Pack::new();
    pack.edit("support.cedar", "Action::\"orders.get_order\"", "Action::\"orders.get_ordr\"");
    let ran = policy(&["validate", pack.path()]).expect(6);
    let lines: Vec<&str> = ran.out.lines().collect();
    let place = format!("{}/support.cedar:5:13: error[", pack.path());
    assert!(lines[0].starts_with(&place), "{}", ran.out);
    assert!(lines[1].contains("action == Action::\"orders.get_ordr\",") && lines[2].contains("^^^"), "{}", ran.out);
    assert!(ran.out.contains("help: did you mean `Action::\"orders.get_order\"`?"), "{}", ran.out);
    assert!(ran.out.contains("1 error") && ran.err.is_empty(), "{ran:?}");
    let report = policy(&["validate", pack.path(), "-o", "json"]).expect(6).json();
    assert_eq!((&report[0]["valid"], &report[0]["errors"]), (&false.into(), &1.into()));
    assert_eq!((&report[0]["diagnostics"][0]["line"], &report[0]["diagnostics"][0]["column"]), (&5.into(), &13.into()));
    // What runs a pack says the same and runs nothing.
    for verb in ["test", "bench"] {
        let ran = policy(&[verb, pack.path()]).expect(6);
        assert!(ran.out.is_empty() && ran.err.contains("support.cedar:5:13"), "{verb}: {ran:?}");
    }
    // A file alone; a team that the fixtures do not have.
    let file = format!("{}/support.cedar", pack.path());
    policy(&["validate", &file]).expect(6);
    pack.edit("support.cedar", "orders.get_ordr", "orders.get_order");
    policy(&["validate", &file]).expect(0);
    pack.edit("support.cedar", "Team::\"support\"", "Team::\"suport\"");
    let ran = policy(&["validate", pack.path()]).expect(6);
    assert!(ran.out.contains("suport") && ran.out.contains("3 errors"), "{}", ran.out);
    assert!(policy(&["schema"]).expect(0).out.contains("entity Agent in [Team]"));
    policy(&["validate"]).expect(1);
    policy(&["validate", "/no/such/pack"]).expect(1);
}

#[test]
fn warnings_are_counted_shown_by_lint_and_fail_when_asked_to() {
    let pack = Pack::new();
    // Two permits for the same with different obligations, one without a condition.
    pack.edit(
        "support.cedar",
        "@id(\"support.refund-small\")",
        "@id(\"support.anything\")\npermit (\n  principal in Team::\"support\",\n  action == Action::\"stripe.create_refund\",\n  resource\n);\n\n@id(\"support.refund-small\")",
    );
    let ran = policy(&["validate", pack.path()]).expect(0);
    assert!(
        ran.out.contains("warning") && ran.out.contains("intended policy lint") && !ran.out.contains("support.cedar:"),
        "{}",
        ran.out
    );
    let ran = policy(&["lint", pack.path()]).expect(0);
    assert!(ran.out.contains("warning[") && ran.out.contains("support.cedar:"), "{}", ran.out);
    policy(&["lint", pack.path(), "--deny-warnings"]).expect(6);
    policy(&["validate", pack.path(), "--deny-warnings"]).expect(6);
}

#[test]
fn formatting_writes_or_says_what_it_would_write() {
    let pack = Pack::new();
    let before = std::fs::read_to_string(pack.dir.join("support.cedar")).unwrap();
    let bad = before.replace("permit (\n  principal in Team::\"support\",\n", "permit(principal in Team::\"support\",");
    assert_ne!(bad, before);
    pack.write("support.cedar", &bad);
    let ran = policy(&["fmt", pack.path(), "--check"]).expect(6);
    assert!(ran.out.contains("--- ") && ran.out.contains("\n+permit ("), "{}", ran.out);
    assert_eq!(std::fs::read_to_string(pack.dir.join("support.cedar")).unwrap(), bad, "--check writes nothing");
    policy(&["fmt", pack.path(), "--dry-run"]).expect(0);
    assert_eq!(std::fs::read_to_string(pack.dir.join("support.cedar")).unwrap(), bad);
    let rows = policy(&["fmt", pack.path(), "-o", "json"]).expect(0).json();
    assert_eq!(rows[0]["changed"], true);
    assert_eq!(std::fs::read_to_string(pack.dir.join("support.cedar")).unwrap(), before);
    assert_eq!(policy(&["fmt", pack.path()]).expect(0).out, "");
    pack.write("support.cedar", "permit (");
    let ran = policy(&["fmt", pack.path()]).expect(6);
    assert!(ran.err.contains("support.cedar:1:") && ran.out.is_empty(), "{ran:?}");
    assert_eq!(std::fs::read_to_string(pack.dir.join("support.cedar")).unwrap(), "permit (");
}

#[test]
fn bad_packs_are_refused_by_every_verb_with_their_place() {
    let (site, server) = Site::new();
    let size = || site.owner(&server).get("audit/checkpoint").expect(200)["size"].clone();
    let before = size();
    let bad = |what: &str, code: i32, word: &str, change: &dyn Fn(&Pack)| {
        let pack = Pack::new();
        change(&pack);
        for verb in [
            &["policy", "validate", pack.path()][..],
            &["policy", "test", pack.path()],
            &["policy", "submit", pack.path(), "-e", "staging", "--title", "bad"],
            &["policy", "deploy", pack.path(), "-e", "staging"],
            &["policy", "simulate", pack.path(), "-e", "staging"],
        ] {
            let ran = site.cli(&server, verb);
            let said = format!("{}{}", ran.out, ran.err);
            assert_eq!(ran.code, code, "{what}: {verb:?}\n{said}");
            assert!(said.contains(word) && !said.contains("panicked"), "{what}: {verb:?}\n{said}");
        }
    };
    bad("no manifest", 6, "pack.toml", &|p| std::fs::remove_file(p.dir.join("pack.toml")).unwrap());
    bad("two policies with one id", 6, "support.lookup", &|p| {
        p.edit("support.cedar", "support.refund-small", "support.lookup");
    });
    bad("a link", 6, "other.cedar", &|p| {
        std::fs::rename(p.dir.join("support.cedar"), p.beside("outside.cedar")).unwrap();
        symlink(p.beside("outside.cedar"), p.dir.join("other.cedar")).unwrap();
    });
    bad("tests elsewhere", 6, "tests", &|p| {
        std::fs::rename(p.dir.join("tests"), p.beside("tests")).unwrap();
        symlink(p.beside("tests"), p.dir.join("tests")).unwrap();
    });
    bad("5 MB", 6, "1048576", &|p| p.write("big.cedar", &"// policy\n".repeat(524_288)));
    bad("nested without end", 6, "deep.cedar", &|p| {
        let condition = format!("{}true{}", "(".repeat(10_000), ")".repeat(10_000));
        p.write(
            "deep.cedar",
            &format!("@id(\"deep\")\npermit (principal, action, resource)\nwhen {{ {condition} }};\n"),
        );
    });
    bad("a string without end", 6, "tests/support.yaml", &|p| {
        p.edit("tests/support.yaml", "name: what the support agent may do", "name: \"what the support agent may do");
    });
    bad("no text", 6, "UTF-8", &|p| std::fs::write(p.dir.join("x.cedar"), [b'/', b'/', 0xff, b'\n']).unwrap());
    assert_eq!(size(), before, "nothing is stored");
    // What is no part of a pack is not sent, and not passed over in silence.
    let pack = Pack::new();
    pack.write("README.md", "# about");
    pack.write("notes.txt", "x");
    let ran = policy(&["validate", pack.path()]).expect(0);
    assert!(ran.err.contains("notes.txt") && !ran.err.contains("README"), "{}", ran.err);
    let empty = tempfile::tempdir().unwrap();
    assert!(policy(&["validate", empty.path().to_str().unwrap()]).expect(1).err.contains("intended policy new"));
}

#[test]
fn a_pack_lives_from_a_draft_to_the_way_back() {
    let (site, server, pack) = prepared();
    let owner = site.owner(&server);
    two_approvals(&owner);
    let people = ["ana", "ben", "cleo"]
        .map(|name| Person::new(&site, &server, name, if name == "ana" { &[] } else { &["policy-owners"] }));
    let [ana, ben, cleo] = &people;
    let first = decides(&site, &server);
    assert_eq!(refund(&site, &server, 40), "allow");
    pack.stricter();

    // What the tenant has is asked for with -e: its names, its schema.
    pack.edit("support.cedar", "Team::\"support\"", "Team::\"suport\"");
    let ran = ana.policy(&["validate", pack.path(), "-e", "production"]).expect(6);
    assert!(ran.out.contains("the tenant has no team `suport`") && ran.out.contains("did you mean"), "{}", ran.out);
    pack.edit("support.cedar", "Team::\"suport\"", "Team::\"support\"");
    let ran = ana.policy(&["validate", pack.path(), "-e", "production", "-o", "json"]).expect(0);
    assert_eq!((&ran.json()[0]["valid"], &ran.json()[0]["errors"]), (&true.into(), &0.into()));
    assert!(ana.policy(&["schema", "-e", "production"]).expect(0).out.contains("\"support\""));

    // Without a draft it does not get there.
    let ran = ana.policy(&["deploy", pack.path(), "-e", "production"]).expect(6);
    assert!(ran.err.contains("intended policy submit"), "{}", ran.err);
    let ran = ana.policy(&["submit", pack.path(), "-e", "production", "--title", "refunds above 20"]).expect(0);
    for part in ["refunds above 20", "submitted", "0 of 2", "validation", "tests", "simulation", "ben, cleo"] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    let waiting = ben.data(&["review"]);
    let draft = waiting[0]["draft"].as_str().unwrap().to_owned();
    assert!(ran.err.contains(&format!("intended policy approve {draft}")), "{}", ran.err);
    assert!(ben.policy(&["review"]).expect(0).out.contains("refunds above 20"));
    let ran = ben.policy(&["review", &draft]).expect(0);
    assert!(
        ran.out.contains("-  context.number.getTag(\"amount\").lessThanOrEqual(decimal(\"100.0\"))"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("ana") && ran.out.contains("blast radius"), "{}", ran.out);
    let digest = waiting[0]["digest"].as_str().unwrap().to_owned();

    // Nobody can be asked here, so nothing is approved without --yes; never by an author; never other content.
    let approve =
        |who: &Person, more: &[&str]| who.policy(&[&["approve", &draft, "--reason", "looked at it"], more].concat());
    let ran = approve(ben, &[]).expect(1);
    assert!(ran.err.contains(&digest) && ran.err.contains("support.cedar") && ran.err.contains("--yes"), "{}", ran.err);
    approve(ana, &["--yes"]).expect(4);
    let ran = approve(ben, &["--yes", "--digest", "000000000000"]).expect(6);
    assert!(ran.err.contains("another content"), "{}", ran.err);
    let ran = approve(ben, &["--yes", "--digest", &digest[7..19]]).expect(0);
    assert!(ran.out.contains("1 of 2"), "{}", ran.out);
    let early = ana.policy(&["deploy", &draft, "-e", "production"]);
    assert_eq!(early.code, 4, "{early:?}");
    assert!(early.err.contains("1 of 2"), "{}", early.err);
    let ran = approve(cleo, &["--yes"]).expect(0);
    assert!(ran.err.contains(&format!("intended policy deploy {draft} -e production")), "{}", ran.err);
    ana.policy(&["deploy", &draft, "-e", "staging"]).expect(1);

    let deployed = ana.data(&["deploy", &draft, "-e", "production"]);
    assert_eq!((&deployed["digest"], &deployed["replaces"]), (&digest.as_str().into(), &first.as_str().into()));
    assert!(deployed["elapsed_ms"].is_u64() && deployed["index"].is_u64(), "{deployed}");
    assert_eq!(deployed["verification"][0]["decision"], "deny");
    assert_eq!(refund(&site, &server, 40), "escalate");
    let rows = ana.data(&["list", "-e", "production"]);
    let status = |digest: &str| {
        let row = rows.as_array().unwrap().iter().find(|r| r["digest"] == digest).unwrap_or_else(|| panic!("{rows}"));
        row["status"][0].as_str().unwrap().to_owned()
    };
    assert_eq!((status(&digest), status(&first)), ("active".into(), "superseded".into()));
    assert!(ana.policy(&["list"]).expect(0).out.contains("superseded by"));
    assert_eq!(ana.data(&["list", "--status", "active", "-e", "production"]).as_array().unwrap().len(), 1);
    ana.policy(&["list", "--status", "nonsense"]).expect(6);

    // What was and what is, by every name.
    for name in [&digest[7..19], &digest, &format!("support@{}", &digest[7..19])] {
        assert_eq!(ana.data(&["show", name])["digest"], digest.as_str(), "{name}");
    }
    assert!(ana.policy(&["show", &digest]).expect(0).out.contains("==> support.cedar <=="));
    assert_eq!(ana.data(&["show", &draft])["status"], "deployed");
    ana.policy(&["show", "0123456789ab"]).expect(1);
    let difference = ana.data(&["diff", &first, "deployed", "-e", "production"]);
    assert_eq!((&difference["same"], &difference["files"].as_array().unwrap().len()), (&false.into(), &3));
    assert_eq!(ana.data(&["diff", "deployed", pack.path(), "-e", "production"])["same"], true);
    let difference = ana.policy(&["diff", &first, "deployed", "-e", "production", "--decisions"]).expect(0);
    assert!(
        difference.out.contains("allow → escalate") && difference.out.contains("+++ b/support.cedar"),
        "{}",
        difference.out
    );

    // Back: two people, the same words, and the name of the environment.
    let back = |who: &Person, more: &[&str]| {
        who.policy(&[&["rollback", "-e", "production", "--reason", "too strict"], more].concat())
    };
    assert!(back(ana, &[]).expect(1).err.contains("--confirm production"));
    let ran = back(ana, &["--confirm", "production"]).expect(3);
    assert!(ran.out.contains("waiting") && ran.err.contains("intended policy rollback -e production --to"), "{ran:?}");
    assert_eq!(decides(&site, &server), digest);
    let again = back(ana, &["--confirm", "production"]).expect(3);
    assert!(again.err.contains("takes 2 people"), "{}", again.err);
    let ran = back(ben, &["--confirm", "production"]).expect(0);
    assert!(
        ran.err.contains("has asked for") && ran.err.contains("rolled back") && ran.err.contains(" ms"),
        "{}",
        ran.err
    );
    assert_eq!((decides(&site, &server), refund(&site, &server, 40)), (first.clone(), "allow".into()));

    // While an incident is open, one.
    let opened = ben.run(&["incident", "open", "-e", "production", "--title", "drill", "-o", "json"]).expect(0).json();
    let incident = opened["incident"].as_str().unwrap();
    assert!(ben.run(&["incident", "list"]).expect(0).out.contains("drill"));
    let rolled = back(ana, &["--to", &digest[7..19], "--confirm", "production", "-o", "json"]).expect(0).json();
    assert_eq!(rolled["digest"], digest.as_str());
    ben.run(&["incident", "close", incident, "--reason", "over"]).expect(0);
    assert_eq!(ben.run(&["incident", "list", "-o", "json"]).expect(0).json(), json!([]));
    // The ledger holds, and everything in it is decided the same again.
    server.stop().expect(0);
    run(&mut intended(&["verify", site.path()])).expect(0);
}

#[test]
fn a_gate_that_is_not_passed_is_shown_among_the_gates_and_the_draft_goes_on() {
    let (site, server, pack) = prepared();
    let [ana, ben] = ["ana", "ben"].map(|name| Person::new(&site, &server, name, &[]));
    let before = decides(&site, &server);
    let rules = |rules: Value| {
        let body = json!({"tier": "production", "settings": {"policy": rules}});
        site.owner(&server).put("environments/production", &body).expect(200);
    };
    rules(json!({"approvals": 1, "max_blast_permille": 100}));
    for _ in 0..3 {
        refund(&site, &server, 40);
    }
    // Its own tests fail.
    pack.edit("support.cedar", "decimal(\"100.0\")", "decimal(\"20.0\")");
    let submit = |more: &[&str]| ana.policy(&[&["submit", pack.path(), "-e", "production"], more].concat());
    let ran = submit(&["--title", "stricter"]).expect(6);
    let row =
        |gate: &str| ran.err.lines().find(|l| l.trim().starts_with(gate)).unwrap_or_else(|| panic!("{}", ran.err));
    assert!(ran.out.is_empty() && row("validation").contains("pass") && row("tests").contains("FAIL"), "{ran:?}");
    assert!(ran.err.contains("refund-40"), "{}", ran.err);
    let draft = ran.err.split("kept as ").nth(1).unwrap().split(':').next().unwrap().to_owned();
    // They pass; too many recorded decisions change.
    pack.edit("support.cedar", "decimal(\"20.0\")", "decimal(\"100.0\")");
    pack.stricter();
    let ran = submit(&["--draft", &draft]).expect(6);
    assert!(
        ran.err.contains("blast radius") && ran.err.contains("simulation") && ran.err.contains("FAIL"),
        "{}",
        ran.err
    );
    rules(json!({"max_blast_permille": 1000}));
    let again = submit(&["--draft", &draft, "-o", "json"]).expect(0).json();
    assert_eq!((&again["title"], &again["draft"]), (&"stricter".into(), &draft.as_str().into()));
    // Rejected it stays away; edited it is another revision.
    let ran = ben.policy(&["reject", &draft, "--reason", "too strict", "--yes"]).expect(0);
    assert!(ran.out.contains("rejected"), "{}", ran.out);
    assert!(ana.policy(&["show", &draft]).expect(0).out.contains("too strict"));
    ana.policy(&["deploy", &draft, "-e", "production"]).expect(6);
    submit(&["--draft", &draft]).expect(0);
    ben.policy(&["approve", &draft, "--reason", "ok", "--yes"]).expect(0);
    // Deployed it does not do what it is expected to, and takes itself back.
    pack.edit(
        "pack.toml",
        "name = \"nobody deletes a customer\"\ndecision = \"deny\"",
        "name = \"nobody deletes a customer\"\ndecision = \"allow\"",
    );
    submit(&["--draft", &draft]).expect(0);
    ana.policy(&["deploy", &draft, "-e", "production"]).expect(4);
    ben.policy(&["approve", &draft, "--reason", "ok", "--yes"]).expect(0);
    let ran = ana.policy(&["deploy", &draft, "-e", "production"]).expect(6);
    assert!(ran.err.contains("nobody deletes a customer"), "{}", ran.err);
    assert_eq!(decides(&site, &server), before, "it took itself back");
    assert!(ana.policy(&["list", "-e", "production"]).expect(0).out.contains("taken back"));
}

#[test]
fn a_simulation_counts_the_same_online_and_in_an_export() {
    let (site, server, pack) = prepared();
    for n in 0..6 {
        site.agent(&server).post("intents", &intents::lookup(&n.to_string())).expect(200);
    }
    for amount in [10, 40, 60, 4_000] {
        refund(&site, &server, amount);
    }
    site.agent(&server).post("intents", &intents::delete()).expect(403);
    pack.stricter();
    let before = site.owner(&server).get("audit/checkpoint").expect(200)["size"].clone();
    let simulate = ["policy", "simulate", pack.path(), "-e", "production"];
    let online = site.data(&server, &simulate);
    assert_eq!(site.owner(&server).get("audit/checkpoint").expect(200)["size"], before, "read-only");
    let export = pack.beside("ledger.jsonl");
    let export = export.to_str().unwrap();
    site.cli(&server, &["audit", "export", export]).expect(0);
    let offline = |more: &[&str]| run(intended(&[&simulate[..], &["--file", export]].concat()).args(more));
    let local = offline(&["-o", "json"]).expect(0).json();
    for count in [
        "decisions",
        "replayed",
        "changed",
        "matched",
        "blast_permille",
        "transitions",
        "other_reason",
        "by_agent",
        "by_action",
        "by_category",
        "by_resource",
        "changes",
        "changes_omitted",
    ] {
        assert_eq!(online[count], local[count], "{count}");
    }
    assert_eq!((&local["decisions"], &local["changed"]), (&11.into(), &2.into()));
    assert_eq!((&local["transitions"]["allow → escalate"], &local["blast_permille"]), (&2.into(), &182.into()));
    // For people: coverage first, then what changes and where.
    for text in [offline(&[]).expect(0).out, site.cli(&server, &simulate).expect(0).out] {
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("coverage") && lines[2].contains("11 of 11 decisions replayed (100 %)"), "{text}");
        for part in ["2 allow → escalate", "18.2 %", "stripe.create_refund", "charge/ch_1", "support-agent"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(lines[1..].iter().all(|l| l.chars().count() <= 80), "{text}");
    }
    let one = offline(&["--change", "2"]).expect(0).out;
    assert!(one.contains("support.refund-small") && one.contains("support.refund-large"), "{one}");
    let intent = local["changes"][0]["intent"].as_str().unwrap();
    assert_eq!(offline(&["--intent", intent, "-o", "json"]).expect(0).json(), local["changes"][0]);
    let opened = site.data(&server, &[&simulate[..], &["--intent", intent]].concat());
    assert_eq!(opened, local["changes"][0], "one intent's decision alone, on the server");
    offline(&["--intent", intent, "--max-blast", "18.1"]).expect(6);
    assert!(offline(&["--intent", "0198c0de-0000-7000-8000-000000000000"]).expect(1).err.contains("no decision on"));
    offline(&["--change", "3"]).expect(1);
    // Against itself nothing changes; limits; windows.
    assert_eq!(offline(&["--against", pack.path(), "-o", "json"]).expect(0).json()["changed"], 0);
    let digest = decides(&site, &server);
    assert_eq!(site.data(&server, &["policy", "simulate", &digest, "-e", "production"])["changed"], 0);
    let name = format!("support@{}", &digest.trim_start_matches("sha256:")[..12]);
    for base in ["deployed", &name, &digest] {
        let found = site.data(&server, &[&simulate[..], &["--against", base]].concat());
        assert_eq!((&found["changed"], &found["changes"]), (&2.into(), &local["changes"]), "{base}");
    }
    site.cli(&server, &[&simulate[..], &["--against", pack.path()]].concat()).expect(1);
    assert!(offline(&["--max-blast", "18.1"]).expect(6).err.contains("18.2 %"));
    offline(&["--max-blast", "18.2"]).expect(0);
    assert_eq!(offline(&["--window", "7d", "-o", "json"]).expect(0).json()["window_secs"], 604_800);
    offline(&["--window", "x"]).expect(1);
    // A file that was cut short is no ledger.
    let text = std::fs::read_to_string(export).unwrap();
    let cut = pack.beside("cut.jsonl");
    std::fs::write(&cut, &text[..text.len() / 2]).unwrap();
    run(intended(&simulate).args(["--file", cut.to_str().unwrap()])).expect(8);
    // What each policy said of one of them.
    let rows = site.data(&server, &["policy", "explain", intent]);
    let said = |id: &str| rows.as_array().unwrap().iter().find(|r| r["policy"] == id).unwrap().clone();
    assert_eq!(said("support.refund-small")["determining"], true);
    assert!(said("support.refund-large")["because"].as_str().unwrap().contains("greaterThan"), "{rows}");
    let text = site.cli(&server, &["policy", "explain", intent]).expect(0).out;
    assert!(text.contains("=>") && text.contains("does not hold"), "{text}");
}

fn git(dir: &Path, arguments: &[&str]) {
    let fixed =
        ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"];
    let out = Command::new("git").arg("-C").arg(dir).args(fixed).args(arguments).output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn drift_is_what_the_source_has_and_the_server_has_not() {
    let (site, server, pack) = prepared();
    let top = pack.dir.parent().unwrap();
    git(top, &["init", "-q"]);
    git(top, &["add", "support"]);
    git(top, &["commit", "-qm", "first"]);
    let drift =
        |more: &[&str]| site.cli(&server, &[&["policy", "drift", pack.path(), "-e", "production"], more].concat());
    assert!(drift(&[]).expect(0).out.contains("none"));
    drift(&["--git", "HEAD"]).expect(0);
    pack.stricter();
    let ran = drift(&[]).expect(6);
    assert!(ran.out.contains("YES") && ran.out.contains("support.cedar") && ran.out.contains("+2 -2"), "{}", ran.out);
    drift(&["--git", "main"]).expect(0);
    git(top, &["commit", "-qam", "second"]);
    let found = drift(&["--git", "main", "-o", "json"]).expect(6).json();
    assert_eq!((&found["drift"], found["files"].as_array().unwrap().len()), (&true.into(), 3));
    drift(&["--git", "main~1"]).expect(0);
    assert!(drift(&["--git=--output=x"]).expect(1).err.contains("no commit"));
    drift(&["--git", "nowhere"]).expect(1);
    // Told, the server knows that what decides is behind.
    let ran = drift(&["--git", "main", "--report"]).expect(6);
    assert!(ran.err.contains("reported"), "{}", ran.err);
    let stale = site.cli(&server, &["policy", "list", "--status", "stale"]).expect(0).out;
    assert!(stale.contains("active, stale") && stale.contains("its source"), "{stale}");
    // Everything that stands is valid still.
    let ran = site.cli(&server, &["policy", "validate", "--all", "-e", "production"]).expect(0);
    assert!(ran.out.contains("support@"), "{}", ran.out);
    // A pack in a commit is held to the same rules.
    symlink("/etc/passwd", pack.dir.join("x.cedar")).unwrap();
    git(top, &["add", "-A"]);
    git(top, &["commit", "-qm", "link"]);
    assert!(drift(&["--git", "main"]).expect(6).err.contains("x.cedar"));
    // Of decisions over time.
    site.agent(&server).post("intents", &intents::lookup("1")).expect(200);
    let found = site.data(&server, &["policy", "drift", "-e", "production", "--window", "1h"]);
    assert_eq!((&found["after"], &found["distance_permille"]), (&1.into(), &1000.into()));
    assert!(
        site.cli(&server, &["policy", "drift", "-e", "production", "--window", "1h"])
            .expect(0)
            .out
            .contains("orders.get_order")
    );
    site.cli(&server, &["policy", "drift", "-e", "production"]).expect(1);
}

#[test]
fn a_pack_is_measured_against_one_policy() {
    let pack = Pack::new();
    let figures = policy(&["bench", pack.path(), "--seconds", "1", "-o", "json"]).expect(0).json();
    assert_eq!(figures["policies"], 4);
    for side in ["own", "one_policy"] {
        let of = |name: &str| figures[side][name].as_u64().unwrap();
        assert!(of("decisions_per_second") > 100 && of("p50_ns") > 0 && of("p99_ns") >= of("p50_ns"), "{figures}");
    }
    assert!(figures["ratio"].as_f64().unwrap() > 0.0, "{figures}");
    std::fs::remove_dir_all(pack.dir.join("tests")).unwrap();
    policy(&["bench", pack.path(), "--seconds", "1"]).expect(1);
}

#[test]
fn what_would_be_done_is_said_and_not_done() {
    let (site, server, pack) = prepared();
    let size = || site.owner(&server).get("audit/checkpoint").expect(200)["size"].clone();
    let before = size();
    for (arguments, path) in [
        (&["submit", pack.path(), "-e", "staging", "--title", "t"][..], "/drafts"),
        (&["approve", "draft-1", "--reason", "r"], "/drafts/draft-1/approve"),
        (&["reject", "draft-1", "--reason", "r"], "/drafts/draft-1/reject"),
        (&["deploy", "draft-1", "-e", "production"], "/deployments"),
        (&["drift", pack.path(), "-e", "production", "--report"], "/policy-sources"),
        (&["rollback", "-e", "production", "--reason", "r"], "/rollback"),
    ] {
        let said = site.cli(&server, &[&["policy"], arguments, &["--dry-run", "-o", "json"]].concat()).expect(0).json();
        assert!(said["dry_run"] == true && said["url"].as_str().unwrap().ends_with(path), "{said}");
    }
    assert_eq!(size(), before);
}
