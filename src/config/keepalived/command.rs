//! A command line as keepalived reads it: quotes of both kinds and escapes, and no shell.

/// The words, or why there are none.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(escape(&mut chars)),
            _ if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            _ if c.is_whitespace() && quote.is_none() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    // The end closes a quote.
    words.extend(word);
    if words.is_empty() { Err("it is empty".into()) } else { Ok(words) }
}

type Chars<'t> = std::iter::Peekable<std::str::Chars<'t>>;

/// `\n`, `\101`, `\x41`, `\cA` and the like; any other character stands for itself.
fn escape(chars: &mut Chars<'_>) -> Option<char> {
    let c = chars.next()?;
    let value = match c {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'c' => char::from(u8::try_from(chars.next()?).ok()? & 0x1f),
        'x' => digits(chars, 16, 2, 0),
        '0'..='7' => digits(chars, 8, 2, c.to_digit(8).unwrap_or(0)),
        other => other,
    };
    Some(value)
}

fn digits(chars: &mut Chars<'_>, radix: u32, most: usize, first: u32) -> char {
    let mut value = first;
    for _ in 0..most {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
        value = value * radix + digit;
        chars.next();
    }
    char::from(u8::try_from(value & 0xff).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_keepalived_splits_them() {
        for (text, words) in [
            ("/bin/x a  b", vec!["/bin/x", "a", "b"]),
            ("/bin/x 'a b' \"c d\"e", vec!["/bin/x", "a b", "c de"]),
            (r#"x \"a\" \x41\102\cA \'"#, vec!["x", "\"a\"", "AB\x01", "'"]),
            ("x ''", vec!["x", ""]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        assert!(split("x 'a b").unwrap() == ["x", "a b"] && split(" ").is_err() && split("x \\").is_ok());
    }
}
