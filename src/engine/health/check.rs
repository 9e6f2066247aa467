//! One check. Each of its parts has a counter from 0 to rise + fall - 1 and is up from `rise` on; the check is up while
//! all of them are. A counter starts at rise - 1, so that the first result decides at once.

use haclusterd_proto::control::Health as Verdict;
use haclusterd_proto::member::CheckState;
use serde::{Deserialize, Serialize};

/// A product of number and weight below this takes the node out, one above its opposite is cut: keepalived's bounds.
const LIMIT: i64 = 253;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckConfig {
    pub name: String,
    /// What is counted apart. At least one; its name may be empty.
    pub parts: Vec<String>,
    pub rise: u32,
    pub fall: u32,
    /// 0: down takes the node out. Positive: added while up. Negative: added while down. Of a number: its factor.
    pub weight: i16,
    /// Its results are numbers; without one it is 0.
    pub numeric: bool,
    /// Up counts as down and the other way round; of a number, its opposite counts.
    pub reverse: bool,
    pub initial: Initial,
}

/// What holds before the first result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Initial {
    /// Nothing: with weight 0 the node waits for the result, which decides at once.
    #[default]
    Undecided,
    /// `fall` failures are needed.
    Up,
    /// `rise` passes are needed (keepalived's init_fail).
    Down,
}

/// One result of a check, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Pass,
    /// Passes; an operator should see to it.
    Warn(String),
    /// Passes: it does all that it can, and cannot do more.
    Saturated(String),
    /// A number instead of a verdict: its product with the weight is added.
    Number(i32),
    /// Counts towards `fall`.
    Fail(String),
    /// Certain, so that it counts at once: the process has exited, the disk is full.
    Certain(String),
}

/// What a check does to the priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No candidate.
    Out,
    Adds(i16),
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    config: CheckConfig,
    parts: Vec<Part>,
    number: Option<i32>,
}

#[derive(Clone, Debug, Serialize)]
struct Part {
    counter: u32,
    seen: bool,
    /// Of the last result, but for one that passed and said nothing.
    word: Option<Word>,
}

#[derive(Clone, Debug, Serialize)]
struct Word {
    verdict: Verdict,
    text: String,
}

impl Check {
    pub fn new(config: CheckConfig) -> Check {
        let (rise, top) = (config.rise, config.top());
        let (counter, seen) = match config.initial {
            Initial::Undecided => (rise.saturating_sub(1), false),
            Initial::Up => (top, true),
            Initial::Down => (0, true),
        };
        let part = Part { counter, seen, word: None };
        let number = config.numeric.then_some(0);
        Check { parts: vec![part; config.parts.len()], number, config }
    }

    /// The same knowledge under other settings.
    pub fn with(&self, config: CheckConfig) -> Check {
        let mut check = Check::new(config);
        if check.config.numeric != self.config.numeric {
            return check;
        }
        check.number = self.number;
        for (name, part) in check.config.parts.iter().zip(&mut check.parts) {
            let Some(old) = self.parts.iter().zip(&self.config.parts).find(|(_, n)| *n == name) else {
                continue;
            };
            let up = old.0.counter >= self.config.rise;
            let counter = if up { check.config.top() } else { old.0.counter.min(check.config.rise - 1) };
            *part = Part { counter, ..old.0.clone() };
        }
        check
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    pub fn report(&mut self, part: &str, outcome: &Outcome) {
        let Some(at) = self.config.parts.iter().position(|name| name == part) else { return };
        if let (Outcome::Number(number), Some(known)) = (outcome, &mut self.number) {
            *known = *number;
        }
        self.parts[at].report(outcome, &self.config);
    }

    pub fn effect(&self) -> Effect {
        self.effect_as(None, None)
    }

    /// With another weight, or the other way round.
    pub fn effect_as(&self, weight: Option<i16>, reverse: Option<bool>) -> Effect {
        let weight = weight.unwrap_or(self.config.weight);
        let reverse = reverse.unwrap_or(self.config.reverse);
        if let Some(number) = self.number {
            return of_number(number, weight, reverse);
        }
        let good = self.is_settled() && self.is_up() != reverse;
        match weight {
            0 if !good => Effect::Out,
            1.. if good => Effect::Adds(weight),
            ..0 if !good => Effect::Adds(weight),
            _ => Effect::Adds(0),
        }
    }

    /// Before the first result nothing is known.
    fn is_settled(&self) -> bool {
        self.parts.iter().all(|part| part.seen)
    }

    fn is_up(&self) -> bool {
        self.parts.iter().all(|part| part.counter >= self.config.rise)
    }

    pub fn verdict(&self) -> Verdict {
        if self.number.is_some() {
            let told = self.word().map_or(Verdict::Ok, |word| word.verdict);
            return if self.effect() == Effect::Out { Verdict::Failed } else { told };
        }
        let down = |part: &Part| part.seen && part.counter < self.config.rise;
        let good = match self.config.reverse {
            // One part that is down settles it.
            false if self.parts.iter().any(down) => return Verdict::Failed,
            _ if !self.is_settled() => return Verdict::Unknown,
            reverse => self.is_up() != reverse,
        };
        match self.word() {
            _ if !good => Verdict::Failed,
            Some(word) if !self.config.reverse => word.verdict,
            _ => Verdict::Ok,
        }
    }

    /// Of a part that is down, or else the worst.
    fn word(&self) -> Option<&Word> {
        let down = |part: &&Part| part.seen && part.counter < self.config.rise;
        let words = || self.parts.iter().filter_map(|part| part.word.as_ref());
        match self.parts.iter().find(down) {
            Some(part) => part.word.as_ref(),
            None => words()
                .find(|word| word.verdict == Verdict::Saturated)
                .or_else(|| words().find(|word| word.verdict == Verdict::Warn)),
        }
    }

    /// Empty if all is well.
    pub fn reason(&self) -> String {
        let name = &self.config.name;
        let text = match (self.verdict(), self.number) {
            (Verdict::Ok | Verdict::Unchecked, _) => return String::new(),
            (Verdict::Unknown, _) => "no result yet".to_owned(),
            (Verdict::Failed, Some(number)) => format!("its number is {number}"),
            (Verdict::Failed, None) if self.config.reverse => "passes, and is not to (reverse)".to_owned(),
            _ => {
                self.word().map_or_else(|| "has not passed often enough yet".into(), |word| word.text.clone())
            }
        };
        format!("{name}: {text}")
    }

    pub fn state(&self) -> CheckState {
        let adds = match self.effect() {
            Effect::Out => None,
            Effect::Adds(weight) => Some(weight),
        };
        CheckState { name: self.config.name.clone(), health: self.verdict(), adds, reason: self.reason() }
    }
}

fn of_number(number: i32, weight: i16, reverse: bool) -> Effect {
    if weight == 0 {
        return if (number != 0) ^ reverse { Effect::Out } else { Effect::Adds(0) };
    }
    let product = i64::from(number) * i64::from(weight);
    let product = if reverse { -product } else { product };
    if product < -LIMIT {
        return Effect::Out;
    }
    i16::try_from(product.min(LIMIT)).map_or(Effect::Out, Effect::Adds)
}

impl Part {
    /// A failure while down and a pass while up start the count again: only results in a row count.
    fn report(&mut self, outcome: &Outcome, config: &CheckConfig) {
        let CheckConfig { rise, .. } = *config;
        let up = self.counter >= rise;
        self.seen = true;
        self.counter = match outcome {
            Outcome::Certain(_) => 0,
            Outcome::Fail(_) if up && self.counter > rise => self.counter - 1,
            Outcome::Fail(_) => 0,
            _ if up || self.counter + 1 == rise => config.top(),
            _ => self.counter + 1,
        };
        self.word = match outcome {
            Outcome::Pass | Outcome::Number(_) => None,
            Outcome::Warn(text) => Some(Word { verdict: Verdict::Warn, text: text.clone() }),
            Outcome::Saturated(text) => Some(Word { verdict: Verdict::Saturated, text: text.clone() }),
            Outcome::Fail(text) | Outcome::Certain(text) => {
                Some(Word { verdict: Verdict::Failed, text: text.clone() })
            }
        };
    }
}

impl CheckConfig {
    /// One part, and what most checks have.
    #[must_use]
    pub fn new(name: &str, rise: u32, fall: u32, weight: i16) -> CheckConfig {
        let parts = vec![String::new()];
        CheckConfig {
            name: name.into(),
            parts,
            rise,
            fall,
            weight,
            numeric: false,
            reverse: false,
            initial: Initial::default(),
        }
    }

    fn top(&self) -> u32 {
        (self.rise + self.fall).saturating_sub(1)
    }
}
