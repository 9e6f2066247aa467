//! Files of the corpus with a mistake or two more, against what keepalived says of them at the moment.
//!
//! `MUTATIONS=n`: so many. `MUTATION_SEED=k`: that one, with its text.

use crate::corpus::{Case, cases, died};
use crate::oracle;
use crate::verdict::{complains, complaints, node, of};
use haclusterd::config::keepalived::{Mode, to_toml};
use std::fs;
use std::path::Path;

const MUTATIONS: u64 = 200;
/// Where the two differ already, as corpus.rs says.
const APART: [&str; 2] =
    ["232-namespace-missing-hides-the-rest.conf", "174-include-under-condition-reads-twice.conf"];
/// Of an instance or script for which it has said that, it says nothing more; of certificates nothing is made.
const HIDES: [&str; 5] = [
    "SSL password already specified",
    "doesn't exist",
    "Error setting global script uid/gid",
    "Unable to set uid/gid",
    "Unable to set default user",
];

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides as u64).unwrap()
    }
}

const NUMBERS: [&str; 10] = ["0", "-1", "1", "2", "254", "255", "256", "65536", "1.5", "99999999999"];
const MARKS: [&str; 8] = ["{", "}", "\"", "'", "#", "!", " ", "\\"];

fn mutate(text: &str, words: &[String], dice: &mut Dice) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = dice.roll(lines.len());
    match dice.roll(8) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = dice.roll(lines.len());
            lines.swap(at, other);
        }
        3 => lines[at] = with_word(&lines[at], dice, |_| String::new()),
        4 => lines[at] = with_word(&lines[at], dice, |_| NUMBERS[at % NUMBERS.len()].to_owned()),
        5 => {
            let word = words[dice.roll(words.len())].clone();
            lines[at] = with_word(&lines[at], dice, |_| word.clone());
        }
        6 => lines[at] = with_word(&lines[at], dice, |word| format!("{word} {word}")),
        _ => {
            let mark = MARKS[dice.roll(MARKS.len())];
            let ends: Vec<usize> =
                lines[at].char_indices().map(|(end, _)| end).chain([lines[at].len()]).collect();
            lines[at].insert_str(ends[dice.roll(ends.len())], mark);
        }
    }
    lines.join("\n") + "\n"
}

/// One of its words, changed.
fn with_word(line: &str, dice: &mut Dice, change: impl Fn(&str) -> String) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let real: Vec<usize> = (0..words.len()).filter(|at| !words[*at].is_empty()).collect();
    if real.is_empty() {
        return line.to_owned();
    }
    let chosen = real[dice.roll(real.len())];
    let changed = words
        .iter()
        .enumerate()
        .map(|(at, word)| if at == chosen { change(word) } else { (*word).to_owned() });
    changed.collect::<Vec<_>>().join(" ")
}

/// Beside the files that it may include.
fn place(dir: &Path) {
    fs::create_dir(dir.join("parts")).unwrap();
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keepalived/parts");
    let copy = std::process::Command::new("cp").arg("-rT").arg(parts).arg(dir.join("parts")).status();
    assert!(copy.unwrap().success());
}

/// What the two say, where they differ.
fn differ(case: &Case, text: &str, dir: &Path) -> Option<String> {
    let file = dir.join("keepalived.conf");
    fs::write(&file, text).unwrap();
    let mut read = of(&file, &case.options);
    let _ = to_toml(&mut read, Mode::Vrrp, &node());
    let ours = complaints(&read);
    let (exit, messages) = oracle::ask(&file, &case.options).filter(|(exit, _)| !died(*exit))?;
    if HIDES.iter().any(|words| messages.contains(words)) {
        return None;
    }
    (ours.is_empty() == complains(exit, &messages)).then(|| {
        format!("exit {exit}: {}\n    ours: {ours:?}", messages.replace(&*dir.to_string_lossy(), ""))
    })
}

#[test]
fn what_keepalived_says_of_mistakes_we_say() {
    crate::netns::isolated("mutation::what_keepalived_says_of_mistakes_we_say", &[], || {
        oracle::links();
        let dir = tempfile::tempdir().unwrap();
        place(dir.path());
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let only = number("MUTATION_SEED");
        let seeds = only.map_or(0..number("MUTATIONS").unwrap_or(MUTATIONS), |seed| seed..seed + 1);
        let apart = |case: &Case| APART.iter().any(|name| case.file.ends_with(name));
        let fit = |case: &Case| !died(case.exit) && !apart(case);
        let cases: Vec<Case> = cases().into_iter().filter(fit).collect();
        let texts: Vec<String> = cases
            .iter()
            .map(|case| String::from_utf8_lossy(&fs::read(&case.file).unwrap()).into_owned())
            .collect();
        let words: Vec<String> =
            texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
        let mut wrong = Vec::new();
        for seed in seeds {
            let mut dice = Dice::new(seed);
            let chosen = dice.roll(cases.len());
            let mut text = texts[chosen].clone();
            for _ in 0..=dice.roll(2) {
                text = mutate(&text, &words, &mut dice);
            }
            if only.is_some() {
                println!("{text}");
            }
            if let Some(difference) = differ(&cases[chosen], &text, dir.path()) {
                let name = cases[chosen].file.file_stem().unwrap().display();
                wrong.push(format!("seed {seed}, {name}: {difference}"));
            }
        }
        assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    });
}
