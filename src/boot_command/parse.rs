//! From strings to steps.

use std::time::Duration;

use super::command::Step;
use super::duration;
use super::fault::Fault;
use super::key::Key;
use super::screen_wait;
use super::variable::{Use, Variable};
use crate::template::nearest::suggestion;

/// As many faults are told at once.
const MOST_FAULTS: usize = 50;
/// A name in angle brackets is no longer than this; beyond it `<` is a character.
const LONGEST_NAME: usize = 64;

/// Steps by string, or all faults.
pub(super) fn parse<S: AsRef<str>>(strings: &[S]) -> Result<Vec<Vec<Step>>, Vec<Fault>> {
    let mut parser = Parser::new(strings);
    while parser.at < parser.text.len() && parser.faults.len() < MOST_FAULTS {
        parser.step();
    }
    if parser.faults.is_empty() { Ok(parser.groups) } else { Err(parser.faults) }
}

struct Parser {
    /// All strings, one behind the other.
    text: Vec<char>,
    /// Where each string starts.
    starts: Vec<usize>,
    at: usize,
    groups: Vec<Vec<Step>>,
    faults: Vec<Fault>,
}

/// What is wrong, and what to do about it.
pub(super) type Wrong = (String, Option<String>);

impl Parser {
    fn new<S: AsRef<str>>(strings: &[S]) -> Self {
        let (mut text, mut starts) = (Vec::new(), Vec::new());
        for string in strings {
            starts.push(text.len());
            text.extend(string.as_ref().chars());
        }
        Self { text, groups: vec![Vec::new(); starts.len()], starts, at: 0, faults: Vec::new() }
    }

    /// Takes one step, or one fault, off the text.
    fn step(&mut self) {
        let rest = &self.text[self.at..];
        let (length, step) = match rest {
            ['<', inner @ ..] => bracket(inner, self.until_string_ends()),
            ['{', '{', inner @ ..] => variable(inner),
            [character, ..] => (1, press(*character)),
            [] => return,
        };
        match step {
            Ok(step) => {
                let string = self.string();
                self.groups[string].push(step);
            }
            Err((message, hint)) => {
                let string = self.string();
                let column = self.at - self.starts[string] + 1;
                self.faults.push(Fault { string, column, message, hint });
            }
        }
        self.at += length;
    }

    /// The string in which the next character is. Empty strings before it start where it does.
    fn string(&self) -> usize {
        self.starts.partition_point(|start| *start <= self.at).saturating_sub(1)
    }

    /// How many characters follow the next one in its string.
    fn until_string_ends(&self) -> usize {
        let end = self.starts.get(self.string() + 1).copied().unwrap_or(self.text.len());
        end - self.at - 1
    }
}

/// A character that stands for itself.
fn press(character: char) -> Result<Step, Wrong> {
    Key::of_char(character).map(Step::Press).ok_or_else(|| no_key(character))
}

fn no_key(character: char) -> Wrong {
    let name = match character {
        '\n' | '\r' => Some("enter"),
        '\t' => Some("tab"),
        '\u{8}' => Some("bs"),
        '\u{1b}' => Some("esc"),
        '\u{7f}' => Some("del"),
        _ => None,
    };
    let hint = name.map_or_else(
        || "the VNC server sees a US keyboard".to_owned(),
        |name| format!("write `<{name}>` for the key; in YAML, `>-` and `|-` leave out the last line break"),
    );
    (format!("no key types {character:?}"), Some(hint))
}

/// What `<` begins; `inner` is what follows it, of which the string itself has `own` characters.
fn bracket(inner: &[char], own: usize) -> (usize, Result<Step, Wrong>) {
    if let Some((length, step)) = held_character(inner) {
        return (1 + length, step);
    }
    if let Some((length, wait)) = screen_wait::parse(inner) {
        return (1 + length, wait.map(Step::WaitForScreen));
    }
    let name: String = inner.iter().take(LONGEST_NAME).take_while(|c| !matches!(c, '<' | '>')).collect();
    let count = name.chars().count();
    if inner.get(count) != Some(&'>') {
        return unclosed(inner, own);
    }
    if let Some(wait) = wait(&name) {
        return (count + 2, wait.map(Step::Wait));
    }
    if !is_name(&name) {
        return (1, press('<'));
    }
    (count + 2, special(&name).ok_or_else(|| unknown(&name)))
}

/// `XOn>` and `XOff>`, where X is any one character.
fn held_character(inner: &[char]) -> Option<(usize, Result<Step, Wrong>)> {
    let (&character, rest) = inner.split_first()?;
    let ends = |word: &str| {
        rest.len() > word.len()
            && rest.iter().zip(word.chars()).all(|(a, b)| a.eq_ignore_ascii_case(&b))
            && rest[word.len()] == '>'
    };
    let (length, step): (usize, fn(Key) -> Step) = match () {
        () if ends("on") => (4, Step::Hold),
        () if ends("off") => (5, Step::Release),
        () => return None,
    };
    Some((length, Key::of_char(character).map(step).ok_or_else(|| no_key(character))))
}

/// What `<` means when no `>` ends it: itself, unless the name of a key follows.
fn unclosed(inner: &[char], own: usize) -> (usize, Result<Step, Wrong>) {
    let name: String = inner.iter().take(own.min(LONGEST_NAME)).take_while(|c| c.is_ascii_alphanumeric()).collect();
    let next = inner.get(name.len());
    let ends = name.len() == own || next == Some(&'<');
    if ends && (special(&name).is_some() || wait(&name).is_some_and(|wait| wait.is_ok())) {
        let wrong = format!("`<{name}` has no `>`");
        return (1 + name.len(), Err((wrong, Some(format!("write `<{name}>`, or `<less>{name}` for the text")))));
    }
    (1, press('<'))
}

/// `wait`, `waitN` and `waitDURATION`; none if the name is another.
fn wait(name: &str) -> Option<Result<Duration, Wrong>> {
    let time = name.strip_prefix("wait")?;
    // Such a name is more likely meant for something else.
    if time.len() > 2 && time.chars().all(|c| c.is_ascii_alphabetic()) {
        return None;
    }
    if time.is_empty() {
        return Some(Ok(Duration::from_secs(1)));
    }
    let wrong = |why| (format!("`{time}` in `<{name}>` {why}"), None);
    Some(duration::parse(time).map_err(wrong))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// A special key's name, alone or with On or Off behind it.
fn special(name: &str) -> Option<Step> {
    let held = |ending: &str| {
        let (head, tail) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
        tail.eq_ignore_ascii_case(ending).then(|| Key::named(head)).flatten()
    };
    Key::named(name).map(Step::Press).or_else(|| held("on").map(Step::Hold)).or_else(|| held("off").map(Step::Release))
}

fn unknown(name: &str) -> Wrong {
    let lower = name.to_ascii_lowercase();
    let known: Vec<String> = Key::names().chain(["wait", "waitForScreen"]).flat_map(forms).collect();
    let lowered: Vec<String> = known.iter().map(|name| name.to_ascii_lowercase()).collect();
    let nearest = suggestion(&lower, lowered.iter().map(String::as_str));
    let nearest = nearest.and_then(|_| {
        let name = crate::template::nearest::nearest(&lower, lowered.iter().map(String::as_str))?;
        let index = lowered.iter().position(|known| known == name)?;
        Some(format!("did you mean `<{}>`?", known[index]))
    });
    let literal = format!("for the text itself write `<less>{name}>`");
    let hint = nearest.map_or_else(|| literal.clone(), |nearest| format!("{nearest} {literal}"));
    (format!("there is no key `<{name}>`"), Some(hint))
}

/// A name, and the same with On and Off.
fn forms(name: &str) -> Vec<String> {
    if name.starts_with("wait") {
        return vec![name.to_owned()];
    }
    ["", "On", "Off"].iter().map(|ending| format!("{name}{ending}")).collect()
}

/// What `{{` begins; `inner` is what follows it.
fn variable(inner: &[char]) -> (usize, Result<Step, Wrong>) {
    let Some(end) = inner.windows(2).position(|pair| pair == ['}', '}']) else {
        let hint = "write `<braceleft>` for the character `{`".to_owned();
        return (2, Err(("`{{` has no `}}`".to_owned(), Some(hint))));
    };
    let inside: String = inner[..end].iter().collect();
    (end + 4, used(&inside).map(Step::Variable))
}

/// `.NAME`, perhaps through `urlquery`.
fn used(inside: &str) -> Result<Use, Wrong> {
    let mut parts = inside.split('|').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let filters: Vec<&str> = parts.collect();
    let variable = name.strip_prefix('.').and_then(Variable::named);
    match (variable, filters.as_slice()) {
        (Some(variable), []) => Ok(Use { variable, urlquery: false }),
        (Some(variable), ["urlquery"]) => Ok(Use { variable, urlquery: true }),
        (Some(_), _) => Err((
            format!("`{}` is not known in a boot command", filters.join(" | ")),
            Some("the one filter here is `urlquery`".to_owned()),
        )),
        (None, _) => {
            let known: Vec<String> = Variable::names().map(|name| format!(".{name}")).collect();
            let same = known.iter().find(|known| known.eq_ignore_ascii_case(name));
            let hint = same.map(|same| format!("did you mean `{same}`?"));
            let hint = hint.or_else(|| suggestion(name, known.iter().map(String::as_str)));
            Err((format!("`{{{{ {name} }}}}` is not known in a boot command"), hint))
        }
    }
}

#[cfg(test)]
mod tests;
