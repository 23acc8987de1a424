//! `<waitForScreen …>`, which Packer does not have.
//!
//! ```text
//! wait      = "<waitForScreen" 1*SP condition *SP ">"
//! condition = "stable" 1*SP DURATION [1*SP TIMEOUT]             nothing changes for DURATION
//!           / "image" 1*SP WORD [*SP region] [*SP TIMEOUT]      a PNG is seen
//!           / "text" 1*SP WORD [*SP region] [*SP TIMEOUT]       a text is seen
//! WORD      = DQUOTE *(CHAR / "\\" / "\" DQUOTE) DQUOTE         or anything without space, DQUOTE, "[", "<", ">"
//! region    = "[" X "," Y "," WIDTH "," HEIGHT "]"              pixels; spaces may be between
//! DURATION, TIMEOUT                                             as in <waitDURATION>
//! ```
//!
//! The words are written as here, in lower case but for `waitForScreen`.

use std::time::Duration;

use super::command::{Region, SCREEN_TIMEOUT, ScreenWait, Until};
use super::duration;
use super::ocr::normalized;
use super::parse::Wrong;
use crate::template::nearest::suggestion;

const NAME: &str = "waitForScreen";
/// The longest text that is looked for.
const LONGEST_WORD: usize = 1024;

/// A part of what is between the brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Region(String),
}

/// Parses what follows a `<`, if it is a wait for the screen: how many characters it is long, and what it says.
pub(super) fn parse(inner: &[char]) -> Option<(usize, Result<ScreenWait, Wrong>)> {
    let name: String = inner.iter().take_while(|c| c.is_ascii_alphanumeric()).take(NAME.len() + 1).collect();
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let Some((length, tokens)) = tokens(&inner[NAME.len()..]) else {
        let wrong = (format!("`<{name}` has no `>`"), Some("a quoted text ends with its second `\"`".to_owned()));
        return Some((NAME.len() + 1, Err(wrong)));
    };
    let wait = if name == NAME {
        tokens.and_then(|tokens| condition(&tokens))
    } else {
        Err((format!("there is no key `<{name}>`"), Some(format!("did you mean `<{NAME}>`?"))))
    };
    Some((NAME.len() + length, wait))
}

/// The tokens up to `>`, and how many characters they take with it; none without a `>`.
fn tokens(text: &[char]) -> Option<(usize, Result<Vec<Token>, Wrong>)> {
    let (mut tokens, mut at, mut wrong) = (Vec::new(), 0, None);
    loop {
        match text.get(at)? {
            '>' => break,
            c if c.is_whitespace() => at += 1,
            '"' => {
                let (length, word) = quoted(&text[at + 1..])?;
                tokens.push(Token::Quoted(word));
                at += length + 1;
            }
            '[' => {
                let length = text[at..].iter().position(|c| matches!(c, ']' | '>'))?;
                tokens.push(Token::Region(text[at + 1..at + length].iter().collect()));
                at += if text[at + length] == ']' { length + 1 } else { length };
            }
            _ => {
                let ends = |c: &char| c.is_whitespace() || matches!(c, '"' | '[' | '<' | '>');
                let length = text[at..].iter().position(ends)?;
                if length == 0 {
                    wrong = Some(("`<` must be in quotes here".to_owned(), None));
                }
                tokens.push(Token::Word(text[at..at + length].iter().collect()));
                at += length.max(1);
            }
        }
    }
    Some((at + 1, wrong.map_or(Ok(tokens), Err)))
}

/// A text up to its closing quotation mark, and its length with it.
fn quoted(text: &[char]) -> Option<(usize, String)> {
    let (mut word, mut at) = (String::new(), 0);
    loop {
        match (text.get(at)?, text.get(at + 1)) {
            ('"', _) => return Some((at + 1, word)),
            ('\\', Some(&escaped @ ('"' | '\\'))) => {
                word.push(escaped);
                at += 2;
            }
            (&character, _) => {
                word.push(character);
                at += 1;
            }
        }
    }
}

fn condition(tokens: &[Token]) -> Result<ScreenWait, Wrong> {
    let forms = "write `stable 5s`, `image FILE.png [x,y,width,height] 60s` or `text \"login:\" 60s`";
    let wrong = |message: String| (message, Some(forms.to_owned()));
    let [Token::Word(kind), rest @ ..] = tokens else {
        return Err(wrong(format!("`<{NAME}>` does not say for what")));
    };
    if !["stable", "image", "text"].contains(&kind.as_str()) {
        let hint = suggestion(kind, ["stable", "image", "text"]);
        return Err((format!("`{kind}` is nothing to wait for on a screen"), hint));
    }
    let Some((Token::Word(what) | Token::Quoted(what), rest)) = rest.split_first() else {
        return Err(wrong(format!("`{kind}` of `<{NAME}>` has nothing behind it")));
    };
    if kind == "stable" {
        return stable(what, rest);
    }
    let (region, rest) = match rest {
        [Token::Region(text), rest @ ..] => (Some(self::region(text)?), rest),
        rest => (None, rest),
    };
    let timeout = timeout(rest)?;
    let what = what.clone();
    if what.is_empty() || what.chars().count() > LONGEST_WORD || what.contains('\0') {
        return Err(wrong(format!("`{kind}` of `<{NAME}>` is empty or absurd")));
    }
    if kind == "text" && normalized(&what).is_empty() {
        return Err(wrong(format!("the text {what:?} has no letter and no digit to find it by")));
    }
    let until = if kind == "text" { Until::Text { text: what, region } } else { Until::Image { file: what, region } };
    Ok(ScreenWait { until, timeout })
}

fn stable(quiet: &str, rest: &[Token]) -> Result<ScreenWait, Wrong> {
    let quiet = time(quiet)?;
    let mut timeout = timeout(rest)?;
    if rest.is_empty() && quiet >= timeout {
        // A limit that nobody set is not in the way of what was asked for.
        timeout = duration::LONGEST;
    }
    if quiet >= timeout && quiet < duration::LONGEST {
        return Err((format!("`<{NAME}>` gives up before the screen could have been stable"), None));
    }
    Ok(ScreenWait { until: Until::Stable(quiet), timeout })
}

fn timeout(tokens: &[Token]) -> Result<Duration, Wrong> {
    match tokens {
        [] => Ok(SCREEN_TIMEOUT),
        [Token::Word(text)] => time(text),
        [Token::Region(_), ..] => Err((format!("a region in `<{NAME}>` comes behind the image or text, once"), None)),
        _ => Err((format!("`<{NAME}>` has more than one time limit"), Some("put quotes round a text".to_owned()))),
    }
}

fn time(text: &str) -> Result<Duration, Wrong> {
    duration::parse(text).map_err(|why| (format!("`{text}` in `<{NAME}>` {why}"), None))
}

fn region(text: &str) -> Result<Region, Wrong> {
    let numbers: Option<Vec<u32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[x, y, width, height]) if width > 0 && height > 0 => Ok(Region { x, y, width, height }),
        _ => Err((format!("`[{text}]` is not a region"), Some("write `[x,y,width,height]` in pixels".to_owned()))),
    }
}
