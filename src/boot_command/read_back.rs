//! Whether the screen shows a line as it was typed.
//!
//! No font is known and no text is read. A line is *shown* when equal characters were drawn alike and different ones
//! differently, one cell each. It *differs* only where the screen shows nothing but the same line with keys lost or
//! doubled. Whatever is neither, such as asterisks, a field that scrolls, proportional letters, is *unknown*: it is
//! the guest's way, and a command that works must not fail for it.

use super::cells::{Grid, Ink, Mark, Marks};
use super::screen::Screen;
use explain::{Explained, distinct, explain};

mod explain;

/// Shorter lines are not looked at: they are answers to menus as often as text.
pub(super) const SHORTEST: usize = 4;
/// Equal characters that were drawn alike before a difference is believed: in a text mode where nothing else was drawn,
/// and elsewhere. A guest's own message is in the same font, but not what was typed.
const CONFIRMED: (usize, usize) = (2, 5);
/// Different marks without which nothing is told: a password's asterisks are one.
const DISTINCT: usize = 3;
/// Characters that a font may draw as a filled rectangle, as a cursor is.
const STROKES: &str = "-_|.,'`~^lIi1!";
/// The most lines of the screen that a typed line takes.
const MOST_LINES: usize = 8;

/// A line of keys that were typed, without the key that ends it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The screen before the first one.
    pub(super) before: Screen,
    /// What the keys type.
    pub(super) text: Vec<char>,
    /// Whether something was drawn after the first one that leaves ink, where that was looked at.
    pub(super) began: Option<bool>,
}

/// What the screen says of a line.
#[derive(Debug, PartialEq)]
pub(super) enum Reading {
    /// It is there.
    Shown(Place),
    /// Another one is there.
    Differs(Wrong),
    /// It is not to be seen, or not to be told from something else.
    Unknown,
}

/// Where a line is on the screen: its cells go on from line to line of the screen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    grid: Grid,
    scrolled: usize,
    line: usize,
    column: usize,
    /// The cells of a full line of the screen: from, and up to without.
    full: (usize, usize),
}

/// Cells of a line between two moments.
#[derive(Debug)]
pub(super) struct Changed {
    /// Whether something was drawn in each.
    pub(super) drawn: Vec<bool>,
    /// Where the drawn ones end; a cursor behind them does not count.
    pub(super) end: usize,
}

/// How the line on the screen differs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrong {
    pub(super) place: Place,
    /// Characters that are right before the first difference, without spaces that the line begins with.
    pub(super) right: usize,
    /// Cells that it takes.
    pub(super) cells: usize,
    /// What is there; `?` for what was not typed anywhere else in the line.
    pub(super) shows: String,
}

/// Cells of the screen in the order of the text, from the first to the last that has changed.
struct Cells {
    place: Place,
    marks: Vec<Mark>,
    /// Nothing else has changed on the screen.
    alone: bool,
    /// Something has changed in the line of the screen below.
    goes_on: bool,
}

impl Line {
    /// A line of which nothing was typed yet.
    pub(super) fn new(before: Screen) -> Self {
        Self { before, text: Vec::new(), began: None }
    }

    /// What was typed, from the first character that is no space.
    pub(super) fn trimmed_start(&self) -> &[char] {
        let spaces = self.text.iter().take_while(|character| **character == ' ').count();
        &self.text[spaces..]
    }

    /// What was typed, from the first to the last character that is no space.
    pub(super) fn trimmed(&self) -> Vec<char> {
        self.text.iter().collect::<String>().trim().chars().collect()
    }

    /// Where the line begins, of which one character was drawn, if the screen is in a text mode and nothing else was
    /// drawn on it.
    pub(super) fn begins(&self, after: &Screen) -> Option<Place> {
        let ink = Ink::between(&self.before, after).filter(|ink| ink.scrolled == 0 && self.text[..] != [' '])?;
        let grid = ink.grids(after).into_iter().find(|grid| grid.certain)?;
        let marks = Marks::of(&ink, grid);
        let mut lines = marks.lines();
        let (line, None) = (lines.next()?, lines.next()) else { return None };
        let (column, last) = marks.ends(line)?;
        // The cursor goes on by one.
        let alone = self.text.len() == 1 && last <= column + 1 && !marks.may_be_cursor(marks.mark(line, column));
        alone.then_some(Place { grid, scrolled: 0, line, column, full: (0, marks.columns) })
    }

    /// Looks for the line on the screen `after` it was typed.
    pub(super) fn read(&self, after: &Screen) -> Reading {
        let text = self.trimmed();
        if text.len() < SHORTEST {
            return Reading::Unknown;
        }
        let Some(ink) = Ink::between(&self.before, after) else { return Reading::Unknown };
        let mut wrong: Option<(Explained, Wrong)> = None;
        let mut is_broken = false;
        for grid in ink.grids(after) {
            let marks = Marks::of(&ink, grid);
            for cells in Cells::all(&marks, &ink, grid, text.len()) {
                if let Some(start) = cells.shows(&text, &marks) {
                    return Reading::Shown(cells.place.moved(start));
                }
                is_broken |= cells.joined().shows(&text, &marks).is_some();
                let Some(found) = cells.explained(&text, &marks, self.began) else { continue };
                let nearer = |(before, _): &(Explained, Wrong)| found.edits < before.edits;
                if wrong.as_ref().is_none_or(nearer) {
                    let told = cells.told(&text, &found);
                    wrong = Some((found, told));
                }
            }
        }
        match wrong {
            Some((_, wrong)) if !is_broken => Reading::Differs(wrong),
            _ => Reading::Unknown,
        }
    }
}

impl Place {
    fn moved(self, cells: usize) -> Self {
        let (line, column) = self.cell(cells);
        Self { line, column, ..self }
    }

    /// The line and column of a cell.
    fn cell(&self, number: usize) -> (usize, usize) {
        let (from, to) = self.full;
        let first = to.saturating_sub(self.column);
        if number < first {
            return (self.line, self.column + number);
        }
        let width = (to - from).max(1);
        (self.line + 1 + (number - first) / width, from + (number - first) % width)
    }

    /// Whether a cell differs between two screens of one size.
    pub(super) fn differs(&self, one: &Screen, other: &Screen, number: usize) -> bool {
        let (line, column) = self.cell(number);
        let ((width, height), (left, top)) = (self.grid.cell, self.grid.origin);
        let (x, y) = (left + column * width, top + line * height);
        let cell = |screen: &Screen, row: usize| screen.row(row)[x..x + width].to_vec();
        one.size() != other.size() || (y..y + height).any(|row| cell(one, row) != cell(other, row))
    }

    /// The rows of pixels of a cell: from, and up to without.
    pub(super) fn rows(&self, number: usize) -> (usize, usize) {
        let top = self.grid.origin.1 + self.cell(number).0 * self.grid.cell.1;
        (top, top + self.grid.cell.1)
    }

    /// Whether so many cells are on the screen, which has not scrolled.
    pub(super) fn holds(&self, cells: usize, screen: &Screen) -> bool {
        let (line, _) = self.cell(cells);
        let bottom = self.grid.origin.1 + (line + 1) * self.grid.cell.1;
        self.scrolled == 0 && bottom <= screen.size().1 as usize
    }

    /// How many cells from the first on have something drawn in them, of at most `most`; a cursor behind them does not
    /// count.
    pub(super) fn drawn(&self, before: &Screen, now: &Screen, most: usize) -> usize {
        self.changed(before, now, most + 1).map_or(0, |changed| changed.end.min(most))
    }

    /// In which of the first `count` cells something was drawn; none if the screens cannot be compared.
    pub(super) fn changed(&self, before: &Screen, now: &Screen, count: usize) -> Option<Changed> {
        let comparable = before.size() == now.size();
        let marks = Marks::of(&comparable.then(|| Ink::scrolled_by(before, now, self.scrolled))?, self.grid);
        let mark = |number: usize| {
            let (line, column) = self.cell(number);
            marks.mark(line, column)
        };
        let drawn: Vec<bool> = (0..count).map(|number| mark(number) != 0).collect();
        let last = drawn.iter().rposition(|drawn| *drawn);
        let end = last.map_or(0, |last| if marks.may_be_cursor(mark(last)) { last } else { last + 1 });
        Some(Changed { drawn, end })
    }
}

impl Cells {
    /// What a line of so many characters may be in.
    fn all(marks: &Marks, ink: &Ink, grid: Grid, length: usize) -> Vec<Self> {
        let changed: Vec<usize> = marks.lines().collect();
        let mut all = Vec::new();
        for (number, line) in changed.iter().enumerate() {
            let following = changed[number..].iter().enumerate().take_while(|(step, next)| line + step == **next);
            let lines: Vec<usize> = following.map(|(_, line)| *line).take(MOST_LINES).collect();
            for count in 1..=lines.len() {
                all.extend(Self::of(marks, (ink.scrolled, grid), &lines[..count], changed.len() == count));
            }
        }
        // What is much shorter or longer is something else.
        all.reverse();
        all.retain(|cells: &Self| cells.marks.len() * 2 >= length && cells.marks.len() <= length * 2 + marks.columns);
        all
    }

    /// The cells of these lines: as a terminal breaks a line, or an editor with margins.
    fn of(marks: &Marks, (scrolled, grid): (usize, Grid), lines: &[usize], alone: bool) -> Vec<Self> {
        let ends: Vec<(usize, usize)> = lines.iter().filter_map(|line| marks.ends(*line)).collect();
        let goes_on = lines.last().is_some_and(|last| marks.ends(last + 1).is_some());
        let ([(first, _), more @ ..], Some((_, last))) = (&ends[..], ends.last()) else { return Vec::new() };
        let mut widths = vec![(0, marks.columns)];
        let left = more.iter().map(|(from, _)| *from).min();
        let right = ends[..ends.len() - 1].iter().map(|(_, to)| to + 1).max();
        widths.extend(left.zip(right).filter(|full| *full != widths[0]));
        let cells = |full: (usize, usize)| {
            let mut found = Vec::new();
            for (number, line) in lines.iter().enumerate() {
                let from = if number == 0 { *first } else { full.0 };
                let to = if number + 1 == lines.len() { last + 1 } else { full.1 };
                found.extend((from..to).map(|column| marks.mark(*line, column)));
            }
            Self { place: Place { grid, scrolled, line: lines[0], column: *first, full }, marks: found, alone, goes_on }
        };
        widths.into_iter().map(cells).collect()
    }

    /// The same where the guest goes on in the next line of the screen although there is room in this one: its prompt
    /// may count columns otherwise once the screen has scrolled (isolinux does). The room counts as one space.
    fn joined(&self) -> Self {
        let (from, to) = self.place.full;
        let (mut marks, mut rest) = (Vec::new(), &self.marks[..]);
        let mut width = to.saturating_sub(self.place.column);
        while rest.len() > width && width > 0 {
            let (line, more) = rest.split_at(width);
            let end = line.iter().rposition(|mark| *mark != 0).map_or(0, |last| last + 1);
            marks.extend_from_slice(&line[..line.len().min(end + 1)]);
            (rest, width) = (more, to - from);
        }
        marks.extend_from_slice(rest);
        Self { marks, ..*self }
    }

    /// Where the text begins, if it is there.
    fn shows(&self, text: &[char], marks: &Marks) -> Option<usize> {
        let starts = 0..(self.marks.len() + 1).checked_sub(text.len())?;
        starts.rev().find(|start| {
            let (shown, behind) = self.marks[*start..].split_at(text.len());
            let behind = match behind.split_last() {
                Some((last, more)) if marks.may_be_cursor(*last) => more,
                _ => behind,
            };
            let same = behind.iter().all(|mark| Some(mark) == shown.last());
            let doubled = same && !behind.is_empty() && distinct(shown) >= DISTINCT;
            // A cursor where a letter should be.
            let cursor = shown.last().is_some_and(|mark| marks.may_be_cursor(*mark));
            let stroke = text.last().is_some_and(|last| STROKES.contains(*last));
            !doubled && (stroke || !cursor) && explain::is(text, shown)
        })
    }

    /// The marks without a cursor behind them.
    fn without_cursor(&self, marks: &Marks) -> &[Mark] {
        match self.marks.split_last() {
            Some((last, text)) if marks.may_be_cursor(*last) => {
                let end = text.iter().rposition(|mark| *mark != 0).map_or(0, |last| last + 1);
                &text[..end]
            }
            _ => &self.marks,
        }
    }

    /// What happened to the keys, if that is certain.
    fn explained(&self, text: &[char], marks: &Marks, began: Option<bool>) -> Option<Explained> {
        let shown = self.without_cursor(marks);
        if self.goes_on {
            return None;
        }
        let certain = self.place.grid.certain && self.alone;
        let least = if certain { CONFIRMED.0 } else { CONFIRMED.1 };
        if shown.len() < distinct(shown) + least {
            // In a wrong grid nothing repeats.
            return None;
        }
        let found = explain(text, shown, began == Some(false))?;
        let least = if found.start == 0 { least } else { CONFIRMED.1 };
        (distinct(&shown[found.start..]) >= DISTINCT && found.confirmed >= least).then_some(found)
    }

    fn told(&self, text: &[char], found: &Explained) -> Wrong {
        Wrong {
            place: self.place.moved(found.start),
            right: found.right,
            cells: found.cells,
            shows: found.shows(text, &self.marks),
        }
    }
}

#[cfg(test)]
mod tests;
