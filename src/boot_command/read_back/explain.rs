//! A typed text against the marks that were drawn: the same, or the same but for keys that were lost or doubled.

use std::collections::{BTreeSet, HashMap};

use super::super::cells::Mark;

/// Keys that are lost or doubled at one place, where it is not the only one.
const TOGETHER: usize = 3;
/// How far before the first contradiction keys may have been lost: until then characters came that were new.
const LOOK_BACK: usize = 32;
/// The most attempts at one text.
const ATTEMPTS: usize = 2_000;
/// Characters of text per place at which it may differ, and the most such places.
const PER_EDIT: usize = 8;
const MOST_EDITS: usize = 4;
/// Characters that must fit before text that was there already is told from typed text.
const ANCHOR: usize = 6;

/// What happened to the keys of a text.
#[derive(Debug, Clone)]
pub(super) struct Explained {
    /// Marks before the text.
    pub(super) start: usize,
    /// Marks that are the text, or what has become of it.
    pub(super) cells: usize,
    /// Characters before the first that was lost or doubled.
    pub(super) right: usize,
    /// Places at which keys were lost or doubled.
    pub(super) edits: usize,
    /// Characters that were drawn as the same ones before them.
    pub(super) confirmed: usize,
    key: Key,
}

/// Which mark is which character.
#[derive(Debug, Clone, Default)]
struct Key {
    marks: HashMap<char, Mark>,
    characters: HashMap<Mark, char>,
    confirmed: usize,
}

/// How far one has come: in the text and in the marks.
type At = (usize, usize);

struct Search<'a> {
    text: &'a [char],
    marks: &'a [Mark],
    attempts: usize,
}

/// Whether the marks are the text.
pub(super) fn is(text: &[char], marks: &[Mark]) -> bool {
    let search = Search { text, marks, attempts: 0 };
    text.len() == marks.len() && search.walk((0, 0), &mut Key::default()) == text.len()
}

/// How the marks come from the text, unless they are it, or something else. `late`: nothing was drawn after the first
/// key.
pub(super) fn explain(text: &[char], marks: &[Mark], late: bool) -> Option<Explained> {
    let starts = (0..marks.len()).filter(|start| *start == 0 || begins(text, &marks[*start..]));
    let known = distinct(text);
    starts.into_iter().find_map(|start| {
        let shown = &marks[start..];
        // Lost and doubled keys bring nothing new; in the first cell was a cursor.
        if distinct(shown) > known + 1 {
            return None;
        }
        let missing = text.len().saturating_sub(shown.len());
        // A field that scrolls shows the end of what was typed, and a menu takes its key from it.
        if missing > 0 && is(&text[missing..], shown) {
            let mut key = Key::default();
            Search { text: &text[missing..], marks: shown, attempts: 0 }.walk((0, 0), &mut key);
            key.marks.remove(&text[missing]);
            let confirmed = key.confirmed;
            return late.then_some(Explained { start, cells: shown.len(), right: 0, edits: 1, confirmed, key });
        }
        let mut search = Search { text, marks: shown, attempts: ATTEMPTS };
        (1..=MOST_EDITS.min(1 + text.len() / PER_EDIT)).find_map(|edits| {
            let (right, key) = search.edit((0, 0), &Key::default(), edits, 0)?;
            let (cells, confirmed) = (shown.len(), key.confirmed);
            Some(Explained { start, cells, right, edits, confirmed, key })
        })
    })
}

/// How many different ones there are.
pub(super) fn distinct<T: Ord>(all: &[T]) -> usize {
    all.iter().collect::<BTreeSet<_>>().len()
}

/// Whether a text seems to begin here.
fn begins(text: &[char], marks: &[Mark]) -> bool {
    text.len() >= ANCHOR && marks.len() >= ANCHOR && is(&text[..ANCHOR], &marks[..ANCHOR])
}

impl Explained {
    /// What is there.
    pub(super) fn shows(&self, text: &[char], marks: &[Mark]) -> String {
        let cells = marks[self.start..].iter().take(self.cells).enumerate();
        let character = |(number, mark): (usize, &Mark)| match self.key.characters.get(mark) {
            // The first one is in no key.
            None if number == 0 && self.right > 0 => text[0],
            known => known.copied().unwrap_or('?'),
        };
        cells.map(character).collect()
    }
}

impl Key {
    /// Whether a mark may be a character, with all that is known; it is known from then on.
    fn admits(&mut self, character: char, mark: Mark) -> bool {
        match (self.marks.get(&character), self.characters.get(&mark)) {
            (None, None) => {
                self.marks.insert(character, mark);
                self.characters.insert(mark, character);
                true
            }
            (Some(known), Some(_)) if *known == mark => {
                self.confirmed += 1;
                true
            }
            _ => false,
        }
    }
}

impl Search<'_> {
    /// How many characters from a place on are what the marks say. The first of a text says nothing: a cursor was in
    /// its cell.
    fn walk(&self, (text, marks): At, key: &mut Key) -> usize {
        let pairs = self.text[text..].iter().zip(&self.marks[marks..]).enumerate();
        pairs.take_while(|(step, (c, mark))| text + step == 0 || marks + step == 0 || key.admits(**c, **mark)).count()
    }

    /// The key and the first place that differs, if from a place on the rest is explained by exactly `left` edits or
    /// fewer. An edit that does not bring one beyond the mark `beyond` explains nothing.
    fn edit(&mut self, at: At, key: &Key, left: usize, beyond: usize) -> Option<(usize, Key)> {
        self.attempts = self.attempts.checked_sub(1)?;
        let mut walked = key.clone();
        let length = self.walk(at, &mut walked);
        let (text, marks) = (at.0 + length, at.1 + length);
        if (text, marks) == (self.text.len(), self.marks.len()) {
            return Some((text, walked));
        }
        if left == 0 || marks < beyond && marks < self.marks.len() {
            return None;
        }
        if marks == self.marks.len() {
            // Keys at the end did not come.
            return Some((text, walked));
        }
        (0..=length.min(LOOK_BACK)).find_map(|back| {
            let here = (text - back, marks - back);
            let mut known = key.clone();
            let before = Search { text: &self.text[..here.0], marks: self.marks, attempts: 0 };
            before.walk(at, &mut known);
            let next = self.nexts(here, left);
            next.into_iter().find_map(|next| {
                let (_, key) = self.edit(next, &known, left - 1, marks + 2)?;
                // A mark that is no typed key, such as an editor's at a line's end, would pass for a new character.
                let confirmed = next.0 == here.0 || key.confirmed > known.confirmed;
                confirmed.then_some((here.0, key))
            })
        })
    }

    /// Where one goes on if keys were lost or doubled at a place.
    fn nexts(&self, (text, marks): At, left: usize) -> Vec<At> {
        let (typed, shown) = (self.text.len() - text, self.marks.len() - marks);
        let few = if left > 1 { TOGETHER } else { 0 };
        let mut nexts = Vec::new();
        // With the last edit the lengths must come out even.
        let lost = (1..=few).chain(typed.checked_sub(shown).filter(|lost| *lost > few));
        // The first key is another matter.
        nexts.extend(lost.filter(|lost| text > 0 && *lost <= typed).map(|lost| (text + lost, marks)));
        let doubled = (1..=few).chain(shown.checked_sub(typed).filter(|doubled| *doubled > few));
        let last = marks.checked_sub(1).map(|last| self.marks[last]);
        let same =
            |count: &usize| *count <= shown && self.marks[marks..marks + count].iter().all(|mark| Some(*mark) == last);
        nexts.extend(doubled.filter(|count| *count > 0).filter(same).map(|doubled| (text, marks + doubled)));
        nexts
    }
}
