//! A rectangle of pixels, from and to PNG.

use std::fmt;

use crate::error::{Context, Error, Kind, Result};
use crate::picture::{self, Broken};

/// The longest side of a picture or a layer, pixels.
pub(super) const MAX_SIDE: u32 = 8192;
/// The most pixels of one picture, and of all layers together: 128 MiB.
pub(super) const MAX_PIXELS: usize = 1 << 25;

/// Red, green, blue, alpha; the colours are not multiplied by alpha.
pub(super) type Pixel = [u8; 4];

/// Rows of pixels from the top.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Raster {
    width: u32,
    height: u32,
    pixels: Vec<Pixel>,
}

/// A part of a raster, already within its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Area {
    /// What is in both areas, none if nothing is.
    pub(super) fn within(self, other: Self) -> Option<Self> {
        let [x, y] = [self.x.max(other.x), self.y.max(other.y)];
        let right = (self.x + self.width).min(other.x + other.width);
        let bottom = (self.y + self.height).min(other.y + other.height);
        (x < right && y < bottom).then(|| Self { x, y, width: right - x, height: bottom - y })
    }
}

impl Raster {
    /// A transparent raster.
    ///
    /// # Errors
    /// It is too large.
    pub(super) fn new(width: u32, height: u32) -> Result<Self> {
        Ok(Self { width, height, pixels: vec![[0; 4]; area(width, height)?] })
    }

    /// Decodes a PNG of any colour type.
    ///
    /// # Errors
    /// It is no PNG, broken, or too large.
    pub(super) fn from_png(bytes: &[u8]) -> Result<Self> {
        let allowed = |width, height| area(width, height).is_ok();
        let (width, height, pixels) = picture::decode(bytes, allowed).map_err(|error| match error {
            Broken::TooLarge(width, height) => too_large(width, height),
            Broken::NotPng(error) => {
                Error::new(Kind::Verification, "guacd sent a picture that is not a PNG").because(error)
            }
        })?;
        Ok(Self { width, height, pixels })
    }

    /// Width, pixels.
    pub(super) fn width(&self) -> u32 {
        self.width
    }

    /// Height, pixels.
    pub(super) fn height(&self) -> u32 {
        self.height
    }

    /// How many pixels it has.
    pub(super) fn count(&self) -> usize {
        self.pixels.len()
    }

    /// One row.
    pub(super) fn row(&self, y: u32) -> &[Pixel] {
        let width = self.width as usize;
        &self.pixels[y as usize * width..][..width]
    }

    /// A part of one row.
    pub(super) fn span_mut(&mut self, x: u32, y: u32, width: u32) -> &mut [Pixel] {
        let start = y as usize * self.width as usize + x as usize;
        &mut self.pixels[start..][..width as usize]
    }

    /// What of a rectangle is within the bounds, none if nothing is.
    pub(super) fn clip(&self, x: i32, y: i32, width: i64, height: i64) -> Option<Area> {
        let (x, width) = overlap(x, width, self.width)?;
        let (y, height) = overlap(y, height, self.height)?;
        Some(Area { x, y, width, height })
    }

    /// A copy of a part.
    pub(super) fn part(&self, area: Area) -> Self {
        let mut pixels = Vec::with_capacity(area.width as usize * area.height as usize);
        for y in area.y..area.y + area.height {
            pixels.extend_from_slice(&self.row(y)[area.x as usize..][..area.width as usize]);
        }
        Self { width: area.width, height: area.height, pixels }
    }

    /// This raster at another size: cut, or with transparent margins at the right and below.
    ///
    /// # Errors
    /// It is too large.
    pub(super) fn resized(&self, width: u32, height: u32) -> Result<Self> {
        let mut resized = Self::new(width, height)?;
        let common = width.min(self.width);
        for y in 0..height.min(self.height) {
            resized.span_mut(0, y, common).copy_from_slice(&self.row(y)[..common as usize]);
        }
        Ok(resized)
    }

    /// Combines `source` with what is at `x`, `y`, pixel by pixel: `combine(source, here)`.
    pub(super) fn combine(&mut self, source: &Raster, x: i32, y: i32, combine: impl Fn(Pixel, Pixel) -> Pixel) {
        let Some(area) = self.clip(x, y, source.width.into(), source.height.into()) else { return };
        // Not negative: the area begins at or behind `x` and `y`.
        let from_x = (i64::from(area.x) - i64::from(x)) as usize;
        let from_y = (i64::from(area.y) - i64::from(y)) as u32;
        for row in 0..area.height {
            let from = &source.row(from_y + row)[from_x..];
            for (here, &pixel) in self.span_mut(area.x, area.y + row, area.width).iter_mut().zip(from) {
                *here = combine(pixel, *here);
            }
        }
    }
}

impl fmt::Debug for Raster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raster({}x{})", self.width, self.height)
    }
}

/// What of `length` from `start` is within 0..`limit`: where it begins and how long it is.
fn overlap(start: i32, length: i64, limit: u32) -> Option<(u32, u32)> {
    let end = (i64::from(start) + length).min(limit.into());
    let start = i64::from(start).max(0);
    (start < end).then_some((start as u32, (end - start) as u32))
}

/// How many pixels so large a raster has.
///
/// # Errors
/// It is too large.
pub(super) fn area(width: u32, height: u32) -> Result<usize> {
    let pixels = width as usize * height as usize;
    if width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(too_large(width, height));
    }
    Ok(pixels)
}

fn too_large(width: u32, height: u32) -> Error {
    Error::new(Kind::Verification, format!("guacd draws a picture of {width}x{height} pixels, which is too large"))
}

/// Encodes rows of red, green, blue.
///
/// # Errors
/// There are no pixels.
pub(super) fn to_png(width: u32, height: u32, pixels: &[[u8; 3]]) -> Result<Vec<u8>> {
    picture::encode(width, height, png::ColorType::Rgb, pixels.as_flattened())
        .context(Kind::Verification, || "the desktop's picture cannot be written as PNG")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A PNG of raw `data`.
    pub(in super::super) fn png_of(
        (width, height): (u32, u32),
        color: png::ColorType,
        depth: png::BitDepth,
        palette: Option<(&[u8], &[u8])>,
        data: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if let Some((colours, alphas)) = palette {
            encoder.set_palette(colours.to_vec());
            encoder.set_trns(alphas.to_vec());
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    /// An RGBA PNG.
    pub(in super::super) fn png_rgba(width: u32, height: u32, pixels: &[Pixel]) -> Vec<u8> {
        png_of((width, height), png::ColorType::Rgba, png::BitDepth::Eight, None, pixels.as_flattened())
    }

    #[test]
    fn every_colour_type_is_decoded() {
        use png::{BitDepth, ColorType};
        let two = |color, depth, palette, data: &[u8]| {
            Raster::from_png(&png_of((2, 1), color, depth, palette, data)).unwrap().pixels
        };
        assert_eq!(two(ColorType::Grayscale, BitDepth::Eight, None, &[0, 9]), [[0, 0, 0, 255], [9, 9, 9, 255]]);
        assert_eq!(two(ColorType::Grayscale, BitDepth::One, None, &[0x40]), [[0, 0, 0, 255], [255; 4]]);
        assert_eq!(two(ColorType::GrayscaleAlpha, BitDepth::Eight, None, &[1, 2, 3, 4]), [[1, 1, 1, 2], [3, 3, 3, 4]]);
        assert_eq!(two(ColorType::Rgb, BitDepth::Eight, None, &[1, 2, 3, 4, 5, 6]), [[1, 2, 3, 255], [4, 5, 6, 255]]);
        assert_eq!(
            two(ColorType::Rgb, BitDepth::Sixteen, None, &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]),
            [[1, 2, 3, 255], [4, 5, 6, 255]]
        );
        assert_eq!(
            two(ColorType::Rgba, BitDepth::Eight, None, &[1, 2, 3, 4, 5, 6, 7, 8]),
            [[1, 2, 3, 4], [5, 6, 7, 8]]
        );
        for (depth, data) in [(BitDepth::Two, 0x10), (BitDepth::Four, 0x01)] {
            let palette: (&[u8], &[u8]) = (&[1, 2, 3, 4, 5, 6], &[7]);
            assert_eq!(two(ColorType::Indexed, depth, Some(palette), &[data]), [[1, 2, 3, 7], [4, 5, 6, 255]]);
        }
        let opaque: (&[u8], &[u8]) = (&[1, 2, 3, 4, 5, 6], &[]);
        assert_eq!(two(ColorType::Indexed, BitDepth::One, Some(opaque), &[0x40]), [[1, 2, 3, 255], [4, 5, 6, 255]]);
    }

    #[test]
    fn broken_and_absurd_pictures_are_refused() {
        let png = png_rgba(2, 2, &[[1; 4]; 4]);
        for bytes in [&b""[..], b"GIF89a", &png[..20], &png[..png.len() - 20]] {
            assert_eq!(Raster::from_png(bytes).unwrap_err().to_string(), "guacd sent a picture that is not a PNG");
        }
        // A header alone may promise anything: nothing is set aside for it.
        let wide = png_of((9000, 1), png::ColorType::Grayscale, png::BitDepth::One, None, &[0; 1125]);
        let error = Raster::from_png(&wide).unwrap_err();
        assert_eq!(error.to_string(), "guacd draws a picture of 9000x1 pixels, which is too large");
        assert!(Raster::new(8192, 8192).is_err());
        assert!(to_png(0, 0, &[]).is_err());
    }

    #[test]
    fn rectangles_are_clipped() {
        let raster = Raster::new(4, 3).unwrap();
        assert_eq!(raster.clip(-1, 1, 3, 9), Some(Area { x: 0, y: 1, width: 2, height: 2 }));
        assert_eq!(raster.clip(i32::MIN, 0, i32::MAX.into(), 1), None);
        assert_eq!(raster.clip(i32::MAX, i32::MAX, i32::MAX.into(), 1), None);
        assert_eq!(raster.clip(0, 0, -5, 1), None);
        assert_eq!(raster.clip(4, 0, 1, 1), None);
    }
}
