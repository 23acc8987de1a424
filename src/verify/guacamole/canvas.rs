//! The desktop, drawn from guacd's instructions.

use std::fmt;
use std::sync::OnceLock;

use super::blend::{Mode, Transfer};
use super::layer::Layers;
use super::protocol::Instruction;
use super::raster::{Raster, to_png};
use super::stream::{Ack, Streams, Target, decode};
use crate::error::Result;

/// The desktop as guacd draws it. The mouse pointer is not on it.
#[derive(Default)]
pub struct Canvas {
    layers: Layers,
    streams: Streams,
    frames: u64,
    undrawn: u64,
    picture: OnceLock<Vec<[u8; 3]>>,
    counts: OnceLock<Counts>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    colours: usize,
    commonest: usize,
}

impl Canvas {
    /// Width, pixels; 0 as long as guacd has not told it.
    pub fn width(&self) -> u32 {
        self.layers.raster(0).map_or(0, Raster::width)
    }

    /// Height, pixels; 0 as long as guacd has not told it.
    pub fn height(&self) -> u32 {
        self.layers.raster(0).map_or(0, Raster::height)
    }

    /// How many frames guacd has ended so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// How many drawings were left out, because they are JPEG or WebP or use lines, curves or clipping.
    /// guacd draws a desktop without them if only PNG is allowed.
    pub fn undrawn(&self) -> u64 {
        self.undrawn
    }

    /// Red, green and blue at a place; black beyond the desktop.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        if x >= self.width() {
            return [0; 3];
        }
        let index = y as usize * self.width() as usize + x as usize;
        self.picture().get(index).copied().unwrap_or_default()
    }

    /// How many different colours are seen.
    pub fn colours(&self) -> usize {
        self.counts().colours
    }

    /// The share of the commonest colour, 0 to 1; 1 as long as there is nothing to see.
    pub fn commonest(&self) -> f64 {
        match self.picture().len() {
            0 => 1.0,
            pixels => self.counts().commonest as f64 / pixels as f64,
        }
    }

    /// The desktop as an RGB PNG.
    ///
    /// # Errors
    /// guacd has not told how large it is.
    pub fn png(&self) -> Result<Vec<u8>> {
        to_png(self.width(), self.height(), self.picture())
    }

    fn picture(&self) -> &[[u8; 3]] {
        self.picture.get_or_init(|| self.layers.flatten())
    }

    fn counts(&self) -> Counts {
        *self.counts.get_or_init(|| {
            // One counter a colour: this is asked at every frame, and guacd waits meanwhile.
            let mut seen = vec![0_u32; 1 << 24];
            let mut counts = Counts { colours: 0, commonest: 0 };
            for &[red, green, blue] in self.picture() {
                let count = &mut seen[u32::from_be_bytes([0, red, green, blue]) as usize];
                *count += 1;
                counts.colours += usize::from(*count == 1);
                counts.commonest = counts.commonest.max(*count as usize);
            }
            counts
        })
    }

    /// Draws an instruction. Ones that draw nothing and are not known are ignored. What comes back is to
    /// be told guacd.
    ///
    /// # Errors
    /// The instruction is malformed, or the desktop would need too much memory.
    pub(super) fn apply(&mut self, instruction: &Instruction) -> Result<Option<Ack>> {
        match instruction.opcode() {
            "img" | "audio" | "clipboard" | "video" | "file" | "pipe" | "argv" => {
                return self.streams.open(instruction);
            }
            "blob" => return self.streams.blob(instruction),
            "sync" => self.frames += 1,
            _ => {
                self.picture.take();
                self.counts.take();
                self.draw(instruction)?;
            }
        }
        Ok(None)
    }

    fn draw(&mut self, instruction: &Instruction) -> Result<()> {
        match instruction.opcode() {
            "end" => {
                if let Some((target, data)) = self.streams.end(instruction)? {
                    self.image(instruction, &target, &data)?;
                }
            }
            "png" => {
                let [mode, layer, x, y] = instruction.numbers()?;
                let target = Target { mode, layer, mime: "image/png".to_owned(), at: [x, y] };
                self.image(instruction, &target, &decode(instruction, 4)?)?;
            }
            "copy" => self.copy(instruction)?,
            "transfer" => self.transfer(instruction)?,
            "cfill" => self.fill(instruction)?,
            "rect" => {
                let [layer, x, y, width, height] = instruction.numbers()?;
                self.layers.rectangle(layer, [x, y, width, height])?;
            }
            "start" | "line" | "arc" | "curve" => self.layers.line(instruction.number(0)?)?,
            "close" => self.layers.close(instruction.number(0)?)?,
            "reset" => self.layers.reset(instruction.number(0)?)?,
            "jpeg" | "lfill" | "cstroke" | "lstroke" | "clip" | "distort" | "transform" => self.undrawn += 1,
            _ => self.arrange(instruction)?,
        }
        Ok(())
    }

    /// Instructions about whole layers.
    fn arrange(&mut self, instruction: &Instruction) -> Result<()> {
        match instruction.opcode() {
            "size" => {
                let [layer, width, height] = instruction.numbers()?;
                // Guacamole's own client takes a negative size for none.
                let side = |length: i32| u32::try_from(length).unwrap_or(0);
                self.layers.resize(layer, side(width), side(height))?;
            }
            "move" => {
                let [layer, parent, x, y, z] = instruction.numbers()?;
                if layer > 0 && parent >= 0 {
                    self.layers.place(layer, parent, [x, y, z])?;
                }
            }
            "shade" => {
                let [layer, _] = instruction.numbers()?;
                if layer >= 0 {
                    self.layers.shade(layer, byte(instruction, 1)?)?;
                }
            }
            "dispose" => self.layers.dispose(instruction.number(0)?),
            _ => {}
        }
        Ok(())
    }

    fn image(&mut self, instruction: &Instruction, target: &Target, data: &[u8]) -> Result<()> {
        if target.mime != "image/png" {
            self.undrawn += 1;
            return Ok(());
        }
        let mode = mode(instruction, target.mode)?;
        let picture = Raster::from_png(data)?;
        self.layers.draw(target.layer, &picture, target.at, |source, here| mode.blend(source, here))
    }

    fn copy(&mut self, instruction: &Instruction) -> Result<()> {
        let [from, from_x, from_y, width, height, number, to, x, y] = instruction.numbers()?;
        let mode = mode(instruction, number)?;
        let Some((part, [skip_x, skip_y])) = self.layers.part(from, [from_x, from_y, width, height]) else {
            return Ok(());
        };
        let at = [x.saturating_add(skip_x), y.saturating_add(skip_y)];
        self.layers.draw(to, &part, at, |source, here| mode.blend(source, here))
    }

    fn transfer(&mut self, instruction: &Instruction) -> Result<()> {
        let [from, from_x, from_y, width, height, number, to, x, y] = instruction.numbers()?;
        let Some(function) = Transfer::new(number) else {
            return Err(instruction.malformed(format!("there is no transfer function {number}")));
        };
        let Some((part, [skip_x, skip_y])) = self.layers.part(from, [from_x, from_y, width, height]) else {
            return Ok(());
        };
        let at = [x.saturating_add(skip_x), y.saturating_add(skip_y)];
        self.layers.draw(to, &part, at, |source, here| function.transfer(source, here))
    }

    fn fill(&mut self, instruction: &Instruction) -> Result<()> {
        let [number, layer] = instruction.numbers()?;
        let mut colour = [0; 4];
        for (index, channel) in colour.iter_mut().enumerate() {
            *channel = byte(instruction, 2 + index)?;
        }
        if !self.layers.fill(layer, colour, mode(instruction, number)?)? {
            self.undrawn += 1;
        }
        Ok(())
    }
}

impl fmt::Debug for Canvas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = [self.width(), self.height()];
        f.debug_struct("Canvas").field("size", &size).field("frames", &self.frames).finish_non_exhaustive()
    }
}

fn mode(instruction: &Instruction, number: i32) -> Result<Mode> {
    Mode::new(number).ok_or_else(|| instruction.malformed(format!("there is no composite mode {number}")))
}

fn byte(instruction: &Instruction, index: usize) -> Result<u8> {
    let number = instruction.number(index)?;
    u8::try_from(number).map_err(|_| instruction.malformed(format!("argument {} is {number}, beyond 255", index + 1)))
}
