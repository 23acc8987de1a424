//! Pictures from and to PNG.

use std::fmt;
use std::io::Cursor;

/// Why bytes are no picture.
#[derive(Debug)]
pub(crate) enum Broken {
    /// They are no PNG, or a damaged one.
    NotPng(png::DecodingError),
    /// The picture is larger than allowed: width and height.
    TooLarge(u32, u32),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPng(error) => error.fmt(f),
            Self::TooLarge(width, height) => write!(f, "{width}x{height} pixels are too many"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<png::DecodingError> for Broken {
    fn from(error: png::DecodingError) -> Self {
        Self::NotPng(error)
    }
}

/// Decodes a PNG of any colour type to red, green, blue, alpha (not multiplied by alpha). Nothing is set aside for
/// pixels before `allowed` has seen width and height.
pub(crate) fn decode(bytes: &[u8], allowed: impl Fn(u32, u32) -> bool) -> Result<(u32, u32, Vec<[u8; 4]>), Broken> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let (width, height) = reader.info().size();
    let size = reader.output_buffer_size().filter(|_| allowed(width, height));
    let mut data = vec![0; size.ok_or(Broken::TooLarge(width, height))?];
    let info = reader.next_frame(&mut data)?;
    data.truncate(info.buffer_size());
    let pixels = match info.color_type {
        png::ColorType::Grayscale => data.iter().map(|&v| [v, v, v, 255]).collect(),
        png::ColorType::GrayscaleAlpha => data.as_chunks().0.iter().map(|&[v, a]| [v, v, v, a]).collect(),
        png::ColorType::Rgb => data.as_chunks().0.iter().map(|&[r, g, b]| [r, g, b, 255]).collect(),
        // The transformation has expanded palettes.
        png::ColorType::Rgba | png::ColorType::Indexed => data.as_chunks().0.to_vec(),
    };
    Ok((width, height, pixels))
}

/// Encodes rows of pixels.
pub(crate) fn encode(
    width: u32,
    height: u32,
    colour: png::ColorType,
    data: &[u8],
) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(data)?;
    writer.finish()?;
    Ok(bytes)
}
