//! Which known key an unknown one was probably meant to be.

/// Two slips of the finger; at three, another word is as near as the right one.
const MAX_SLIPS: usize = 2;

/// The known word nearest to `word`, if it is near enough to suggest.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let (slips, best) = known.iter().map(|key| (distance(word, key), *key)).min()?;
    (slips <= MAX_SLIPS && slips < best.len()).then_some(best)
}

/// Levenshtein's distance, over a table of one row.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    // A key longer than any known one by more than the slips is far away, however long it is.
    for (i, from) in a.chars().take(b.len() + MAX_SLIPS + 1).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips() {
        let cases =
            [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("lease", "lese", 1)];
        for (a, b, slips) in cases {
            assert_eq!(distance(a, b), slips, "{a} {b}");
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["priority", "listen", "name"];
        assert_eq!(nearest("prioritty", &known), Some("priority"));
        assert_eq!(nearest("Listen", &known), Some("listen"));
        assert_eq!(nearest("weight", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
