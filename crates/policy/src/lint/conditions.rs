//! Conditions, as far as they can be seen through: what must hold of which expression. A condition is
//! a conjunction of parts; of some parts it is plain what they ask of a value, others are known only
//! by how they read.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp};

/// A constant that something is compared with. Numbers are whole, decimals in ten-thousandths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Constant {
    Text(String),
    Number(i128),
    Entity(String),
}

/// The values that an expression may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Domain {
    one_of: Option<BTreeSet<Constant>>,
    none_of: BTreeSet<Constant>,
    from: i128,
    to: i128,
}

impl Default for Domain {
    fn default() -> Self {
        Self { one_of: None, none_of: BTreeSet::new(), from: i128::MIN, to: i128::MAX }
    }
}

impl Domain {
    fn only(values: BTreeSet<Constant>) -> Self {
        Self { one_of: Some(values), ..Self::default() }
    }
    pub(super) fn admits(&self, value: &Constant) -> bool {
        let within = if let Constant::Number(n) = value { (self.from..=self.to).contains(n) } else { true };
        within && !self.none_of.contains(value) && self.one_of.as_ref().is_none_or(|o| o.contains(value))
    }
    fn is_empty(&self) -> bool {
        self.from > self.to
            || self.one_of.as_ref().is_some_and(|o| !o.iter().any(|v| self.admits(v)))
            || self.from == self.to && self.none_of.contains(&Constant::Number(self.from))
    }
    fn and(&self, other: &Self) -> Self {
        let one_of = match (&self.one_of, &other.one_of) {
            (Some(a), Some(b)) => Some(a & b),
            (a, b) => a.as_ref().or(b.as_ref()).cloned(),
        };
        Self {
            one_of,
            none_of: &self.none_of | &other.none_of,
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }
    fn not(self) -> Option<Self> {
        let Self { one_of, from, to, .. } = self;
        match (one_of, from, to) {
            (Some(values), ..) => Some(Self { none_of: values, ..Self::default() }),
            (None, i128::MIN, to) => Some(Self { from: to.checked_add(1)?, ..Self::default() }),
            (None, from, i128::MAX) => Some(Self { to: from.checked_sub(1)?, ..Self::default() }),
            _ => None,
        }
    }
}

/// A condition taken apart.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    domains: BTreeMap<String, Domain>,
    /// Parts that must hold (true) or must not (false), as they read.
    parts: BTreeSet<(String, bool)>,
    /// Parts, and what is made of them.
    whole: BTreeMap<String, bool>,
    /// Whether there is a part that no domain says all of.
    opaque: bool,
    /// What it asks contradicting things of; empty: it is false as it stands.
    pub contradiction: Option<String>,
}

impl Conditions {
    pub(super) fn new(condition: Option<&Expr>) -> Self {
        let mut found = Self::default();
        let mut todo: Vec<(&Expr, bool)> = condition.map(|c| (c, true)).into_iter().collect();
        while let Some((expr, holds)) = todo.pop() {
            match expr.expr_kind() {
                ExprKind::Lit(Literal::Bool(b)) => {
                    if *b != holds {
                        found.contradiction = Some(String::new());
                    }
                    continue;
                }
                ExprKind::UnaryApp { op: UnaryOp::Not, arg } => {
                    todo.push((arg, !holds));
                    continue;
                }
                ExprKind::And { left, right } if holds => todo.extend([(&**left, true), (&**right, true)]),
                ExprKind::Or { left, right } if !holds => todo.extend([(&**left, false), (&**right, false)]),
                _ => found.part(expr, holds),
            }
            let text = expr.to_string();
            if found.whole.insert(text.clone(), holds).is_some_and(|before| before != holds) {
                found.contradiction.get_or_insert(text);
            }
        }
        found
    }

    fn part(&mut self, expr: &Expr, holds: bool) {
        self.parts.insert((expr.to_string(), holds));
        let domain = domain(expr).and_then(|(key, d)| Some((key, if holds { d } else { d.not()? })));
        let Some((key, domain)) = domain else {
            self.opaque = true;
            return;
        };
        let both = self.domains.get(&key).map_or(domain.clone(), |d| d.and(&domain));
        if both.is_empty() {
            self.contradiction.get_or_insert_with(|| key.clone());
        }
        self.domains.insert(key, both);
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.contradiction.is_none()
    }
    /// Whether nothing but these expressions is asked about.
    pub(super) fn only_about(&self, keys: &[&str]) -> bool {
        !self.opaque && self.domains.keys().all(|k| keys.contains(&k.as_str()))
    }
    /// Whether an expression may have this text.
    pub(super) fn admit(&self, key: &str, text: &str) -> bool {
        self.domains.get(key).is_none_or(|d| d.admits(&Constant::Text(text.to_owned())))
    }
    /// Whether they hold whenever the other do: every part is also one of theirs.
    pub(super) fn follow_from(&self, other: &Self) -> bool {
        self.contradiction.is_none() && self.parts.is_subset(&other.parts)
    }
    /// Whether they visibly never hold together.
    pub(super) fn exclude(&self, other: &Self) -> bool {
        self.domains.iter().any(|(key, d)| other.domains.get(key).is_some_and(|o| d.and(o).is_empty()))
            || self.whole.iter().any(|(text, holds)| other.whole.get(text).is_some_and(|h| h != holds))
    }
}

/// `context.tier`: a variable and attributes.
pub(super) fn path(expr: &Expr) -> Option<String> {
    match expr.expr_kind() {
        ExprKind::Var(v) => Some(v.to_string()),
        ExprKind::GetAttr { expr, attr } => Some(format!("{}.{attr}", path(expr)?)),
        _ => None,
    }
}

/// How an expression is called: the same for the same.
fn key(expr: &Expr) -> String {
    path(expr).unwrap_or_else(|| expr.to_string())
}

fn constant(expr: &Expr) -> Option<Constant> {
    match expr.expr_kind() {
        ExprKind::Lit(Literal::String(s)) => Some(Constant::Text(s.to_string())),
        ExprKind::Lit(Literal::Long(n)) => Some(Constant::Number(i128::from(*n))),
        ExprKind::Lit(Literal::EntityUID(e)) => Some(Constant::Entity(e.to_string())),
        ExprKind::UnaryApp { op: UnaryOp::Neg, arg } => match constant(arg)? {
            Constant::Number(n) => Some(Constant::Number(-n)),
            _ => None,
        },
        ExprKind::ExtensionFunctionApp { fn_name, args } if fn_name.to_string() == "decimal" => {
            match args.first()?.expr_kind() {
                ExprKind::Lit(Literal::String(s)) => decimal(s).map(Constant::Number),
                _ => None,
            }
        }
        _ => None,
    }
}

/// In ten-thousandths.
fn decimal(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once('.')?;
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let (sign, unsigned) = whole.strip_prefix('-').map_or((1, whole), |w| (-1, w));
    if !digits(unsigned) || !digits(part) || part.len() > 4 || unsigned.len() > 20 {
        return None;
    }
    let whole: i128 = unsigned.parse().ok()?;
    let part: i128 = format!("{part:0<4}").parse().ok()?;
    Some(sign * (whole * 10_000 + part))
}

/// What a part asks of which expression, if that is plain.
fn domain(expr: &Expr) -> Option<(String, Domain)> {
    match expr.expr_kind() {
        ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => {
            let (of, value) = match (constant(arg1), constant(arg2)) {
                (None, Some(value)) => (arg1, value),
                (Some(value), None) => (arg2, value),
                _ => return None,
            };
            Some((key(of), Domain::only(BTreeSet::from([value]))))
        }
        ExprKind::BinaryApp { op: op @ (BinaryOp::Less | BinaryOp::LessEq), arg1, arg2 } => {
            bound(arg1, arg2, *op == BinaryOp::LessEq)
        }
        ExprKind::BinaryApp { op: BinaryOp::Contains, arg1, arg2 } => {
            let ExprKind::Set(items) = arg1.expr_kind() else { return None };
            let values = items.iter().map(constant).collect::<Option<BTreeSet<_>>>()?;
            constant(arg2).is_none().then(|| (key(arg2), Domain::only(values)))
        }
        ExprKind::ExtensionFunctionApp { fn_name, args } => {
            let [a, b] = args.as_slice() else { return None };
            match fn_name.to_string().as_str() {
                "lessThan" => bound(a, b, false),
                "lessThanOrEqual" => bound(a, b, true),
                "greaterThan" => bound(b, a, false),
                "greaterThanOrEqual" => bound(b, a, true),
                _ => None,
            }
        }
        // `a == 1 || a == 2`
        ExprKind::Or { left, right } => {
            let ((a, left), (b, right)) = (domain(left)?, domain(right)?);
            let (Some(left), Some(right)) = (left.one_of, right.one_of) else { return None };
            (a == b).then(|| (a, Domain::only(&left | &right)))
        }
        _ => None,
    }
}

/// `less < more`, or `<=`, where one of them is a constant.
fn bound(less: &Expr, more: &Expr, or_equal: bool) -> Option<(String, Domain)> {
    let step = i128::from(!or_equal);
    match (constant(less), constant(more)) {
        (None, Some(Constant::Number(n))) => Some((key(less), Domain { to: n - step, ..Domain::default() })),
        (Some(Constant::Number(n)), None) => Some((key(more), Domain { from: n + step, ..Domain::default() })),
        _ => None,
    }
}
