//! Times and names in the form in which people say them. A time has one unit, the largest that fits, and is rounded
//! down.

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `0.1s`, `41s`, `12m`, `3h`, and with days also the hours: `4d2h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        _ => match seconds % DAY / HOUR {
            0 => format!("{}d", seconds / DAY),
            hours => format!("{}d{hours}h", seconds / DAY),
        },
    }
}

/// `0.4ms`, `12ms`, `1.5s`.
pub fn round_trip(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        10_000..1_000_000 => format!("{}ms", us / 1000),
        _ => duration(us / 1000),
    }
}

/// What is left of a certificate: `24d`, on its last day `3h`, then `expired`.
pub fn certificate(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Err(_) | Ok(0) => "expired".into(),
        Ok(left) if left >= DAY => format!("{}d", left / DAY),
        Ok(left) => duration(left.saturating_mul(1000)),
    }
}

/// With a star for the node that answers.
pub fn marked(name: &str, me: bool) -> String {
    if me { format!("{name} *") } else { name.to_owned() }
}

/// Enough to tell ids apart.
pub fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_largest_unit() {
        let cases = [
            (0, "0.0s"),
            (199, "0.1s"),
            (9_999, "9.9s"),
            (41_900, "41s"),
            (60_000, "1m"),
            (12 * 60_000, "12m"),
            (3 * 3_600_000, "3h"),
            (86_400_000, "1d"),
            (4 * 86_400_000 + 2 * 3_600_000, "4d2h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(duration(u64::MAX), "213503982334d14h");
    }

    #[test]
    fn round_trips_are_in_milliseconds() {
        for (us, text) in [(40, "0.0ms"), (449, "0.4ms"), (12_345, "12ms"), (1_500_000, "1.5s")] {
            assert_eq!(round_trip(us), text);
        }
    }

    #[test]
    fn certificates_count_days_until_they_end() {
        for (s, text) in [(24 * 86_400 + 7_000, "24d"), (7_300, "2h"), (0, "expired"), (-5, "expired")] {
            assert_eq!(certificate(s), text);
        }
        assert_eq!(certificate(i64::MAX), "106751991167300d");
    }
}
