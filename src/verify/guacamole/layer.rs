//! Layers: what Guacamole draws on, and how they lie on each other.

use std::collections::BTreeMap;

use super::blend::Mode;
use super::raster::{Area, MAX_PIXELS, Pixel, Raster, area};
use crate::error::{Error, Kind, Result};

/// The most layers and buffers; guacd keeps one for each bitmap that the RDP server caches.
const MAX_LAYERS: usize = 8192;
/// How deep layers may lie in each other.
const MAX_DEPTH: usize = 32;
/// The most rectangles in one path.
const MAX_PATH: usize = 1024;

/// The part of a layer that the next fill is for.
#[derive(Debug, Default)]
struct Path {
    rectangles: Vec<[i32; 4]>,
    /// Lines or curves belong to it, which are not drawn here.
    other: bool,
    /// It was used: the next piece begins a new one.
    closed: bool,
}

impl Path {
    fn extend(&mut self) -> &mut Self {
        if self.closed {
            *self = Self::default();
        }
        self
    }
}

/// Where a visible layer lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    parent: i32,
    x: i32,
    y: i32,
    z: i32,
}

#[derive(Debug)]
struct Layer {
    raster: Raster,
    path: Path,
    /// None for layer 0, for buffers, and for a layer whose parent is gone.
    place: Option<Place>,
    opacity: u8,
}

/// All layers. Index 0 is the desktop, above are layers on it, below are buffers, which are not shown
/// and grow with what is drawn.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: BTreeMap<i32, Layer>,
    /// Pixels of all layers together.
    pixels: usize,
}

impl Layers {
    /// The raster of a layer, none as long as nobody has used it.
    pub(super) fn raster(&self, index: i32) -> Option<&Raster> {
        self.layers.get(&index).map(|layer| &layer.raster)
    }

    /// The layer, made on its first use as Guacamole's own client makes it: as large as the desktop
    /// and on it, buffers empty.
    fn layer(&mut self, index: i32) -> Result<&mut Layer> {
        if !self.layers.contains_key(&index) {
            if self.layers.len() == MAX_LAYERS {
                return Err(fault(format!("guacd uses more than {MAX_LAYERS} layers")));
            }
            let place = (index > 0).then_some(Place { parent: 0, x: 0, y: 0, z: 0 });
            let layer = Layer { raster: Raster::default(), path: Path::default(), place, opacity: 255 };
            self.layers.insert(index, layer);
            if let (1.., Some(desktop)) = (index, self.raster(0)) {
                let (width, height) = (desktop.width(), desktop.height());
                self.resize(index, width, height)?;
            }
        }
        self.layers.get_mut(&index).ok_or_else(|| fault("a layer is gone".to_owned()))
    }

    /// Gives a layer a size.
    ///
    /// # Errors
    /// It is too large, or all layers together are.
    pub(super) fn resize(&mut self, index: i32, width: u32, height: u32) -> Result<()> {
        let raster = &self.layer(index)?.raster;
        if (raster.width(), raster.height()) == (width, height) {
            return Ok(());
        }
        let old = raster.count();
        let pixels = self.pixels - old + area(width, height)?;
        if pixels > MAX_PIXELS {
            return Err(fault(format!("guacd uses layers of more than {MAX_PIXELS} pixels together")));
        }
        let layer = self.layer(index)?;
        layer.raster = layer.raster.resized(width, height)?;
        layer.path = Path::default();
        self.pixels = pixels;
        Ok(())
    }

    /// Makes a buffer large enough for a drawing.
    fn fit(&mut self, index: i32, [x, y]: [i32; 2], width: i64, height: i64) -> Result<()> {
        if index >= 0 || width <= 0 || height <= 0 {
            return Ok(());
        }
        let raster = &self.layer(index)?.raster;
        let side = |start: i32, length: i64, now: u32| (i64::from(start) + length).max(now.into());
        let (wide, high) = (side(x, width, raster.width()), side(y, height, raster.height()));
        if (wide, high) == (raster.width().into(), raster.height().into()) {
            return Ok(());
        }
        let large = |side: i64| u32::try_from(side).unwrap_or(u32::MAX);
        let path = std::mem::take(&mut self.layer(index)?.path);
        self.resize(index, large(wide), large(high))?;
        self.layer(index)?.path = path;
        Ok(())
    }

    /// Draws `source` at a place: `combine(source, here)` for every pixel.
    ///
    /// # Errors
    /// A buffer grows too large.
    pub(super) fn draw(
        &mut self,
        index: i32,
        source: &Raster,
        [x, y]: [i32; 2],
        combine: impl Fn(Pixel, Pixel) -> Pixel,
    ) -> Result<()> {
        self.fit(index, [x, y], source.width().into(), source.height().into())?;
        self.layer(index)?.raster.combine(source, x, y, combine);
        Ok(())
    }

    /// A copy of a rectangle of a layer, and where what of it exists begins in the rectangle.
    pub(super) fn part(&self, index: i32, [x, y, width, height]: [i32; 4]) -> Option<(Raster, [i32; 2])> {
        let raster = self.raster(index)?;
        let area = raster.clip(x, y, width.into(), height.into())?;
        // A raster is small: what is in it fits.
        Some((raster.part(area), [(area.x as i32).saturating_sub(x), (area.y as i32).saturating_sub(y)]))
    }

    /// Adds a rectangle to a layer's path.
    ///
    /// # Errors
    /// The path is absurdly long.
    pub(super) fn rectangle(&mut self, index: i32, rectangle: [i32; 4]) -> Result<()> {
        let path = self.layer(index)?.path.extend();
        if path.rectangles.len() == MAX_PATH {
            return Err(fault(format!("guacd draws a path of more than {MAX_PATH} rectangles")));
        }
        path.rectangles.push(rectangle);
        Ok(())
    }

    /// Notes that a line or a curve belongs to a layer's path.
    pub(super) fn line(&mut self, index: i32) -> Result<()> {
        self.layer(index)?.path.extend().other = true;
        Ok(())
    }

    /// Ends a layer's path; it can still be filled.
    pub(super) fn close(&mut self, index: i32) -> Result<()> {
        self.layer(index)?.path.closed = true;
        Ok(())
    }

    /// Forgets a layer's path.
    pub(super) fn reset(&mut self, index: i32) -> Result<()> {
        self.layer(index)?.path = Path::default();
        Ok(())
    }

    /// Fills a layer's path. Says whether it could: lines and curves cannot be filled here.
    ///
    /// # Errors
    /// A buffer grows too large.
    pub(super) fn fill(&mut self, index: i32, colour: Pixel, mode: Mode) -> Result<bool> {
        self.close(index)?;
        let path = &self.layer(index)?.path;
        if path.other {
            return Ok(false);
        }
        for [x, y, width, height] in path.rectangles.clone() {
            self.fit(index, [x, y], width.into(), height.into())?;
            let raster = &mut self.layer(index)?.raster;
            let Some(area) = raster.clip(x, y, width.into(), height.into()) else { continue };
            for row in area.y..area.y + area.height {
                for here in raster.span_mut(area.x, row, area.width) {
                    *here = mode.blend(colour, *here);
                }
            }
        }
        Ok(true)
    }

    /// Puts a layer on another one.
    ///
    /// # Errors
    /// It would lie in itself, or absurdly deep.
    pub(super) fn place(&mut self, index: i32, parent: i32, [x, y, z]: [i32; 3]) -> Result<()> {
        // The parent is made by being used.
        self.layer(parent)?;
        let mut above = parent;
        for depth in 0.. {
            if above == index || depth == MAX_DEPTH {
                return Err(fault(format!("guacd puts layer {index} into itself or too deep")));
            }
            let Some(place) = self.layers.get(&above).and_then(|layer| layer.place) else { break };
            above = place.parent;
        }
        self.layer(index)?.place = Some(Place { parent, x, y, z });
        Ok(())
    }

    /// Makes a layer more or less opaque.
    pub(super) fn shade(&mut self, index: i32, opacity: u8) -> Result<()> {
        self.layer(index)?.opacity = opacity;
        Ok(())
    }

    /// Removes a layer; what lies on it is not shown any more. The desktop stays.
    pub(super) fn dispose(&mut self, index: i32) {
        if index == 0 {
            return;
        }
        if let Some(layer) = self.layers.remove(&index) {
            self.pixels -= layer.raster.count();
        }
        for layer in self.layers.values_mut() {
            layer.place = layer.place.filter(|place| place.parent != index);
        }
    }

    /// The desktop as it is seen: all visible layers on each other, on black.
    pub(super) fn flatten(&self) -> Vec<[u8; 3]> {
        let Some(desktop) = self.raster(0) else { return Vec::new() };
        let mut children: BTreeMap<i32, Vec<(i32, i32)>> = BTreeMap::new();
        for (&index, layer) in &self.layers {
            if let Some(place) = layer.place {
                children.entry(place.parent).or_default().push((place.z, index));
            }
        }
        children.values_mut().for_each(|list| list.sort_unstable());
        // As large as one that exists.
        let mut out = Raster::new(desktop.width(), desktop.height()).unwrap_or_default();
        let whole = Area { x: 0, y: 0, width: out.width(), height: out.height() };
        self.paint(&mut out, &children, 0, [0, 0], whole, 255);
        (0..out.height()).flat_map(|y| out.row(y)).map(|&pixel| on_black(pixel)).collect()
    }

    /// Paints a layer and what lies on it, within `bounds`: a layer does not reach beyond its parent.
    fn paint(
        &self,
        out: &mut Raster,
        children: &BTreeMap<i32, Vec<(i32, i32)>>,
        index: i32,
        [x, y]: [i32; 2],
        bounds: Area,
        opacity: u32,
    ) {
        let Some(layer) = self.layers.get(&index) else { return };
        let (width, height) = (layer.raster.width(), layer.raster.height());
        let area = out.clip(x, y, width.into(), height.into()).and_then(|area| area.within(bounds));
        let Some(area) = area else { return };
        let opacity = opacity * u32::from(layer.opacity) / 255;
        let [from_x, from_y] = [(i64::from(area.x) - i64::from(x)) as u32, (i64::from(area.y) - i64::from(y)) as u32];
        let part = layer.raster.part(Area { x: from_x, y: from_y, ..area });
        out.combine(&part, area.x as i32, area.y as i32, |[r, g, b, a], here| {
            Mode::OVER.blend([r, g, b, (u32::from(a) * opacity / 255) as u8], here)
        });
        for &(_, child) in children.get(&index).into_iter().flatten() {
            if let Some(place) = self.layers.get(&child).and_then(|layer| layer.place) {
                let at = [x.saturating_add(place.x), y.saturating_add(place.y)];
                self.paint(out, children, child, at, area, opacity);
            }
        }
    }
}

fn on_black(pixel: Pixel) -> [u8; 3] {
    let [r, g, b, _] = Mode::OVER.blend(pixel, [0, 0, 0, 255]);
    [r, g, b]
}

fn fault(message: String) -> Error {
    Error::new(Kind::Verification, message)
}
