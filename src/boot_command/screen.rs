//! The screen as the VNC server has drawn it.

use std::fmt;

use super::command::Region;
use crate::error::{Context, Error, Kind, Result};
use crate::picture;

/// The largest text cursor, pixels a side: twice the cell of the largest console fonts is beyond it.
const CURSOR: usize = 32;
/// The most pixels of a picture to compare with; a VNC server's limit in vnc-rs is half of it.
const MAX_PIXELS: u64 = 1 << 24;

type Pixel = [u8; 3];

/// Rows of red, green and blue.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Screen {
    width: usize,
    height: usize,
    pixels: Vec<Pixel>,
}

/// How two states of the screen differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    Nothing,
    /// As a blinking cursor makes it: in one small rectangle, two colours have changed places. (A cursor that moves
    /// to the next cell looks the same.)
    Cursor,
    /// In any other way.
    Picture,
}

/// How far a screen may be from a picture and still show it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// The largest difference of a pixel's red, green or blue that does not count.
    pub colour: u8,
    /// The largest share of pixels that differ, 0 to 1.
    pub pixels: f64,
}

impl Default for Tolerance {
    /// Enough for a colour that a mode of the graphics card cannot show exactly and for a pixel here and there. A
    /// letter of a text console is 0.01 % of its screen.
    fn default() -> Self {
        Self { colour: 24, pixels: 0.0005 }
    }
}

impl Screen {
    /// A black screen.
    pub fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self { width, height, pixels: vec![[0; 3]; width * height] }
    }

    /// Decodes a PNG; what is transparent in it is ignored and its colour taken.
    ///
    /// # Errors
    /// It is no PNG, broken, or absurdly large.
    pub fn from_png(bytes: &[u8]) -> Result<Self> {
        let allowed = |width, height| u64::from(width) * u64::from(height) <= MAX_PIXELS;
        let (width, height, pixels) =
            picture::decode(bytes, allowed).context(Kind::Usage, || "the picture is not a PNG to compare with")?;
        let pixels = pixels.into_iter().map(|[r, g, b, _]| [r, g, b]).collect();
        Ok(Self { width: width as usize, height: height as usize, pixels })
    }

    /// The screen as an RGB PNG.
    ///
    /// # Errors
    /// It has no pixels.
    pub fn png(&self) -> Result<Vec<u8>> {
        picture::encode(self.width as u32, self.height as u32, png::ColorType::Rgb, self.pixels.as_flattened())
            .context(Kind::Build, || "the screen cannot be written as PNG")
    }

    /// Width and height, pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    /// Red, green and blue at a place; black beyond the screen.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let inside = (x as usize) < self.width;
        inside.then(|| self.pixels.get(y as usize * self.width + x as usize)).flatten().copied().unwrap_or_default()
    }

    /// A part; none if it is not wholly within the screen.
    pub fn part(&self, region: Region) -> Option<Self> {
        let [x, y, width, height] = [region.x, region.y, region.width, region.height].map(|side| side as usize);
        if x.checked_add(width)? > self.width || y.checked_add(height)? > self.height {
            return None;
        }
        let rows = (y..y + height).flat_map(|row| &self.pixels[row * self.width + x..][..width]);
        Some(Self { width, height, pixels: rows.copied().collect() })
    }

    /// How this screen differs from an earlier state.
    pub fn change_since(&self, earlier: &Self) -> Change {
        if self.size() != earlier.size() {
            return Change::Picture;
        }
        let Some((top, bottom)) = self.changed_rows(earlier) else { return Change::Nothing };
        if bottom - top >= CURSOR {
            return Change::Picture;
        }
        let column = |x: &usize| (top..=bottom).any(|row| self.row(row)[*x] != earlier.row(row)[*x]);
        let left = (0..self.width).find(column).unwrap_or_default();
        let right = (left..self.width).rfind(column).unwrap_or(left);
        let colours = (earlier.row(top)[left], self.row(top)[left]);
        let swapped = |row: usize| {
            let pairs = earlier.row(row)[left..=right].iter().zip(&self.row(row)[left..=right]);
            pairs.into_iter().all(|(a, b)| (*a, *b) == colours || (*b, *a) == colours)
        };
        if right - left < CURSOR && (top..=bottom).all(swapped) { Change::Cursor } else { Change::Picture }
    }

    /// The first and the last row in which this screen differs from another one of the same size.
    pub(super) fn changed_rows(&self, earlier: &Self) -> Option<(usize, usize)> {
        let differs = |row: &usize| self.row(*row).as_flattened() != earlier.row(*row).as_flattened();
        let top = (0..self.height.min(earlier.height)).find(differs)?;
        Some((top, (top..self.height).rfind(differs).unwrap_or(top)))
    }

    /// The share of pixels, 0 to 1, in which this screen differs from a picture of the same size.
    pub fn difference(&self, picture: &Self, colour: u8) -> Option<f64> {
        if self.size() != picture.size() || self.pixels.is_empty() {
            return None;
        }
        let far = |(a, b): &(&Pixel, &Pixel)| a.iter().zip(b.iter()).any(|(a, b)| a.abs_diff(*b) > colour);
        let count = self.pixels.iter().zip(&picture.pixels).filter(far).count();
        Some(count as f64 / self.pixels.len() as f64)
    }

    /// Changes the size; what was drawn before is lost, because the server draws all of it anew.
    pub(super) fn resize(&mut self, width: u32, height: u32) {
        *self = Self::new(width, height);
    }

    /// Draws rows of red, green, blue and a byte without meaning.
    ///
    /// # Errors
    /// The rectangle is not within the screen, or not full.
    pub(super) fn draw(&mut self, region: Region, data: &[u8]) -> Result<()> {
        let [x, y, width, height] = [region.x, region.y, region.width, region.height].map(|side| side as usize);
        let (pixels, rest) = data.as_chunks::<4>();
        if x + width > self.width || y + height > self.height || pixels.len() != width * height || !rest.is_empty() {
            return Err(Error::build(format!("the VNC server draws {region} on a screen of {self:?}")));
        }
        for (row, pixels) in pixels.chunks(width.max(1)).enumerate() {
            let line = &mut self.pixels[(y + row) * self.width + x..][..width];
            for (here, [red, green, blue, _]) in line.iter_mut().zip(pixels) {
                *here = [*red, *green, *blue];
            }
        }
        Ok(())
    }

    pub(super) fn row(&self, row: usize) -> &[Pixel] {
        &self.pixels[row * self.width..][..self.width]
    }

    /// The screen for OCR: grey, dark on light, `scale` times as large, as the training of tesseract expects letters.
    pub(super) fn for_ocr(&self, scale: usize) -> Result<Vec<u8>> {
        let grey = |[r, g, b]: &Pixel| ((u32::from(*r) * 2 + u32::from(*g) * 5 + u32::from(*b)) / 8) as u8;
        let values: Vec<u8> = self.pixels.iter().map(grey).collect();
        let sum: u64 = values.iter().map(|value| u64::from(*value)).sum();
        let dark = sum < values.len() as u64 * 128;
        let mut large = Vec::with_capacity(values.len() * scale * scale);
        for row in values.chunks(self.width.max(1)) {
            let wide: Vec<u8> =
                row.iter().flat_map(|v| std::iter::repeat_n(if dark { 255 - v } else { *v }, scale)).collect();
            (0..scale).for_each(|_| large.extend_from_slice(&wide));
        }
        picture::encode((self.width * scale) as u32, (self.height * scale) as u32, png::ColorType::Grayscale, &large)
            .context(Kind::Build, || "the screen cannot be written as PNG")
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: [u8; 4] = [255, 255, 255, 0];

    fn region(x: u32, y: u32, width: u32, height: u32) -> Region {
        Region { x, y, width, height }
    }

    fn filled(screen: &mut Screen, at: Region, colour: [u8; 4]) {
        screen.draw(at, &vec![colour; (at.width * at.height) as usize].concat()).unwrap();
    }

    #[test]
    fn a_blinking_cursor_is_told_from_text() {
        let blank = Screen::new(80, 40);
        let mut cursor = blank.clone();
        filled(&mut cursor, region(8, 14, 8, 2), WHITE);
        assert_eq!(blank.change_since(&blank), Change::Nothing);
        assert_eq!(cursor.change_since(&blank), Change::Cursor);
        assert_eq!(blank.change_since(&cursor), Change::Cursor);
        let mut moved = blank.clone();
        filled(&mut moved, region(16, 14, 8, 2), WHITE);
        assert_eq!(moved.change_since(&cursor), Change::Cursor);
        let mut elsewhere = blank.clone();
        filled(&mut elsewhere, region(8, 30, 8, 2), WHITE);
        assert_eq!(elsewhere.change_since(&cursor), Change::Picture);
        let mut letter = cursor.clone();
        filled(&mut letter, region(16, 2, 1, 9), WHITE);
        filled(&mut letter, region(16, 2, 5, 1), WHITE);
        assert_eq!(letter.change_since(&cursor), Change::Picture);
        // A block over a letter, which shows through it.
        let mut block = blank.clone();
        filled(&mut block, region(15, 1, 9, 12), WHITE);
        filled(&mut block, region(16, 2, 1, 9), [0; 4]);
        filled(&mut block, region(16, 2, 5, 1), [0; 4]);
        let mut under = blank.clone();
        filled(&mut under, region(16, 2, 1, 9), WHITE);
        filled(&mut under, region(16, 2, 5, 1), WHITE);
        assert_eq!(block.change_since(&under), Change::Cursor);
        assert_eq!(under.change_since(&blank), Change::Picture);
        let mut bar = blank.clone();
        filled(&mut bar, region(0, 0, 80, 2), WHITE);
        assert_eq!(bar.change_since(&blank), Change::Picture);
        assert_eq!(Screen::new(80, 41).change_since(&blank), Change::Picture);
    }

    #[test]
    fn pictures_are_compared_with_tolerance() {
        let blank = Screen::new(10, 10);
        let mut screen = blank.clone();
        filled(&mut screen, region(0, 0, 10, 1), [24, 0, 0, 9]);
        assert_eq!(screen.difference(&blank, 24), Some(0.0));
        assert_eq!(screen.difference(&blank, 23), Some(0.1));
        assert_eq!(screen.difference(&Screen::new(10, 9), 255), None);
        assert_eq!(Screen::default().difference(&Screen::default(), 255), None);
    }

    #[test]
    fn a_part_is_within_the_screen() {
        let mut screen = Screen::new(4, 3);
        filled(&mut screen, region(1, 1, 2, 1), WHITE);
        assert_eq!(screen.part(region(1, 1, 2, 1)).unwrap().pixels, [[255; 3]; 2]);
        assert!(screen.part(region(3, 0, 2, 1)).is_none());
        assert!(screen.part(region(u32::MAX, 0, 2, 1)).is_none());
        assert_eq!(screen.pixel(1, 1), [255; 3]);
        assert_eq!(screen.pixel(4, 1), [0; 3]);
    }

    #[test]
    fn what_is_drawn_outside_is_refused() {
        let mut screen = Screen::new(4, 3);
        let error = screen.draw(region(3, 0, 2, 1), &[0; 8]).unwrap_err();
        assert_eq!(error.to_string(), "the VNC server draws [3,0,2,1] on a screen of 4x3");
        assert!(screen.draw(region(0, 0, 2, 1), &[0; 7]).is_err());
        assert!(screen.draw(region(0, 0, 0, 0), &[]).is_ok());
    }

    #[test]
    fn png_and_back() {
        let mut screen = Screen::new(4, 3);
        filled(&mut screen, region(1, 1, 2, 1), [1, 2, 3, 4]);
        assert_eq!(Screen::from_png(&screen.png().unwrap()).unwrap(), screen);
        assert_eq!(Screen::from_png(b"GIF").unwrap_err().to_string(), "the picture is not a PNG to compare with");
        assert!(Screen::default().png().is_err());
        let large = Screen::from_png(&screen.for_ocr(3).unwrap()).unwrap();
        assert_eq!((large.size(), large.pixel(0, 0)), ((12, 9), [255; 3]));
    }
}
