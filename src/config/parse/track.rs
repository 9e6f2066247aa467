//! `track`: which checks count for a virtual router, and how.

use super::section::{boolean, kind, number};
use super::within;
use crate::config::Check;
use crate::config::error::{Fault, Problems};
use crate::engine::health::Track;
use haclusterd_proto::member::MAX_CHECKS;
use toml::de::DeValue;

const FORM: &str = "write \"NAME\", or { check = \"NAME\", weight = -20, reverse = true }";

pub(super) fn list(value: &DeValue<'_>) -> Result<Vec<Track>, Fault> {
    let DeValue::Array(all) = value else {
        return Err(Fault::new(format!("is {}", kind(value)), format!("a list: {FORM}")));
    };
    let tracks: Vec<Track> = all.iter().map(|one| one_of(one.get_ref())).collect::<Result<_, _>>()?;
    let twice = |at: usize| tracks[..at].iter().any(|other| other.check == tracks[at].check);
    match (0..tracks.len()).find(|at| twice(*at)) {
        Some(at) => {
            Err(Fault::new(format!("has {} twice", tracks[at].check), "a check counts once: remove one"))
        }
        None if tracks.len() > MAX_CHECKS => {
            Err(Fault::new(format!("has {}", tracks.len()), format!("at most {MAX_CHECKS}")))
        }
        None => Ok(tracks),
    }
}

fn one_of(value: &DeValue<'_>) -> Result<Track, Fault> {
    let mut track = Track { check: String::new(), weight: None, reverse: None };
    match value {
        DeValue::String(name) => track.check = name.to_string(),
        DeValue::Table(table) => {
            for (key, value) in table {
                match (key.get_ref().as_ref(), value.get_ref()) {
                    ("check", DeValue::String(name)) => track.check = name.to_string(),
                    ("weight", value) => {
                        let weight = number(|text| within(text, -254..=254))(value)?;
                        track.weight = i16::try_from(weight).ok();
                    }
                    ("reverse", value) => track.reverse = Some(boolean(value)?),
                    (key, _) => return Err(Fault::new(format!("{key} is not known here"), FORM)),
                }
            }
        }
        other => return Err(Fault::new(format!("has {}", kind(other)), FORM)),
    }
    if track.check.is_empty() {
        return Err(Fault::new("has an entry without a check", FORM));
    }
    Ok(track)
}

/// Once the checks are known. `tracked`: where, and which.
pub(super) fn judge(problems: &mut Problems<'_>, tracked: &[(usize, String)], checks: &[Check]) {
    for (at, name) in tracked {
        if !checks.iter().any(|check| check.name == *name) {
            let known: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
            let remedy = match known.is_empty() {
                true => "there is none: write a [[check]]".to_owned(),
                false => format!("name one of: {}", known.join(", ")),
            };
            problems.add(*at, "vrrp.track", Fault::new(format!("{name} is no check"), remedy));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::engine::health::Track;
    use std::path::Path;

    fn parse(track: &str) -> Result<Vec<Track>, String> {
        let text = format!(
            "[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n[[vrrp]]\nvrid = 51\n\
             addresses = ['10.0.0.100/24']\ntrack = {track}\n[[check]]\nkind = 'script'\nname = 'a'\n\
             command = ['/bin/true']\n"
        );
        let config = Config::parse(&text, Path::new("t.toml")).map_err(|error| error.to_string())?;
        Ok(config.routers[0].track.clone().unwrap())
    }

    #[test]
    fn a_name_is_enough_and_a_weight_takes_the_place_of_the_checks_own() {
        assert_eq!(parse("['a']").unwrap(), [Track { check: "a".into(), weight: None, reverse: None }]);
        let other = parse("[{ check = 'a', weight = -20, reverse = true }]").unwrap();
        assert_eq!(other, [Track { check: "a".into(), weight: Some(-20), reverse: Some(true) }]);
        assert_eq!(parse("[]").unwrap(), []);
    }

    #[test]
    fn mistakes_are_told() {
        for (track, said) in [
            ("['b']", "vrrp.track: b is no check; name one of: a"),
            ("'a'", "vrrp.track: is a text; a list: write"),
            ("['a', 'a']", "has a twice"),
            ("[{ weight = 1 }]", "has an entry without a check"),
            ("[{ check = 'a', weight = 255 }]", "255 is out of range"),
            ("[{ check = 'a', wait = 1 }]", "wait is not known here"),
            ("[7]", "has a number"),
        ] {
            assert!(parse(track).unwrap_err().contains(said), "{track}: {}", parse(track).unwrap_err());
        }
    }
}
