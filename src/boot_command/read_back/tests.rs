use proptest::prelude::*;

use super::super::console::Console;
use super::*;

/// A line that was typed at a prompt of a console, of which `shown` came.
struct Typed {
    line: Line,
    after: Screen,
}

fn console() -> Console {
    Console::new((9, 16), (0, 0), (80, 25))
}

fn typed(mut console: Console, text: &str, shown: &str) -> Typed {
    let before = console.screen();
    console.print(shown);
    let line = Line { before, text: text.chars().collect(), began: Some(true) };
    Typed { line, after: console.screen() }
}

fn read(text: &str, shown: &str) -> Reading {
    let mut console = console();
    console.print("boot: ");
    let typed = typed(console, text, shown);
    typed.line.read(&typed.after)
}

fn wrong(text: &str, shown: &str) -> (usize, usize, String) {
    match read(text, shown) {
        Reading::Differs(wrong) => (wrong.right, wrong.cells, wrong.shows),
        other => panic!("{text:?} shown as {shown:?}: {other:?}"),
    }
}

fn is_shown(reading: &Reading) -> bool {
    matches!(reading, Reading::Shown(_))
}

#[test]
fn what_was_typed_is_seen() {
    for text in
        ["linux /vmlinuz root=/dev/vda1", "root", " auto=true  url=http://10.0.2.2:80/ ", "a-_", "------", "ab__"]
    {
        let reading = read(text, text);
        assert_eq!(is_shown(&reading), text.trim().len() >= SHORTEST, "{text:?}: {reading:?}");
    }
}

#[test]
fn a_line_that_the_guest_breaks_before_its_end_is_not_wrong() {
    let text = "auto url=http://10.0.2.2:46441/preseed.cfg hostname=beamline domain=example.org priority=critical";
    let broken = text.replace("org priority", "org\npriority");
    assert_eq!(read(text, &broken), Reading::Unknown);
    assert_eq!(wrong(text, &text.replace("critical", "critcal")).0, 93);
}

#[test]
fn lost_and_doubled_keys_are_certain() {
    assert_eq!(wrong("linux /vmlinuz", "linux /vmlnuz"), (10, 13, "linux /vmlnuz".to_owned()));
    assert_eq!(wrong("linux /vmlinuz", "linux //vmlinuz"), (7, 15, "linux //vmlinuz".to_owned()));
    assert_eq!(wrong("linux /vmlinuz", "linux /vmliiiiiinuz").1, 19);
    let (text, came) = ("linux /vmlinuz root=/dev/vda1 quiet", "linux /vmlinuz root=/de");
    assert_eq!(wrong(text, came), (23, 23, came.to_owned()));
    assert_eq!(wrong("linux /vmlinuz", "linux /vmlinuzz").1, 15);
    assert_eq!(wrong("hello there world again", "helo there world  again").1, 23);
}

#[test]
fn the_guests_own_ways_are_not_told_from_mistakes() {
    // A menu or an editor takes the first key; a password; a field that scrolls; capitals; a double echo.
    for (text, shown) in [
        ("clinux /vmlinuz root=/dev/vda1", "linux /vmlinuz root=/dev/vda1"),
        ("secret-password", "***************"),
        ("aaaaaa12", "********"),
        ("root", "rot"),
        ("aa1bb2cc", "****"),
        ("http://10.0.2.2:8000/preseed.cfg", "2:8000/preseed.cfg"),
        ("http://10.0.2.2:8000/preseed.cfg", "ttp://10.0.2.2:8000/preseed.cfg"),
        ("in Auto=true auto=true", "IN AUTO=TRUE AUTO=TRUE"),
        ("abcdef", "aabbccddeeff"),
        ("12312020", "12/31/2020"),
        ("hello world", ""),
        ("hello world", "Login incorrect"),
        ("install", "Busy."),
        ("linux /vmlinuz", "linux /vm"),
        ("root=/dev/sda", "rÃ¶Ã¶t=/dev/sda"),
    ] {
        assert_eq!(read(text, shown), Reading::Unknown, "{text:?} shown as {shown:?}");
    }
    // A cursor is no letter.
    assert_eq!(wrong("the quick brown fox", "the quick brown fo"), (18, 18, "the quick brown fo".to_owned()));
    // Something behind it: a completion, a clock.
    assert!(is_shown(&read("linux /vml", "linux /vmlinuz-6.1")));
}

#[test]
fn a_first_key_of_which_nothing_was_seen_is_lost() {
    let mut typed = typed(console(), "hello world", "ello world");
    assert_eq!(typed.line.read(&typed.after), Reading::Unknown);
    typed.line.began = Some(false);
    let Reading::Differs(wrong) = typed.line.read(&typed.after) else { panic!("it is certain") };
    assert_eq!((wrong.right, wrong.cells, wrong.shows.as_str()), (0, 10, "?llo world"));
}

#[test]
fn lines_break_and_screens_scroll() {
    let text = "auto=true priority=critical DEBIAN_FRONTEND=text locale=C keymap=us interface=auto hostname=typed url=http://10.0.2.2:1234/preseed.cfg";
    for lines in [0, 10, 24] {
        let start = || {
            let mut console = console();
            (0..lines).for_each(|line| console.print(&format!("line {line} of the screen\n")));
            console.print("> /linux initrd=/initrd.gz ");
            console
        };
        let whole = typed(start(), text, text);
        assert!(is_shown(&whole.line.read(&whole.after)), "{lines}");
        let broken = typed(start(), text, &text.replace("locale", "lcale"));
        let Reading::Differs(wrong) = broken.line.read(&broken.after) else { panic!("{lines}") };
        assert_eq!((wrong.cells, wrong.shows.len()), (text.len() - 1, text.len() - 1));
        assert_eq!(wrong.place.drawn(&broken.line.before, &broken.after, 300), text.len() - 1);
    }
}

#[test]
fn an_editor_that_marks_broken_lines_is_not_told_from_mistakes() {
    let text =
        "auto=true priority=critical DEBIAN_FRONTEND=text locale=C keymap=us interface=auto url=http://10.0.2.2/pre";
    let broken = |text: &str| format!("{}\\{}", &text[..73], &text[73..]);
    for start in [0, 20] {
        let mut console = console();
        console.print(&"\n".repeat(start));
        console.print("boot: ");
        let whole = typed(console, text, &broken(text));
        assert_eq!(whole.line.read(&whole.after), Reading::Unknown);
    }
    assert_eq!(read(text, &broken(text)[..80]), Reading::Unknown);
}

#[test]
fn a_line_begins_where_its_first_character_was_drawn() {
    let at = |text: &str, shown: &str| {
        let mut console = console();
        console.print("boot: ");
        let typed = typed(console, text, shown);
        typed.line.begins(&typed.after).map(|place| (place.line, place.column))
    };
    assert_eq!(at("a", "a"), Some((0, 6)));
    for (text, shown) in [("a", ""), (" ", " "), ("ab", "ab"), ("a", "all"), ("a", "a\nb")] {
        assert_eq!(at(text, shown), None, "{text:?} shown as {shown:?}");
    }
}

#[test]
fn text_that_was_drawn_late_is_no_part_of_the_line() {
    let late = typed(console(), "auto=true priority=high", "> /linux initrd=/initrd.gz auto=true priority=high");
    assert!(is_shown(&late.line.read(&late.after)));
    let short = typed(console(), "auto=true priority=high", "> /linux initrd=/initrd.gz auto=true prority=high");
    let Reading::Differs(wrong) = short.line.read(&short.after) else { panic!("it is certain") };
    assert_eq!(wrong.cells, 22);
}

#[test]
fn erased_cells_are_counted() {
    let mut console = console();
    console.print("boot: ");
    let before = console.screen();
    console.print("linux /vmlnuz");
    let line = Line { before, text: "linux /vmlinuz".chars().collect(), began: None };
    let Reading::Differs(wrong) = line.read(&console.screen()) else { panic!("it is certain") };
    for left in (0..wrong.cells).rev() {
        console.print("\u{8}");
        console.cursor = left % 2 == 0;
        let drawn = wrong.place.drawn(&line.before, &console.screen(), 20);
        assert_eq!(drawn, left);
    }
    console.print("linux /vmlinuz");
    assert_eq!(line.read(&console.screen()), Reading::Shown(wrong.place));
}

fn keys() -> impl Strategy<Value = Vec<char>> {
    prop::collection::vec(prop::sample::select((' '..='~').collect::<Vec<_>>()), 4..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is typed at whatever console is never taken for a mistake.
    #[test]
    fn a_line_that_came_is_never_wrong(text in keys(), prompt in 0..30_usize, cell in 0..3_usize, cursor: bool) {
        let (cell, origin) = [((9, 16), (0, 0)), ((8, 16), (0, 0)), ((8, 19), (4, 11))][cell];
        let mut console = Console::new(cell, origin, (80, 25));
        console.print(&"#".repeat(prompt));
        console.cursor = cursor;
        let before = console.screen();
        console.print(&text.iter().collect::<String>());
        for cursor in [true, false] {
            console.cursor = cursor;
            let line = Line { before: before.clone(), text: text.clone(), began: Some(true) };
            let reading = line.read(&console.screen());
            prop_assert!(!matches!(reading, Reading::Differs(_)), "{:?}", reading);
            if cell == (9, 16) && text.iter().filter(|c| **c != ' ').count() >= SHORTEST {
                prop_assert!(is_shown(&reading));
            }
        }
    }

    /// A key that is lost in the middle of a line is never overlooked in a text mode.
    #[test]
    fn a_lost_key_is_never_taken_for_a_whole_line(text in keys(), place in 1..100_usize) {
        prop_assume!(place + 1 < text.len() && text[text.len() - 1] != ' ' && text[0] != ' ');
        let mut console = console();
        let before = console.screen();
        let mut shown = text.clone();
        shown.remove(place);
        console.cursor = false;
        console.print(&shown.iter().collect::<String>());
        let line = Line { before, text, began: Some(true) };
        let reading = line.read(&console.screen());
        prop_assert!(!is_shown(&reading), "{:?}", reading);
    }
}
