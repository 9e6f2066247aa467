//! The end of a block of Lua, whose strings and comments may hold braces of their own.

/// How long the rest of the block is, with its closing brace.
pub(super) fn end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 1;
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at + 1),
            b'}' => depth -= 1,
            quote @ (b'"' | b'\'') => at += string(&bytes[at + 1..], quote)?,
            b'-' if bytes.get(at + 1) == Some(&b'-') => at += comment(&text[at + 2..])? + 1,
            b'[' => {
                if let Some(level) = opening(&text[at..]) {
                    at += long(&text[at..], level)? - 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Up to the quote and with it.
fn string(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut escaped = false;
    let last = bytes.iter().position(|&byte| {
        let ends = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    last.map(|last| last + 1)
}

/// What follows the two dashes: a long bracket, or the rest of the line.
fn comment(text: &str) -> Option<usize> {
    match opening(text) {
        Some(level) => long(text, level),
        None => Some(text.find('\n').unwrap_or(text.len())),
    }
}

/// The level of a long bracket: 0 for `[[`, 1 for `[=[` and so on.
fn opening(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let level = inner.bytes().take_while(|&byte| byte == b'=').count();
    inner[level..].starts_with('[').then_some(level)
}

/// Up to the end of a long bracket and with it.
fn long(text: &str, level: usize) -> Option<usize> {
    let close = format!("]{}]", "=".repeat(level));
    let start = close.len();
    Some(text[start..].find(&close)? + 2 * start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_of_strings_and_comments_do_not_count() {
        for block in [
            "}",
            " local t = { a = { 1 }, }; }",
            r#" ngx.say("}\"}\\", '{"') }"#,
            " -- don't } \n }",
            " --[[ } \n ' ]] }",
            " --[==[ } ]] ]==] x = [[ } ' ]] .. t[1] .. t[ [=[}]=] ] }",
            " x = 1 - -1 }",
            " é = 'é' }",
        ] {
            let text = format!("{block} more }}");
            assert_eq!(end(&text), Some(block.len()), "{block}");
        }
    }

    #[test]
    fn a_block_without_an_end() {
        for block in ["", "{ }", "'}", "--", "-- }", "[[ }", "--[[ }", "\\", "x[["] {
            assert_eq!(end(block), None, "{block}");
        }
    }
}
