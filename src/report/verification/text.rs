//! Text of a guest, made fit to be shown.

use std::iter::Peekable;
use std::str::Chars;

/// `text` without terminal control sequences, its other control characters made visible: `␀`, `␇`.
///
/// They could move the cursor over what is true, XML 1.0 forbids them, and characters that turn the
/// direction of writing make text look like another.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' if control_sequence(&mut characters) => {}
            '\r' if characters.peek() == Some(&'\n') => {}
            character => out.push(visible(character)),
        }
    }
    out
}

/// Skips the rest of a control sequence (ECMA-48, 5.4) whose escape character was taken; whether there
/// was a whole one.
fn control_sequence(characters: &mut Peekable<Chars<'_>>) -> bool {
    let mut ahead = characters.clone();
    if ahead.next() != Some('[') {
        return false;
    }
    let Some('\x40'..='\x7e') = ahead.find(|character| !matches!(character, '\x20'..='\x3f')) else { return false };
    *characters = ahead;
    true
}

fn visible(character: char) -> char {
    match character {
        '\t' | '\n' => character,
        // Control Pictures, in the order of the characters that they show.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '␡',
        '\u{80}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        character => character,
    }
}

/// Cleaned, all white space one blank each.
pub(super) fn one_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `width` characters; `…` stands for what was cut off.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", head.trim_end())
}

/// At most about `width` characters of one line; both ends stay, because a log tells at its end why.
pub(super) fn cut_middle(text: &str, width: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= width {
        return text.to_owned();
    }
    let tail = width / 2;
    let head: String = characters[..width - tail].iter().collect();
    let tail: String = characters[characters.len() - tail..].iter().collect();
    format!("{} … {}", head.trim_end(), tail.trim_start())
}

/// The lines of a cleaned text, each at most `width` characters, of many lines the first and the last.
pub(super) fn excerpt(text: &str, width: usize) -> Vec<String> {
    const FIRST: usize = 4;
    const LAST: usize = 8;
    let text = clean(text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let cut = |lines: &[&str]| -> Vec<String> { lines.iter().map(|line| cut_middle(line.trim_end(), width)).collect() };
    if lines.len() <= FIRST + LAST + 1 {
        return cut(&lines);
    }
    let left_out = lines.len() - FIRST - LAST;
    let mut out = cut(&lines[..FIRST]);
    out.push(format!("… {left_out} lines are only in the report's files …"));
    out.extend(cut(&lines[lines.len() - LAST..]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_characters_become_visible_or_go() {
        assert_eq!(clean("\x1b[0;1;32m  OK  \x1b[0m] Started\r\n"), "  OK  ] Started\n");
        assert_eq!(clean("a\0b\x07c\x7fd\x1b]0;title\x07"), "a␀b␇c␡d␛]0;title␇");
        assert_eq!(clean("over\rwritten \x1b[31"), "over␍written ␛[31");
        assert_eq!(clean("\u{9b}31m \u{ffff} \u{202e}txt\t|\n"), "\u{fffd}31m \u{fffd} \u{fffd}txt\t|\n");
        assert_eq!(clean("größer: 你好 🦀"), "größer: 你好 🦀");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("größer als", 10), "größer als");
        assert_eq!(cut("größer als", 4), "grö…");
        assert_eq!(cut("größer als", 8), "größer…");
        assert_eq!(cut("你好世界", 3), "你好…");
        assert_eq!(cut("ab", 0), "…");
        assert_eq!(cut_middle("你好世界 und mehr", 6), "你好世 … ehr");
        assert_eq!(cut_middle("ab", 1), "a … ");
    }

    #[test]
    fn of_many_lines_the_first_and_the_last_are_shown() {
        let lines = |number: usize| (1..=number).map(|n| format!("line {n}\n")).collect::<String>();
        assert_eq!(excerpt(&lines(13), 80).len(), 13);
        let shown = excerpt(&lines(1000), 80);
        assert_eq!(shown.len(), 13);
        assert_eq!(shown[4], "… 988 lines are only in the report's files …");
        assert_eq!((shown[0].as_str(), shown[12].as_str()), ("line 1", "line 1000"));
        assert!(excerpt("", 80).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_that_steers_a_terminal_is_left(text in any::<String>(), width in 0usize..50) {
            prop_assert!(!clean(&text).contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
            prop_assert!(!one_line(&text).contains('\n'));
            prop_assert!(cut(&text, width).chars().count() <= width.max(1));
            prop_assert!(cut_middle(&text, width).chars().count() <= width + 3);
        }
    }
}
