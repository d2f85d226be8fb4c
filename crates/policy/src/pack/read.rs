//! Policies of a pack: read one file at a time, each with its annotations.

use std::collections::BTreeMap;

use cedar_policy::{Effect, PolicyId, PolicySet};
use cedar_policy_core::ast;
use cedar_policy_core::parser::Loc;
use intended_model::Name;
use miette::Diagnostic as _;

use super::{ANNOTATIONS, Diagnostic, MAX_DEPTH, MAX_POLICIES, Obligation, PackPolicy, Place, did_you_mean, limits};

/// What has been read so far.
#[derive(Default)]
pub(super) struct Policies {
    pub sound: Vec<PackPolicy>,
    pub unsound: Vec<PackPolicy>,
    /// Where each id stands first.
    places: BTreeMap<String, (String, Option<Loc>)>,
    full: bool,
}

/// Reads the text of a file, or says all that Cedar finds wrong with it.
pub(crate) fn syntax(file: &str, text: &str) -> Result<PolicySet, Vec<Diagnostic>> {
    limits::nesting(file, text).map_err(|e| vec![e])?;
    text.parse().map_err(|errors: cedar_policy::ParseErrors| {
        let one = |e: &cedar_policy::ParseError| {
            let label = e.labels().and_then(|mut l| l.next());
            let range = label.map_or(0..0, |l| l.offset()..l.offset() + l.len());
            let help = e.help().map(|h| h.to_string());
            Diagnostic::error("syntax", &Place::new(file, text, range), e.to_string()).help(help)
        };
        errors.iter().map(one).collect()
    })
}

impl Policies {
    pub(super) fn read(&mut self, file: &str, text: &str, found: &mut Vec<Diagnostic>) {
        let set = match syntax(file, text) {
            Ok(set) => set,
            Err(errors) => return found.extend(errors),
        };
        for template in set.templates() {
            let template: &ast::Template = template.as_ref();
            let place = Place::whole(file, text).at(template.loc());
            found.push(Diagnostic::error(
                "template",
                &place,
                "templates are not supported: write policies without slots",
            ));
        }
        let mut policies: Vec<&cedar_policy::Policy> = set.policies().collect();
        policies.sort_by_key(|p| AsRef::<ast::Policy>::as_ref(*p).loc().map(|l| l.start()));
        for policy in policies {
            if self.sound.len() + self.unsound.len() >= MAX_POLICIES {
                if !std::mem::replace(&mut self.full, true) {
                    let place = Place::whole(file, text).at(AsRef::<ast::Policy>::as_ref(policy).loc());
                    found.push(Diagnostic::error(
                        "limit",
                        &place,
                        format!("a pack has at most {MAX_POLICIES} policies"),
                    ));
                }
                return;
            }
            self.add(Place::whole(file, text), policy, found);
        }
    }

    fn add(&mut self, file: Place<'_>, policy: &cedar_policy::Policy, found: &mut Vec<Diagnostic>) {
        let tree: &ast::Policy = policy.as_ref();
        let place = file.at(tree.loc());
        let Some((_, id)) = tree.annotations().find(|(name, _)| name.as_ref() == "id") else {
            found.push(Diagnostic::error("annotation", &place, "a policy has no `@id(\"…\")`"));
            return;
        };
        let (id, loc, at_id) = (id.val.to_string(), id.loc.clone(), place.at(id.loc.as_ref()));
        if let Err(e) = Name::new(&id) {
            found.push(Diagnostic::error("annotation", &at_id, e.to_string()).of(&id));
            return;
        }
        let deep = limits::depth(tree.condition());
        if deep > MAX_DEPTH {
            let place = place.at(tree.non_scope_constraints().and_then(|c| c.source_loc()));
            let help = "instead of a long chain use a set and `contains`, or several policies";
            let message = format!("its condition is {deep} expressions deep, at most {MAX_DEPTH}");
            found.push(Diagnostic::error("limit", &place, message).of(&id).help(help.to_owned()));
            return;
        }
        let wrong = |place: &Place<'_>, message: String| Diagnostic::error("annotation", place, message).of(&id);
        if let Some((first, loc)) = self.places.get(&id) {
            let first = Diagnostic::error("", &Place::whole(first, "").at(loc.as_ref()), "").place();
            let message = "the id stands twice in the pack".to_owned();
            let twice = Diagnostic::error("duplicate-id", &at_id, message).of(&id);
            found.push(twice.help(format!("it stands first in {first}")));
            return;
        }
        let before = found.len();
        let mut obligation = None;
        for (name, annotation) in tree.annotations() {
            let place = place.at(annotation.loc.as_ref());
            let name: &str = name.as_ref();
            if !ANNOTATIONS.contains(&name) {
                let help = did_you_mean(name, ANNOTATIONS.iter().copied(), |a| format!("@{a}"));
                found.push(wrong(&place, format!("unknown annotation `@{name}`")).help(help));
            }
            match Obligation::parse(name, &annotation.val) {
                None => {}
                Some(Err(message)) => found.push(wrong(&place, message)),
                Some(Ok(_)) if policy.effect() == Effect::Forbid => {
                    found.push(wrong(&place, format!("`@{name}` stands on a forbid; obligations belong on permits")));
                }
                Some(Ok(_)) if obligation.is_some() => {
                    found.push(wrong(&place, "a policy has one kind of obligation".to_owned()));
                }
                Some(Ok(parsed)) => obligation = Some(parsed),
            }
        }
        self.places.insert(id.clone(), (file.file.to_owned(), loc));
        let policy = policy.new_id(PolicyId::new(&id));
        let entry = PackPolicy { policy, id: id.into(), file: file.file.to_owned(), obligation };
        if found.len() == before { self.sound.push(entry) } else { self.unsound.push(entry) }
    }
}
