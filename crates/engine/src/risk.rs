//! Risk: eight factors, each 0–100, to one score by configured weights. Integers only. Whatever is
//! unknown counts as the worst. The caller supplies none of it.

use intended_model::Timestamp;
use intended_model::decision::{Classification, DataClass, Factor, Operation, Reversible, Risk};
use intended_model::entry::{BusinessHours, Criticality, RiskWeights, Tier};

/// What the factors are computed from.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub classification: &'a Classification,
    pub tier: Tier,
    pub criticality: Option<Criticality>,
    pub data_class: DataClass,
    /// 0–100; `None` for an unknown agent.
    pub trust: Option<u8>,
    pub at: Timestamp,
    pub hours: &'a BusinessHours,
}

/// The score and its breakdown.
#[must_use]
pub fn assess(subject: &Subject<'_>, weights: &RiskWeights) -> Risk {
    let c = subject.classification;
    let factors = [
        ("base_action", base_action(c), weights.base_action),
        ("environment", environment(subject.tier), weights.environment),
        ("blast_radius", blast_radius(c, subject.criticality), weights.blast_radius),
        ("reversibility", reversibility(c), weights.reversibility),
        ("data_sensitivity", data_sensitivity(subject.data_class), weights.data_sensitivity),
        ("privilege", privilege(c), weights.privilege),
        ("actor_trust", subject.trust.map_or(100, |t| 100_u8.saturating_sub(t)), weights.actor_trust),
        ("time_of_day", time_of_day(subject.at, subject.hours), weights.time_of_day),
    ];
    let total: u32 = factors.iter().map(|(_, _, w)| u32::from(*w)).sum();
    let sum: u32 = factors.iter().map(|(_, v, w)| u32::from(*v) * u32::from(*w)).sum();
    // All weights zero would make everything harmless: then the score is the worst instead.
    let score = (sum + total / 2).checked_div(total).map_or(100, |s| u8::try_from(s.min(100)).unwrap_or(100));
    Risk {
        factors: factors.into_iter().map(|(name, value, weight)| Factor { name: name.into(), value, weight }).collect(),
        score,
    }
}

fn has(c: &Classification, indicator: &str) -> bool {
    c.indicators.iter().any(|i| &**i == indicator)
}

fn base_action(c: &Classification) -> u8 {
    let base = match c.operation {
        Some(Operation::Probe) => 0,
        Some(Operation::Read | Operation::List) => 5,
        Some(Operation::Authenticate) => 20,
        Some(Operation::Create) => 30,
        Some(Operation::Update) => 40,
        Some(Operation::Send) => 50,
        Some(Operation::Execute | Operation::Configure | Operation::Revoke) => 60,
        Some(Operation::Transfer | Operation::Grant) => 75,
        Some(Operation::Delete) => 80,
        None => 100,
    };
    if has(c, "financial") && base > 5 { base.max(70) } else { base }
}

const fn environment(tier: Tier) -> u8 {
    match tier {
        Tier::Development => 10,
        Tier::Staging => 40,
        Tier::Production => 100,
    }
}

fn blast_radius(c: &Classification, criticality: Option<Criticality>) -> u8 {
    let own = if has(c, "bulk") { c.blast.max(80) } else { c.blast };
    let target = match criticality {
        Some(Criticality::Low) => 0,
        Some(Criticality::Medium) => 10,
        Some(Criticality::High) => 20,
        Some(Criticality::Critical) => 30,
        None => 40,
    };
    (own + target).min(100)
}

fn reversibility(c: &Classification) -> u8 {
    if has(c, "irreversible") {
        return 100;
    }
    match c.reversible {
        Reversible::Yes => 0,
        Reversible::Partly => 50,
        Reversible::No => 100,
    }
}

const fn data_sensitivity(class: DataClass) -> u8 {
    match class {
        DataClass::Public => 0,
        DataClass::Internal => 30,
        DataClass::Confidential => 60,
        DataClass::Restricted => 90,
        DataClass::Unknown => 100,
    }
}

fn privilege(c: &Classification) -> u8 {
    if has(c, "permission_change") || has(c, "privileged") {
        100
    } else if has(c, "secret_access") || has(c, "credential") {
        90
    } else if has(c, "code_execution") {
        70
    } else {
        0
    }
}

fn time_of_day(at: Timestamp, hours: &BusinessHours) -> u8 {
    let minute = at.minute_of_day(hours.offset_minutes);
    let weekday = at.weekday(hours.offset_minutes);
    let works = hours.weekdays.iter().any(|d| i64::from(*d) == weekday);
    let within = (i64::from(hours.from_minute)..i64::from(hours.to_minute)).contains(&minute);
    if works && within { 0 } else { 100 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classification() -> Classification {
        Classification {
            ambiguous: false,
            blast: 10,
            category: Some("OIL-104".into()),
            confidence: 100,
            indicators: vec![],
            operation: Some(Operation::Read),
            reversible: Reversible::Yes,
            system: None,
        }
    }

    fn score(c: &Classification, tier: Tier, data_class: DataClass, trust: Option<u8>) -> u8 {
        let hours = BusinessHours::default();
        let at = Timestamp::from_millis(12 * 3_600_000);
        let criticality = Some(Criticality::Low);
        assess(
            &Subject { classification: c, tier, criticality, data_class, trust, at, hours: &hours },
            &RiskWeights::default(),
        )
        .score
    }

    #[test]
    fn a_quiet_read_is_low_and_an_unknown_everything_is_high() {
        let quiet = score(&classification(), Tier::Development, DataClass::Public, Some(100));
        assert!(quiet < 10, "{quiet}");
        let mut unknown = classification();
        unknown.operation = None;
        unknown.reversible = Reversible::No;
        unknown.blast = 100;
        assert!(score(&unknown, Tier::Production, DataClass::Unknown, None) > 80);
    }

    #[test]
    fn weights_of_zero_do_not_make_everything_harmless() {
        let zero = RiskWeights {
            actor_trust: 0,
            base_action: 0,
            blast_radius: 0,
            data_sensitivity: 0,
            environment: 0,
            privilege: 0,
            reversibility: 0,
            time_of_day: 0,
        };
        let hours = BusinessHours::default();
        let c = classification();
        let subject = Subject {
            classification: &c,
            tier: Tier::Staging,
            criticality: None,
            data_class: DataClass::Public,
            trust: Some(100),
            at: Timestamp::default(),
            hours: &hours,
        };
        assert_eq!(assess(&subject, &zero).score, 100);
    }

    proptest! {
        #[test]
        fn less_trust_never_lowers_the_score(a in 0u8..=100, b in 0u8..=100) {
            let (low, high) = (a.min(b), a.max(b));
            let c = classification();
            prop_assert!(score(&c, Tier::Production, DataClass::Internal, Some(low)) >= score(&c, Tier::Production, DataClass::Internal, Some(high)));
        }
    }
}
