//! A text console for tests: draws characters into cells, scrolls, and has a cursor.

use super::command::Region;
use super::screen::Screen;

pub(super) struct Console {
    cell: (usize, usize),
    origin: (usize, usize),
    size: (usize, usize),
    lines: Vec<Vec<char>>,
    at: (usize, usize),
    /// Whether the cursor is seen.
    pub(super) cursor: bool,
}

impl Console {
    /// Cells of so many pixels, from a place on, so many in a line and so many lines.
    pub(super) fn new(cell: (usize, usize), origin: (usize, usize), size: (usize, usize)) -> Self {
        Self { cell, origin, size, lines: vec![vec![' '; size.0]; size.1], at: (0, 0), cursor: true }
    }

    pub(super) fn print(&mut self, text: &str) {
        for character in text.chars() {
            if character == '\n' {
                self.at = (0, self.at.1 + 1);
            } else if character == '\u{8}' {
                self.at = if self.at.0 > 0 { (self.at.0 - 1, self.at.1) } else { (self.size.0 - 1, self.at.1 - 1) };
                self.lines[self.at.1][self.at.0] = ' ';
            } else {
                self.lines[self.at.1][self.at.0] = character;
                self.at.0 += 1;
            }
            if self.at.0 == self.size.0 {
                self.at = (0, self.at.1 + 1);
            }
            if self.at.1 == self.size.1 {
                self.lines.remove(0);
                self.lines.push(vec![' '; self.size.0]);
                self.at.1 -= 1;
            }
        }
    }

    pub(super) fn screen(&self) -> Screen {
        let (width, height) = self.cell;
        let total = (self.origin.0 * 2 + width * self.size.0, self.origin.1 * 2 + height * self.size.1);
        let mut screen = Screen::new(total.0 as u32, total.1 as u32);
        for (row, line) in self.lines.iter().enumerate() {
            for (column, character) in line.iter().enumerate().filter(|(_, character)| **character != ' ') {
                self.draw(&mut screen, (column, row), |x, y| ink(*character, x, y, self.cell));
            }
        }
        if self.cursor {
            self.draw(&mut screen, self.at, |_, y| y + 2 >= height);
        }
        screen
    }

    /// Draws what is ink in a cell over what is there.
    fn draw(&self, screen: &mut Screen, (column, row): (usize, usize), ink: impl Fn(usize, usize) -> bool) {
        let ((width, height), (left, top)) = (self.cell, self.origin);
        let (x, y) = (left + column * width, top + row * height);
        let pixel = |place: usize| match (place % width, place / width) {
            (across, down) if ink(across, down) => [170, 170, 170, 0],
            (across, down) => {
                let [red, green, blue] = screen.pixel((x + across) as u32, (y + down) as u32);
                [red, green, blue, 0]
            }
        };
        let pixels: Vec<u8> = (0..width * height).flat_map(pixel).collect();
        let at = Region { x: x as u32, y: y as u32, width: width as u32, height: height as u32 };
        screen.draw(at, &pixels).unwrap();
    }
}

/// A font: the character's bits in a frame that keeps clear of the cell's edges; `_` and `-` are strokes.
fn ink(character: char, x: usize, y: usize, (width, height): (usize, usize)) -> bool {
    if x + 1 >= width || y < 2 || y + 3 >= height {
        return false;
    }
    match character {
        '_' => y + 4 == height,
        '-' => y == height / 2,
        // The two outer strokes make every one of them as wide as high.
        _ => y == 2 || x == 0 && y < 6 || character as usize >> ((x + y) % 7) & 1 == 1 && y > 3 && (x ^ y) & 1 == 0,
    }
}
