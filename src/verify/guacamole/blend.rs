//! How a drawn pixel and the one that is there become one.

use super::raster::Pixel;

/// A composite mode (`guac_composite_mode` in libguac's protocol-types.h). Its number is made of four
/// bits: the source where the destination is transparent (8) or opaque (4), the destination where the
/// source is transparent (2) or opaque (1). That is Porter and Duff's calculus, so one formula does all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode(u8);

impl Mode {
    /// What was there shows through where the source is transparent.
    pub(super) const OVER: Self = Self(0xE);
    /// Only the source.
    #[cfg(test)]
    pub(super) const SRC: Self = Self(0xC);

    /// The mode with this number, none if there is none.
    pub(super) fn new(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|&number| number < 16).map(Self)
    }

    /// `source` drawn on `here`.
    pub(super) fn blend(self, source: Pixel, here: Pixel) -> Pixel {
        let [source_alpha, here_alpha] = [u32::from(source[3]), u32::from(here[3])];
        if self == Self::OVER && source_alpha == 255 {
            return source;
        }
        let bit = |bit: u8, value: u32| if self.0 & bit != 0 { value } else { 0 };
        let source_weight = source_alpha * (bit(8, 255 - here_alpha) + bit(4, here_alpha));
        let here_weight = here_alpha * (bit(2, 255 - source_alpha) + bit(1, source_alpha));
        // More than opaque there is only when both are added (PLUS).
        let alpha = (source_weight + here_weight).min(255 * 255);
        if alpha == 0 {
            return [0; 4];
        }
        let colour = |channel: usize| {
            let sum = u32::from(source[channel]) * source_weight + u32::from(here[channel]) * here_weight;
            ((sum + alpha / 2) / alpha).min(255) as u8
        };
        [colour(0), colour(1), colour(2), ((alpha + 127) / 255) as u8]
    }
}

/// A transfer function (`guac_transfer_function`): its four bits say what becomes of a bit that is in
/// neither (8), only in the destination (4), only in the source (2), or in both (1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer(u8);

impl Transfer {
    /// The function with this number, none if there is none.
    pub(super) fn new(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|&number| number < 16).map(Self)
    }

    /// `source` transferred to `here`. Alpha comes from the source for the two functions that are of
    /// the source alone (3, 12), and stays otherwise, as in Guacamole's own client.
    pub(super) fn transfer(self, source: Pixel, here: Pixel) -> Pixel {
        let channel = |index: usize| {
            let (source, here) = (source[index], here[index]);
            let bit = |bit: u8, value: u8| if self.0 & bit != 0 { value } else { 0 };
            bit(8, !source & !here) | bit(4, !source & here) | bit(2, source & !here) | bit(1, source & here)
        };
        let alpha = if matches!(self.0, 0x3 | 0xC) { source[3] } else { here[3] };
        [channel(0), channel(1), channel(2), alpha]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Pixel = [255, 0, 0, 255];
    const BLUE: Pixel = [0, 0, 255, 255];
    const HALF: Pixel = [255, 0, 0, 128];
    const NONE: Pixel = [0; 4];

    fn blend(number: i32, source: Pixel, here: Pixel) -> Pixel {
        Mode::new(number).unwrap().blend(source, here)
    }

    #[test]
    fn over_and_src_are_as_on_a_desktop() {
        assert_eq!(Mode::OVER.blend(RED, BLUE), RED);
        assert_eq!(Mode::OVER.blend(NONE, BLUE), BLUE);
        assert_eq!(Mode::OVER.blend(HALF, BLUE), [128, 0, 127, 255]);
        assert_eq!(Mode::OVER.blend(HALF, NONE), HALF);
        assert_eq!(Mode::SRC.blend(HALF, BLUE), HALF);
        assert_eq!(Mode::SRC.blend(NONE, BLUE), NONE);
    }

    #[test]
    fn what_guacd_clears_with_is_cleared() {
        // ROUT with opaque black before each picture, RATOP with transparent black in 1.6's buffers.
        assert_eq!(blend(0x2, [0, 0, 0, 255], BLUE), NONE);
        assert_eq!(blend(0x9, NONE, BLUE), NONE);
    }

    #[test]
    fn the_other_modes_follow_their_bits() {
        for (number, on_opaque, on_nothing, nothing_on) in [
            (0x1, BLUE, NONE, NONE),
            (0x4, RED, NONE, NONE),
            (0x6, RED, NONE, BLUE),
            (0x8, NONE, RED, NONE),
            (0xA, NONE, RED, BLUE),
            (0xB, BLUE, RED, BLUE),
            (0xF, [255, 0, 255, 255], RED, BLUE),
        ] {
            assert_eq!(blend(number, RED, BLUE), on_opaque, "{number:#x}");
            assert_eq!(blend(number, RED, NONE), on_nothing, "{number:#x}");
            assert_eq!(blend(number, NONE, BLUE), nothing_on, "{number:#x}");
        }
        assert_eq!(Mode::new(16), None);
        assert_eq!(Mode::new(-1), None);
    }

    #[test]
    fn transfer_functions_follow_their_bits() {
        let transfer = |number| Transfer::new(number).unwrap().transfer([0b1100, 1, 2, 9], [0b1010, 1, 2, 200]);
        for (number, red, alpha) in [
            (0x0, 0, 200),
            (0x1, 0b1000, 200),
            (0x3, 0b1100, 9),
            (0x5, 0b1010, 200),
            (0x6, 0b0110, 200),
            (0x7, 0b1110, 200),
            (0xA, !0b1010, 200),
            (0xC, !0b1100, 9),
            (0xF, 255, 200),
        ] {
            let [r, _, _, a] = transfer(number);
            assert_eq!((r, a), (red, alpha), "{number:#x}");
        }
        assert_eq!(Transfer::new(99), None);
    }
}
