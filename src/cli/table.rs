//! Columns as wide as their widest cell, two spaces apart, and nothing at the end of a line.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
}

#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Nothing belongs there.
    pub fn blank() -> Cell {
        Cell { text: String::new(), tone: Tone::Plain }
    }

    pub fn new(text: impl AsRef<str>, tone: Tone) -> Cell {
        let text = printable(text.as_ref());
        Cell { text: if text.is_empty() { "-".into() } else { text }, tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text, Tone::Plain)
    }
}

pub fn render(rows: &[Vec<Cell>], colour: bool) -> String {
    let width = |cell: &Cell| cell.text.chars().count();
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out += &paint(&cell.text, cell.tone, colour);
            let last = column + 1 == row.len();
            out += &" ".repeat(if last { 0 } else { widths[column] - width(cell) + 2 });
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    out
}

pub fn paint(text: &str, tone: Tone, colour: bool) -> String {
    let code = match tone {
        Tone::Good => 32,
        Tone::Warn => 33,
        Tone::Bad => 31,
        Tone::Plain => 0,
    };
    if colour && code != 0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Some texts come from other members, and a terminal obeys what it is sent.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["A".into(), "LONG".into(), "C".into()], vec!["été".into(), "".into(), "d".into()]];
        assert_eq!(render(&rows, true), "A    LONG  C\nété  -     d\n");
    }

    #[test]
    fn colour_takes_no_room() {
        let rows = [vec![Cell::new("ok", Tone::Good), "x".into()], vec!["four".into(), "y".into()]];
        assert_eq!(render(&rows, true), "\x1b[32mok\x1b[0m    x\nfour  y\n");
        assert_eq!(render(&rows, false), "ok    x\nfour  y\n");
    }

    #[test]
    fn no_text_can_order_the_terminal_about() {
        assert_eq!(render(&[vec!["a\x1b[2Jb\nc\u{9b}d".into()]], true), "a [2Jb c d\n");
    }
}
