//! Text of others where people read it: nothing in it hides, moves the cursor or turns the direction of what stands beside it.

/// What a reader would not see, or what would make other text look different: controls, and marks that turn the direction of text or have
/// no width (Unicode's UAX 9, and Trojan Source, Boucher and Anderson 2021).
fn hides(c: char) -> bool {
    let marks = ['\u{061c}'..='\u{061c}', '\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}'];
    c.is_control() || c == '\u{feff}' || marks.iter().any(|range| range.contains(&c))
}

fn written_out(text: &str, is_hidden: impl Fn(char) -> bool) -> String {
    if !text.contains(&is_hidden) {
        return text.to_owned();
    }
    let one = |c: char| if is_hidden(c) { format!("\\u{{{:04x}}}", u32::from(c)) } else { c.to_string() };
    text.chars().map(one).collect()
}

/// With all that hides written out, but for the ends of lines, and tabs.
pub(super) fn lines(text: &str) -> String {
    written_out(text, |c| hides(c) && c != '\n' && c != '\t')
}

/// As one line, with all that hides written out; ends of lines and tabs are spaces.
pub(super) fn line(text: &str) -> String {
    let spaces = text.trim_end().replace(['\n', '\t'], " ");
    written_out(&spaces, hides)
}

/// A line of some characters at most: what is in its middle gives way to `…`.
pub(super) fn short(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{begin}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides() {
        assert_eq!(lines("a\tb\nc \u{e4}"), "a\tb\nc \u{e4}");
        let forged = "a\u{1b}[31m\u{202e}b\rc\u{9b}\n";
        assert_eq!(lines(forged), "a\\u{001b}[31m\\u{202e}b\\u{000d}c\\u{009b}\n");
        assert_eq!(line(forged), "a\\u{001b}[31m\\u{202e}b\\u{000d}c\\u{009b}");
        assert_eq!(line("a\nb\tc\n"), "a b c");
    }

    #[test]
    fn long_lines_lose_their_middle() {
        assert_eq!((short("abcdef", 6), short("abcdef", 5)), ("abcdef".to_owned(), "ab…ef".to_owned()));
        assert_eq!((short("abcdef", 4), short("abcdef", 1)), ("ab…f".to_owned(), "…".to_owned()));
        assert_eq!(short("äöüß", 3), "ä…ß");
    }
}
