//! Whether what is to be watched or held is anything at all. A hold on a name that nobody has says
//! "held" and stops nothing, which is the worst that it can say; so it is refused, with what there is.
//!
//! Asked when somebody wants it, and not of what is recorded: what a catalogue no longer has may stand
//! in a ledger.

use intended_intents::{domain_of, oil};
use intended_model::entry::{BreakerScope, BreakerTarget};

use crate::breakers::BreakerError;
use crate::covers::as_watched;
use crate::state::State;

/// Most names that a refusal offers.
const OFFERED: usize = 8;

/// Fails where a breaker or hold can cover nothing.
pub fn check(state: &State, on: &BreakerTarget) -> Result<(), BreakerError> {
    let Some(target) = on.target.as_deref() else { return Ok(()) };
    let nothing = |why: String| Err(BreakerError::CoversNothing { on: on.clone(), why });
    match on.scope {
        BreakerScope::Tenant => Ok(()),
        BreakerScope::Agent if state.agents.contains_key(target) => Ok(()),
        BreakerScope::Agent => nothing("no agent is registered under this name".to_owned()),
        BreakerScope::Tool if state.catalogue.has(target) => Ok(()),
        BreakerScope::Tool => nothing("the catalogue has no such tool".to_owned()),
        BreakerScope::Connector if target.contains(['.', '/', ':']) => {
            nothing("a connector is what stands before the first `.`, `/` or `:` of a tool's name".to_owned())
        }
        BreakerScope::Connector => {
            let systems = state.catalogue.systems();
            let wanted = as_watched(on.scope, target);
            if systems.contains(&*wanted) || state.catalogue.may_have_system(&wanted) {
                return Ok(());
            }
            let first = wanted.chars().next();
            let alike = systems.iter().filter(|s| s.chars().next() == first);
            nothing(format!("no tool of the catalogue is of this system; there is {}", offered(alike, systems.len())))
        }
        BreakerScope::Category => {
            let all = || oil::domains().iter().flat_map(|(domain, d)| d.categories.keys().chain([domain]));
            let known = match target.strip_suffix('*') {
                Some(prefix) => all().any(|code| code.starts_with(prefix)),
                None => all().any(|code| code == target),
            };
            if known {
                return Ok(());
            }
            let domain = domain_of(target);
            let alike = oil::domains().get(domain).into_iter().flat_map(|d| d.categories.keys());
            nothing(format!("the Open Intent Layer has no such code; there is {}", offered(alike, all().count())))
        }
    }
}

/// Names to choose from.
fn offered<T: AsRef<str>>(alike: impl Iterator<Item = T>, of: usize) -> String {
    let names: Vec<String> = alike.take(OFFERED).map(|name| format!("`{}`", name.as_ref())).collect();
    if names.is_empty() { format!("none like it among {of}") } else { names.join(", ") }
}
