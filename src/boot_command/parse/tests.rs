//! Packer's language, and what is beyond it.

use proptest::prelude::*;

use super::super::command::{BootCommand, Region, Until};
use super::super::{ScreenWait, Step};
use super::*;

/// The command in its canonical spelling.
fn parsed(text: &str) -> String {
    BootCommand::parse(&[text]).unwrap().to_string()
}

/// Each fault with its hint.
fn faults(strings: &[&str]) -> Vec<String> {
    let faults = BootCommand::parse(strings).unwrap_err();
    faults.iter().map(|fault| format!("{fault}; {}", fault.hint.as_deref().unwrap_or("-"))).collect()
}

#[test]
fn waits() {
    for (text, canonical) in [
        ("<wait>", "<wait1s>"),
        ("<wait5>", "<wait5s>"),
        ("<wait10>", "<wait10s>"),
        ("<wait1m30s>", "<wait1m30s>"),
        ("<wait90s>", "<wait1m30s>"),
        ("<wait300ms>", "<wait300ms>"),
        ("<wait1.5h>", "<wait1h30m>"),
    ] {
        assert_eq!(parsed(text), canonical);
    }
}

#[test]
fn names_of_special_keys_are_in_any_case_and_waits_in_one() {
    assert_eq!(parsed("<ENTER><Return><eSc><PAGEUP><f12>"), "<enter><enter><esc><pageUp><f12>");
    assert_eq!(parsed("<leftCtrlON>c<LEFTCTRLoff>"), "<leftCtrlOn>c<leftCtrlOff>");
    assert_eq!(parsed("<leftOption><leftOptionOn><rightCommandOff>"), "<leftOption><leftOptionOn><rightAltOff>");
    let [fault] = &faults(&["<Wait5>"])[..] else { panic!() };
    assert!(fault.starts_with("`boot_command[0]`, column 1: there is no key `<Wait5>`; did you mean `<wait>`?"));
}

#[test]
fn any_character_can_be_held() {
    assert_eq!(parsed("<aOn><aOff><AON><1oFF>"), "<aOn><aOff><AOn><1Off>");
    assert_eq!(parsed("<<On><>Off>"), "<lessOn><>Off>");
    assert_eq!(parsed("< On><spacebarOff>"), "<spacebarOn><spacebarOff>");
    assert_eq!(
        faults(&["<éOn>"]),
        ["`boot_command[0]`, column 1: no key types 'é'; the VNC server sees a US keyboard"]
    );
}

#[test]
fn text_is_typed() {
    assert_eq!(parsed("a B<spacebar>c"), "a B c");
    // Brackets that name nothing are characters, as in Packer.
    for text in ["a < b > c", "<", "<>", "</tag>", "2<3", "cat <file", "<a b>", "<<", "<5>", "< wait>", "a<bs"] {
        assert_eq!(parsed(&format!("{text} ")), format!("{text} ").replace('<', "<less>"));
    }
    assert_eq!(parsed("<less>enter>"), "<less>enter>");
    assert_eq!(parsed("a{b}}"), "a<braceleft>b}}");
    assert_eq!(parsed("<braceleft><braceleft> .Name }}"), "<braceleft><braceleft> .Name }}");
}

#[test]
fn strings_are_joined_and_remain_groups() {
    let command = BootCommand::parse(&["a", "", "<en", "ter>b"]).unwrap();
    assert_eq!(command.to_strings(), ["a", "", "<enter>", "b"]);
    assert_eq!(command.groups().len(), 4);
    assert_eq!(BootCommand::parse::<&str>(&[]).unwrap(), BootCommand::default());
}

#[test]
fn variables_are_found() {
    assert_eq!(
        parsed("{{.HTTPIP}}:{{ .HTTPPort }} {{ .Name | urlquery }}"),
        "{{ .HTTPIP }}:{{ .HTTPPort }} {{ .Name | urlquery }}"
    );
}

#[test]
fn all_faults_are_told_with_their_places() {
    assert_eq!(
        faults(&["a<entr>", "<leftShftOn>x\n", "<wait0><wait5x>{{ .HttpIp }}", "{{ .Name | upper }}<foobar>{{"]),
        [
            "`boot_command[0]`, column 2: there is no key `<entr>`; did you mean `<enter>`? for the text itself write \
             `<less>entr>`",
            "`boot_command[1]`, column 1: there is no key `<leftShftOn>`; did you mean `<leftShiftOn>`? for the text \
             itself write `<less>leftShftOn>`",
            "`boot_command[1]`, column 14: no key types '\\n'; write `<enter>` for the key; in YAML, `>-` and `|-` \
             leave out the last line break",
            "`boot_command[2]`, column 1: `0` in `<wait0>` is no time at all; -",
            "`boot_command[2]`, column 8: `5x` in `<wait5x>` is not a duration such as 5, 300ms or 1m30s; -",
            "`boot_command[2]`, column 16: `{{ .HttpIp }}` is not known in a boot command; did you mean `.HTTPIP`?",
            "`boot_command[3]`, column 1: `upper` is not known in a boot command; the one filter here is `urlquery`",
            "`boot_command[3]`, column 20: there is no key `<foobar>`; for the text itself write `<less>foobar>`",
            "`boot_command[3]`, column 28: `{{` has no `}}`; write `<braceleft>` for the character `{`",
        ]
    );
}

#[test]
fn a_key_that_is_not_closed_is_a_fault() {
    let fault = "`boot_command[0]`, column 1: `<enter` has no `>`; write `<enter>`, or `<less>enter` for the text";
    assert_eq!(faults(&["<enter"]), [fault]);
    assert_eq!(faults(&["<enter", "x"]), [fault]);
    assert_eq!(faults(&["<enter<wait>"]), [fault]);
    assert_eq!(faults(&["<wait5<esc>"]).len(), 1);
    assert_eq!(faults(&[&"é".repeat(500)]).len(), MOST_FAULTS);
}

fn screen(text: &str) -> ScreenWait {
    let command = BootCommand::parse(&[text]).unwrap();
    let [Step::WaitForScreen(wait)] = &command.groups()[0][..] else { panic!("{command:?}") };
    wait.clone()
}

#[test]
fn waits_for_the_screen() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let wait = screen("<waitForScreen stable 5s>");
    assert_eq!(wait, ScreenWait { until: Until::Stable(Duration::from_secs(5)), timeout: minutes(5) });
    let wait = screen("<waitForScreen image menu.png [0, 16,640,32] 60s>");
    let region = Some(Region { x: 0, y: 16, width: 640, height: 32 });
    assert_eq!(wait, ScreenWait { until: Until::Image { file: "menu.png".to_owned(), region }, timeout: minutes(1) });
    let wait = screen("<waitForScreen  text \"a \\\"b\\\" \\\\ > <c\"[1,2,3,4]1m >");
    let region = Some(Region { x: 1, y: 2, width: 3, height: 4 });
    assert_eq!(
        wait,
        ScreenWait { until: Until::Text { text: "a \"b\" \\ > <c".to_owned(), region }, timeout: minutes(1) }
    );
    assert_eq!(screen("<waitForScreen stable 10m>").timeout, duration::LONGEST);
    assert_eq!(
        BootCommand::parse(&["<waitForScreen text \"log", "in:\">x"]).unwrap().to_strings(),
        ["<waitForScreen text \"login:\" 5m>", "x"]
    );
}

#[test]
fn faults_of_screen_waits() {
    let forms = "write `stable 5s`, `image FILE.png [x,y,width,height] 60s` or `text \"login:\" 60s`";
    let fault = |text: &str| {
        let mut faults = faults(&[text]);
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        faults.remove(0).split_off("`boot_command[0]`, column 1: ".len())
    };
    for (text, wrong) in [
        ("<waitForScreen>", format!("`<waitForScreen>` does not say for what; {forms}")),
        ("<waitForScreen stabel 5s>", "`stabel` is nothing to wait for on a screen; did you mean `stable`?".to_owned()),
        ("<waitForScreen stable>", format!("`stable` of `<waitForScreen>` has nothing behind it; {forms}")),
        ("<waitforscreen stable 5s>", "there is no key `<waitforscreen>`; did you mean `<waitForScreen>`?".to_owned()),
        (
            "<waitForScreen stable 5s 5s>",
            "`<waitForScreen>` gives up before the screen could have been stable; -".to_owned(),
        ),
        (
            "<waitForScreen image a.png [1,2,0,4]>",
            "`[1,2,0,4]` is not a region; write `[x,y,width,height]` in pixels".to_owned(),
        ),
        (
            "<waitForScreen text log in: 5s>",
            "`<waitForScreen>` has more than one time limit; put quotes round a text".to_owned(),
        ),
        ("<waitForScreen text \"--\">", format!("the text \"--\" has no letter and no digit to find it by; {forms}")),
        (
            "<waitForScreen text login: [1,2,3,4] [1,2,3,4]>",
            "a region in `<waitForScreen>` comes behind the image or text, once; -".to_owned(),
        ),
        ("<waitForScreen text a<b>", "`<` must be in quotes here; -".to_owned()),
        ("<waitForScreen text \"a>", "`<waitForScreen` has no `>`; a quoted text ends with its second `\"`".to_owned()),
    ] {
        let found = BootCommand::parse(&[text]).unwrap_err();
        let first = format!("{}; {}", found[0].message, found[0].hint.as_deref().unwrap_or("-"));
        assert_eq!(first, wrong, "{text}");
        if !text.contains("\"a>") {
            fault(text);
        }
    }
}

/// Texts that are likely to mean something.
fn text() -> impl Strategy<Value = String> {
    let parts = [
        "<",
        ">",
        "<wait",
        "wait",
        "5",
        "s",
        "1m",
        "On>",
        "Off>",
        "enter",
        "<enter>",
        "leftShift",
        "{{",
        "}}",
        ".Name",
        "|",
        "urlquery",
        "<waitForScreen ",
        "text ",
        "image ",
        "stable ",
        "\"",
        "\\",
        "[",
        "]",
        "1,2,3,4",
        " ",
        "a",
        "é",
        "\n",
        "<less>",
        "On",
        "99999999999999999999",
        ".",
    ];
    prop::collection::vec(
        prop_oneof![4 => prop::sample::select(parts.to_vec()).prop_map(str::to_owned), 1 => ".{0,4}"],
        0..24,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn never_panics_and_round_trips(strings in prop::collection::vec(text(), 0..4)) {
        let length: usize = strings.iter().map(|string| string.chars().count()).sum();
        match BootCommand::parse(&strings) {
            Ok(command) => {
                prop_assert!(command.steps().count() <= length);
                prop_assert_eq!(command.groups().len(), strings.len());
                prop_assert_eq!(BootCommand::parse(&command.to_strings()), Ok(command));
            }
            Err(faults) => {
                prop_assert!(!faults.is_empty() && faults.len() <= MOST_FAULTS);
                for fault in faults {
                    prop_assert!(fault.column >= 1 && fault.column <= strings[fault.string].chars().count());
                }
            }
        }
    }

    #[test]
    fn printable_text_is_typed_as_it_is(text in "[ -;=-z|}~]{0,40}") {
        prop_assert_eq!(parsed(&text), text);
    }
}
