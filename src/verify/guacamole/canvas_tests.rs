//! Drawing, instruction by instruction.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::Canvas;
use super::protocol::tests::instruction;
use super::raster::tests::{png_of, png_rgba};
use crate::error::Result;

const BLACK: [u8; 3] = [0; 3];
const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];

/// Draws lines of `opcode argument argument...`.
fn draw(canvas: &mut Canvas, lines: &str) -> Result<()> {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        canvas.apply(&instruction(words[0], &words[1..]))?;
    }
    Ok(())
}

fn drawn(lines: &str) -> Canvas {
    let mut canvas = Canvas::default();
    draw(&mut canvas, lines).unwrap();
    canvas
}

fn fault(lines: &str) -> String {
    draw(&mut Canvas::default(), lines).unwrap_err().chain().join(": ")
}

/// The picture as letters: a row a word.
fn seen(canvas: &Canvas) -> String {
    let letter = |pixel| match pixel {
        BLACK => '.',
        RED => 'r',
        GREEN => 'g',
        BLUE => 'b',
        _ => '?',
    };
    let row = |y| (0..canvas.width()).map(|x| letter(canvas.pixel(x, y))).collect::<String>();
    (0..canvas.height()).map(row).collect::<Vec<_>>().join(" ")
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[test]
fn rectangles_are_filled_and_clipped() {
    let canvas = drawn(
        "size 0 4 3
         rect 0 0 0 4 3
         cfill 14 0 0 0 255 255
         rect 0 1 1 2 9
         rect 0 -5 -5 6 6
         cfill 14 0 255 0 0 255",
    );
    assert_eq!(seen(&canvas), "rbbb brrb brrb");
    assert_eq!((canvas.width(), canvas.height(), canvas.colours()), (4, 3, 2));
    assert_eq!(canvas.commonest(), 7.0 / 12.0);
    assert_eq!(canvas.pixel(4, 0), BLACK);
    assert_eq!(canvas.pixel(0, 3), BLACK);
}

#[test]
fn a_path_can_be_filled_again_but_not_extended() {
    let canvas = drawn(
        "size 0 3 1
         rect 0 0 0 1 1
         cfill 14 0 255 0 0 255
         cfill 14 0 0 255 0 255
         rect 0 2 0 1 1
         cfill 14 0 0 0 255 255",
    );
    assert_eq!(seen(&canvas), "g.b");
}

#[test]
fn lines_are_left_out_and_counted() {
    let canvas = drawn(
        "size 0 2 1
         start 0 0 0
         line 0 1 1
         close 0
         cfill 14 0 255 0 0 255
         cstroke 14 0 0 0 1 255 0 0 255
         rect 0 0 0 1 1
         cfill 14 0 0 255 0 255",
    );
    assert_eq!((seen(&canvas).as_str(), canvas.undrawn()), ("g.", 2));
}

#[test]
fn streamed_and_inline_pictures_are_drawn() {
    let opaque = png_of((2, 1), png::ColorType::Rgb, png::BitDepth::Eight, None, &[255, 0, 0, 0, 255, 0]);
    let clear = base64(&png_rgba(2, 1, &[[0, 0, 255, 255], [9, 9, 9, 0]]));
    let (first, second) = opaque.split_at(20);
    let canvas = drawn(&format!(
        "size 0 3 2
         img 1 14 0 image/png 1 0
         blob 1 {}
         blob 1 {}
         end 1
         png 14 0 0 1 {clear}
         img 3 14 0 image/jpeg 0 0
         blob 3 AAAA
         end 3",
        base64(first),
        base64(second)
    ));
    assert_eq!((seen(&canvas).as_str(), canvas.undrawn()), (".rg b..", 1));
    assert_eq!(
        fault("size 0 1 1\npng 14 0 0 0 AAAA").split(": ").next(),
        Some("guacd sent a picture that is not a PNG")
    );
    assert_eq!(fault(&format!("png 16 0 0 0 {clear}")), "guacd sent a malformed `png`: there is no composite mode 16");
}

#[test]
fn copies_scroll_and_buffers_grow() {
    let canvas = drawn(
        "size 0 4 1
         rect 0 0 0 1 1
         cfill 14 0 255 0 0 255
         rect 0 1 0 1 1
         cfill 14 0 0 255 0 255
         copy 0 0 0 3 1 12 0 1 0
         rect -1 1 0 2 1
         cfill 12 -1 0 0 255 255
         copy -1 0 0 9 9 14 0 2 0
         copy -7 0 0 1 1 14 0 0 0
         copy 0 -1 0 2 1 14 0 1 0",
    );
    // Red, red, green before the last; the buffer's first pixel is transparent; a source that begins left of the layer
    // is drawn where its visible part belongs.
    assert_eq!(seen(&canvas), "rrrb");
}

#[test]
fn transfers_combine_bits() {
    let canvas = drawn(
        "size 0 3 1
         rect 0 0 0 2 1
         cfill 14 0 255 0 255 255
         rect -1 0 0 2 1
         cfill 14 -1 255 255 0 255
         transfer -1 0 0 1 1 3 0 2 0
         transfer -1 0 0 1 1 6 0 0 0
         transfer -1 0 0 1 1 1 0 1 0",
    );
    assert_eq!([0, 1, 2].map(|x| canvas.pixel(x, 0)), [[0, 255, 255], RED, [255, 255, 0]]);
    assert!(fault("transfer -1 0 0 1 1 16 0 0 0").ends_with("there is no transfer function 16"));
}

#[test]
fn a_transparent_buffer_is_refreshed_as_guacd_does_it() {
    let canvas = drawn(
        "size 0 1 1
         rect -1 0 0 1 1
         cfill 14 -1 255 0 0 255
         rect -1 0 0 1 1
         cfill 2 -1 0 0 0 255
         copy -1 0 0 1 1 14 0 0 0",
    );
    assert_eq!(seen(&canvas), ".");
}

const LAYERS: &str = "size 0 3 1
     rect 0 0 0 3 1
     cfill 14 0 255 0 0 255
     size 1 2 1
     rect 1 0 0 2 1
     cfill 14 1 0 255 0 255
     move 1 0 1 0 5
     size 2 2 1
     rect 2 0 0 2 1
     cfill 14 2 0 0 255 255
     move 2 1 1 0 0
     size 3 1 1
     rect 3 0 0 1 1
     cfill 14 3 0 0 255 255
     move 3 0 1 0 4";

#[test]
fn layers_lie_on_each_other() {
    // The second lies on the first and does not reach beyond it; the third lies below the first.
    assert_eq!(seen(&drawn(LAYERS)), "rgb");
    assert_eq!(seen(&drawn(&format!("{LAYERS}\nmove 3 0 1 0 6"))), "rbb");
    assert_eq!(seen(&drawn(&format!("{LAYERS}\nmove 1 0 -1 0 5"))), "bbr");
    assert_eq!(seen(&drawn(&format!("{LAYERS}\ndispose 1"))), "rbr");
    assert_eq!(seen(&drawn(&format!("{LAYERS}\nshade 1 0"))), "rbr");
    assert_eq!(drawn(&format!("{LAYERS}\nshade 1 128")).pixel(1, 0), [0, 128, 127]);
    // Nothing of a removed layer comes back with its number.
    assert_eq!(seen(&drawn(&format!("{LAYERS}\ndispose 1\nsize 1 1 1"))), "rbr");
}

#[test]
fn a_change_after_looking_is_seen() {
    let mut canvas = drawn("size 0 2 1");
    assert_eq!((canvas.colours(), canvas.commonest()), (1, 1.0));
    draw(&mut canvas, "rect 0 0 0 1 1\ncfill 14 0 255 0 0 255").unwrap();
    assert_eq!((canvas.colours(), canvas.commonest(), seen(&canvas).as_str()), (2, 0.5, "r."));
    draw(&mut canvas, "size 0 1 1").unwrap();
    assert_eq!(seen(&canvas), "r");
}

#[test]
fn nothing_is_no_picture() {
    let canvas = Canvas::default();
    assert_eq!((canvas.width(), canvas.colours(), canvas.commonest()), (0, 0, 1.0));
    assert!(canvas.png().is_err());
    assert_eq!(format!("{canvas:?}"), "Canvas { size: [0, 0], frames: 0, .. }");
}

#[test]
fn memory_is_bounded() {
    assert_eq!(fault("size 0 9000 1"), "guacd draws a picture of 9000x1 pixels, which is too large");
    assert_eq!(fault("size 0 8192 4096\nsize -1 1 1"), "guacd uses layers of more than 33554432 pixels together");
    assert!(draw(&mut drawn("size 0 8192 4096\nsize 0 1 1\nsize -1 1 1\ndispose -1"), "size -2 4096 4096").is_ok());
    assert!(fault("rect -1 2147483647 0 2147483647 1\ncfill 14 -1 0 0 0 255").ends_with("too large"));
    let many: String = (0..9000).map(|index| format!("size -{index} 0 0\n")).collect();
    assert_eq!(fault(&many), "guacd uses more than 8192 layers");
    let path = "rect 0 0 0 1 1\n".repeat(1025);
    assert_eq!(fault(&path), "guacd draws a path of more than 1024 rectangles");
    assert_eq!(fault("move 1 2 0 0 0\nmove 2 1 0 0 0"), "guacd puts layer 2 into itself or too deep");
    let deep: String = (2..50).map(|index| format!("move {index} {} 0 0 0\n", index - 1)).collect();
    assert!(fault(&deep).ends_with("into itself or too deep"));
}

#[test]
fn malformed_instructions_are_errors_and_unknown_ones_are_not() {
    for line in ["size 0 1", "copy 1", "cfill 14 0 0 0 256 255", "shade 1 -1", "img 1 14", "rect a b c d e", "dispose"]
    {
        let opcode = line.split(' ').next().unwrap();
        assert!(fault(line).starts_with(&format!("guacd sent a malformed `{opcode}`: argument")), "{line}");
    }
    assert_eq!(seen(&drawn("size 0 1 1\ncursor 0 0 -1 0 0 1 1\nmouse 1 1\nnew-in-2.0 x\nsize 0 -1 5")), " ".repeat(4));
}

#[test]
fn numbers_at_the_edge_draw_nothing() {
    let [low, high] = [i32::MIN, i32::MAX];
    let canvas = drawn(&format!(
        "size 0 2 1
         rect 0 {low} {low} {high} {high}
         cfill 14 0 255 0 0 255
         copy 0 {low} {low} {high} {high} 14 0 {high} {high}
         copy 0 {high} {high} {high} {high} 14 0 0 0
         copy 0 0 0 {high} {high} 14 0 {low} {low}
         transfer 0 {low} 0 {high} 1 3 0 0 0
         move 1 0 {low} {high} {low}
         move 2 1 {low} {high} {low}"
    ));
    assert_eq!(seen(&canvas), "..");
}

const OPCODES: &[&str] = &[
    "size", "img", "blob", "end", "png", "copy", "transfer", "rect", "cfill", "line", "close", "reset", "move",
    "shade", "dispose", "sync",
];
const NUMBERS: &[&str] = &["0", "1", "2", "3", "-1", "-2", "5", "14", "12", "255", "-2147483648", "2147483647"];

proptest! {
    #[test]
    fn no_instructions_make_it_panic(
        list in prop::collection::vec(
            (prop::sample::select(OPCODES), prop::collection::vec(prop::sample::select(NUMBERS), 9)),
            0..60,
        ),
    ) {
        let mut canvas = drawn("size 0 5 5");
        for (opcode, arguments) in &list {
            // What it refuses must not keep it from going on.
            let _ = canvas.apply(&instruction(opcode, arguments));
        }
        prop_assert_eq!(canvas.png().is_ok(), canvas.width() * canvas.height() > 0);
    }
}
