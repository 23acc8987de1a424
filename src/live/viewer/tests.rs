use proptest::prelude::*;

use super::*;

const GREETING: &[u8] = b"RFB 003.008\n\x01\0";

fn greeted() -> Viewer {
    let (mut viewer, first) = Viewer::new();
    assert_eq!(first, VERSION);
    let step = viewer.take(GREETING, false).unwrap();
    assert_eq!(step, Step { to_machine: vec![1], to_page: vec![1, 1, 0, 0, 0, 0] }, "shared, although it said 0");
    viewer
}

fn key(down: u8, keysym: u8) -> Vec<u8> {
    vec![kind::KEY, down, 0, 0, 0, 0, 0, keysym]
}

fn qemu_key(down: u8, keysym: u8) -> Vec<u8> {
    vec![kind::QEMU, 0, 0, down, 0, 0, 0, keysym, 0, 0, 0, 30]
}

fn pointer(buttons: u8) -> Vec<u8> {
    vec![kind::POINTER, buttons, 0, 5, 0, 6]
}

fn text(text: &[u8]) -> Vec<u8> {
    let mut message = vec![kind::CUT_TEXT, 0, 0, 0];
    message.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    message.extend(text);
    message
}

fn encodings(encodings: &[i32]) -> Vec<u8> {
    let mut message = vec![kind::SET_ENCODINGS, 0];
    message.extend(u16::try_from(encodings.len()).unwrap().to_be_bytes());
    message.extend(encodings.iter().flat_map(|encoding| encoding.to_be_bytes()));
    message
}

fn request() -> Vec<u8> {
    vec![kind::UPDATE_REQUEST, 1, 0, 0, 0, 0, 2, 0x80, 1, 0x90]
}

#[test]
fn who_looks_asks_for_pictures_and_types_nothing() {
    let mut viewer = greeted();
    let format = [[kind::SET_PIXEL_FORMAT].as_slice(), &[7; 19]].concat();
    for input in [key(1, 97), qemu_key(1, 97), pointer(1), text(b"rm -rf /")] {
        let said = [format.clone(), input, request()].concat();
        assert_eq!(viewer.take(&said, false).unwrap().to_machine, [format.clone(), request()].concat());
    }
    assert!(viewer.let_go().is_empty());
}

#[test]
fn who_has_taken_over_types_and_lets_go_at_the_end() {
    let mut viewer = greeted();
    let said = [key(1, 1), key(1, 2), key(0, 1), qemu_key(1, 3), pointer(4), text(b"x"), key(1, 2)].concat();
    assert_eq!(viewer.take(&said, true).unwrap().to_machine, said);
    assert_eq!(viewer.let_go(), [key(0, 2), qemu_key(0, 3), pointer(0)].concat());
    assert!(viewer.let_go().is_empty());
    viewer.take(&[pointer(1), pointer(0)].concat(), true).unwrap();
    assert!(viewer.let_go().is_empty());
}

#[test]
fn a_key_that_comes_in_two_pieces_counts_when_it_is_whole() {
    let mut viewer = greeted();
    let (first, second) = (&key(1, 97)[..5], &key(1, 97)[5..]);
    assert_eq!(viewer.take(first, true).unwrap(), Step::default());
    assert_eq!(viewer.take(second, false).unwrap(), Step::default());
}

#[test]
fn extensions_that_would_bring_other_messages_are_not_asked_for() {
    // As noVNC 1.7 asks; of these xvp, fences, continuous updates, clipboard and more buttons are not for here.
    let asked = [1, 7, -260, 16, 21, 5, 2, 6, 0, -26, -254, -223, -224, -258, -261, -308, -309, -312, -313, -307];
    let asked = encodings(&[&asked[..], &[-1_063_921_202, -316, 0x574d_5664, -239]].concat());
    let kept = [1, 7, -260, 16, 21, 5, 2, 6, 0, -26, -254, -223, -224, -258, -261, -308, -307, 0x574d_5664, -239];
    assert_eq!(greeted().take(&asked, false).unwrap().to_machine, encodings(&kept));
}

#[test]
fn what_is_not_known_ends_the_connection() {
    let mut long = vec![kind::CUT_TEXT, 0, 0, 0];
    long.extend(i32::to_be_bytes(-20));
    for (said, why) in [
        (&[150, 1, 0, 0][..], Refused::Message),
        (&[248], Refused::Message),
        (&[251], Refused::Message),
        (&[kind::QEMU, 1], Refused::Message),
        (&long, Refused::Text),
    ] {
        assert_eq!(greeted().take(said, true), Err(why), "{said:?}");
    }
    for said in [&b"RFB 003.003\n"[..], b"RFB 003.008\n\x02", b"GET / HTTP/1"] {
        assert_eq!(Viewer::new().0.take(said, true), Err(Refused::Greeting));
    }
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<[u8; 19]>().prop_map(|rest| [&[kind::SET_PIXEL_FORMAT][..], &rest].concat()),
        proptest::collection::vec(any::<i32>(), 0..9).prop_map(|list| encodings(&list)),
        Just(request()),
        any::<[u8; 2]>().prop_map(|[down, keysym]| key(down, keysym)),
        any::<[u8; 2]>().prop_map(|[down, keysym]| qemu_key(down, keysym)),
        any::<u8>().prop_map(pointer),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| text(&bytes)),
    ]
}

/// `bytes` in pieces that end at `cuts`.
fn pieces<'a>(bytes: &'a [u8], cuts: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// The types of the messages in `bytes`, which are whole.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some(length) = message_length(bytes).unwrap() {
        kinds.push(bytes[0]);
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty());
    kinds
}

proptest! {
    #[test]
    fn however_it_is_cut_no_input_comes_through(
        messages in proptest::collection::vec(message(), 0..20),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
    ) {
        let bytes = messages.concat();
        let mut viewer = greeted();
        let mut passed = Vec::new();
        for piece in pieces(&bytes, &cuts) {
            passed.extend(viewer.take(piece, false).unwrap().to_machine);
        }
        let looking = |kind: &u8| [kind::SET_PIXEL_FORMAT, kind::SET_ENCODINGS, kind::UPDATE_REQUEST].contains(kind);
        let wanted: Vec<u8> = messages.iter().map(|message| message[0]).filter(looking).collect();
        prop_assert_eq!(kinds(&passed), wanted);
        prop_assert!(viewer.let_go().is_empty());
    }

    #[test]
    fn however_it_is_cut_all_comes_through_of_one_who_has_taken_over(
        messages in proptest::collection::vec(message(), 0..20),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
    ) {
        let bytes = messages.concat();
        let whole = greeted().take(&bytes, true).unwrap();
        let mut viewer = greeted();
        let mut passed = Vec::new();
        for piece in pieces(&bytes, &cuts) {
            passed.extend(viewer.take(piece, true).unwrap().to_machine);
        }
        prop_assert_eq!(&passed, &whole.to_machine);
        prop_assert_eq!(kinds(&passed), messages.iter().map(|message| message[0]).collect::<Vec<_>>());
    }

    #[test]
    fn garbage_ends_the_connection_or_waits_and_types_nothing(
        garbage in proptest::collection::vec(any::<u8>(), 0..400),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..9),
    ) {
        let mut viewer = greeted();
        for piece in pieces(&garbage, &cuts) {
            let Ok(step) = viewer.take(piece, false) else { break };
            for kind in kinds(&step.to_machine) {
                prop_assert!(kind <= kind::UPDATE_REQUEST);
            }
        }
        let _ = Viewer::new().0.take(&garbage, true);
    }
}
