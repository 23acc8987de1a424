//! What was drawn on a screen of text since an earlier moment, character cell by character cell.
//!
//! Consoles and boot loaders draw each character into a cell of a grid, and the same character always in the same way.
//! So what a cell's changed pixels look like, its [`Mark`], tells characters apart without knowing any font, also where
//! a picture lies behind the text.

use std::collections::HashMap;

use super::screen::Screen;

/// The cells of consoles in graphics modes, pixels: the kernel's and GRUB's fonts, UEFI's (8 by 19), large ones.
const CELLS: [(usize, usize); 8] = [(8, 16), (8, 19), (16, 32), (12, 24), (10, 20), (9, 16), (8, 14), (8, 8)];
/// Lines of text by which a screen may have scrolled while one was typed.
const MOST_SCROLLED: usize = 6;
/// Bits of the largest cell.
const BITS: usize = 16 * 32;

/// What a cell's changed pixels look like: 0 where none has changed.
pub(super) type Mark = u16;

/// Where character cells are on a screen, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Width and height of a cell.
    pub(super) cell: (usize, usize),
    /// Left and upper edge of the first one.
    pub(super) origin: (usize, usize),
    /// It is known from the size of the screen, which is a text mode's.
    pub(super) certain: bool,
}

/// The pixels that differ from an earlier screen.
pub(super) struct Ink {
    width: usize,
    /// Rows in which something differs.
    rows: Vec<Option<Vec<bool>>>,
    /// By how many pixels the screen has scrolled.
    pub(super) scrolled: usize,
}

impl Ink {
    /// What was drawn between two screens of one size, if they can be compared; a screen that has scrolled is
    /// compared with where its lines were.
    pub(super) fn between(before: &Screen, after: &Screen) -> Option<Self> {
        if before.size() != after.size() {
            return None;
        }
        let heights = match text_cell(after) {
            Some((_, height)) => vec![height],
            None => CELLS.map(|(_, height)| height).to_vec(),
        };
        let shifts = (1..=MOST_SCROLLED).flat_map(|lines| heights.iter().map(move |height| lines * height));
        let changed = |shift: &usize| (0..rows(after)).filter(|row| !same(before, after, *row, *shift)).count();
        let scrolled = std::iter::once(0).chain(shifts).min_by_key(changed)?;
        Some(Self::scrolled_by(before, after, scrolled))
    }

    /// The same where it is known by how much the screen has scrolled.
    pub(super) fn scrolled_by(before: &Screen, after: &Screen, scrolled: usize) -> Self {
        let ink = |row| (!same(before, after, row, scrolled)).then(|| differences(before, after, row, scrolled));
        Self { width: after.size().0 as usize, rows: (0..rows(after)).map(ink).collect(), scrolled }
    }

    /// The grids that the drawn pixels may be in, likely ones first.
    pub(super) fn grids(&self, screen: &Screen) -> Vec<Grid> {
        if let Some(cell) = text_cell(screen) {
            return vec![Grid { cell, origin: (0, 0), certain: true }];
        }
        let (mut columns, mut lines) = (vec![0; self.width], vec![0; self.rows.len()]);
        for (y, row) in self.rows.iter().enumerate() {
            for (x, _) in row.iter().flatten().enumerate().filter(|(_, ink)| **ink) {
                columns[x] += 1;
                lines[y] += 1;
            }
        }
        let grid = |(width, height)| {
            let y = middle_of_gap(&by_phase(&lines, height));
            let ends = emptiest(&by_phase(&columns, width));
            // A letter's last column is empty in most fonts, its first in some.
            ends.map(move |end| Grid {
                cell: (width, height),
                origin: ((end + 1) % width, (y + 1) % height),
                certain: false,
            })
        };
        CELLS.into_iter().flat_map(grid).collect()
    }
}

/// The cells that have changed.
pub(super) struct Marks {
    /// Line by line, where something has changed in it.
    lines: Vec<Option<Vec<Mark>>>,
    solid: Vec<bool>,
    /// Cells in a line.
    pub(super) columns: usize,
}

impl Marks {
    pub(super) fn of(ink: &Ink, grid: Grid) -> Self {
        let ((width, height), (left, top)) = (grid.cell, grid.origin);
        let columns = ink.width.saturating_sub(left) / width;
        let count = ink.rows.len().saturating_sub(top) / height;
        let (mut known, mut solid) = (HashMap::from([([0; BITS / 64], 0)]), vec![false]);
        let mut line = |line: usize| {
            let rows = &ink.rows[top + line * height..][..height];
            rows.iter().any(Option::is_some).then(|| {
                let mut bits = vec![[0_u64; BITS / 64]; columns];
                for (y, row) in rows.iter().enumerate() {
                    let drawn = row.iter().flatten().skip(left).take(columns * width).enumerate();
                    for (x, _) in drawn.filter(|(_, ink)| **ink) {
                        let bit = y * width + x % width;
                        bits[x / width][bit / 64] |= 1 << (bit % 64);
                    }
                }
                let mut mark = |bits: [u64; BITS / 64]| {
                    *known.entry(bits).or_insert_with(|| {
                        solid.push(is_rectangle(&bits, width, height));
                        solid.len() as Mark - 1
                    })
                };
                bits.into_iter().map(&mut mark).collect()
            })
        };
        let lines =
            (0..count).map(&mut line).map(|line: Option<Vec<Mark>>| line.filter(|marks| inked(marks))).collect();
        Self { lines, solid, columns }
    }

    /// Lines in which something has changed.
    pub(super) fn lines(&self) -> impl Iterator<Item = usize> + '_ {
        self.lines.iter().enumerate().filter_map(|(number, line)| line.as_ref().map(|_| number))
    }

    /// The first and last cell of a line that have changed.
    pub(super) fn ends(&self, line: usize) -> Option<(usize, usize)> {
        let marks = self.lines.get(line)?.as_ref()?;
        let drawn = |mark: &Mark| *mark != 0;
        Some((marks.iter().position(drawn)?, marks.iter().rposition(drawn)?))
    }

    /// A cell; 0 beyond the screen.
    pub(super) fn mark(&self, line: usize, column: usize) -> Mark {
        self.lines.get(line).and_then(|marks| marks.as_ref()?.get(column)).copied().unwrap_or_default()
    }

    /// Whether it may be a cursor: a filled rectangle.
    pub(super) fn may_be_cursor(&self, mark: Mark) -> bool {
        self.solid.get(usize::from(mark)).copied().unwrap_or_default()
    }
}

fn inked(marks: &[Mark]) -> bool {
    marks.iter().any(|mark| *mark != 0)
}

fn rows(screen: &Screen) -> usize {
    screen.size().1 as usize
}

/// The cell of a text mode: QEMU draws those of 80 by 25 characters with a size of their own.
fn text_cell(screen: &Screen) -> Option<(usize, usize)> {
    match screen.size() {
        (720, 400) => Some((9, 16)),
        (640, 400) => Some((8, 16)),
        _ => None,
    }
}

fn same(before: &Screen, after: &Screen, row: usize, scrolled: usize) -> bool {
    let now = after.row(row);
    if row + scrolled < rows(before) {
        return before.row(row + scrolled).as_flattened() == now.as_flattened();
    }
    now.iter().all(|pixel| Some(pixel) == now.last())
}

fn differences(before: &Screen, after: &Screen, row: usize, scrolled: usize) -> Vec<bool> {
    let now = after.row(row);
    if row + scrolled < rows(before) {
        return now.iter().zip(before.row(row + scrolled)).map(|(a, b)| a != b).collect();
    }
    // A line that came up from below was empty, as its right end still is.
    now.iter().map(|pixel| Some(pixel) != now.last()).collect()
}

/// Sums of what is `period` apart.
fn by_phase(counts: &[u32], period: usize) -> Vec<u32> {
    (0..period).map(|phase| counts.iter().skip(phase).step_by(period).sum()).collect()
}

/// The two phases with the least ink.
fn emptiest(phases: &[u32]) -> std::array::IntoIter<usize, 2> {
    let mut order: Vec<usize> = (0..phases.len()).collect();
    order.sort_by_key(|phase| phases[*phase]);
    [order[0], order[1]].into_iter()
}

/// The middle of the longest run of phases with the least ink.
fn middle_of_gap(phases: &[u32]) -> usize {
    let least = phases.iter().min().copied().unwrap_or_default();
    let length = phases.len();
    let run = |start: &usize| (0..length).take_while(|step| phases[(start + step) % length] == least).count();
    let start = (0..length).max_by_key(run).unwrap_or_default();
    (start + run(&start).saturating_sub(1) / 2) % length
}

fn is_rectangle(bits: &[u64; BITS / 64], width: usize, height: usize) -> bool {
    let set = |bit: usize| bits[bit / 64] >> (bit % 64) & 1 == 1;
    let drawn = || (0..width * height).filter(|bit| set(*bit));
    let (Some(left), Some(right)) = (drawn().map(|bit| bit % width).min(), drawn().map(|bit| bit % width).max()) else {
        return false;
    };
    let (top, bottom) = (drawn().next().unwrap_or_default() / width, drawn().next_back().unwrap_or_default() / width);
    drawn().count() == (right - left + 1) * (bottom - top + 1)
}

#[cfg(test)]
mod tests {
    use super::super::console::Console;
    use super::*;

    #[test]
    fn a_scrolled_screen_is_compared_with_where_its_lines_were() {
        let mut console = Console::new((9, 16), (0, 0), (80, 25));
        (0..24).for_each(|line| console.print(&format!("line {line}\n")));
        console.print("$ ");
        let before = console.screen();
        console.print(&"x".repeat(100));
        let ink = Ink::between(&before, &console.screen()).unwrap();
        assert_eq!(ink.scrolled, 16);
        let grids = ink.grids(&before);
        let marks = Marks::of(&ink, grids[0]);
        assert_eq!((grids.len(), marks.lines().collect::<Vec<_>>()), (1, vec![23, 24]));
        assert_eq!((marks.ends(23), marks.ends(24)), (Some((2, 79)), Some((0, 22))));
        assert!(marks.may_be_cursor(marks.mark(24, 22)) && !marks.may_be_cursor(marks.mark(24, 21)));
        assert_eq!((marks.mark(23, 1), marks.mark(23, 3)), (0, marks.mark(24, 3)));
    }

    #[test]
    fn a_grid_is_found_by_its_gaps() {
        let mut console = Console::new((8, 16), (3, 7), (70, 20));
        let before = console.screen();
        console.print("The quick brown fox\njumps over the lazy dog");
        let ink = Ink::between(&before, &console.screen()).unwrap();
        let grids = ink.grids(&before);
        let found = grids.iter().find(|grid| grid.cell == (8, 16) && grid.origin.0 == 3).unwrap();
        assert_eq!(Marks::of(&ink, *found).lines().count(), 2);
    }

    #[test]
    fn screens_of_other_sizes_are_not_compared() {
        assert!(Ink::between(&Screen::new(720, 400), &Screen::new(640, 480)).is_none());
    }
}
