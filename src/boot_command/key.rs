//! Keys as X11 keysyms, which is how RFC 6143 (section 7.5.4) names them.
//!
//! A VNC server that emulates a keyboard has to turn a keysym back into a key of some layout. QEMU takes its
//! keymap `en-us` unless `-k` names another, looks up which key bears the symbol, and *presses no shift for it*:
//! whoever wants `A` or `!` holds shift too, as a person would. A symbol that is on no key is dropped by QEMU with
//! a warning nobody sees, so a character that the US keyboard lacks is refused when the command is parsed.

use std::fmt;

/// The left shift key's keysym.
pub(super) const SHIFT: Key = Key(0xFFE1);
/// The right shift key's keysym.
const RIGHT_SHIFT: Key = Key(0xFFE2);

/// What needs shift on a US keyboard, beside capital letters (QEMU's pc-bios/keymaps/en-us).
const SHIFTED: &str = "~!@#$%^&*()_+{}|:\"<>?";

/// Packer's special keys (packer-plugin-sdk, bootcommand: the VNC driver), by X11's keysymdef.h. Where two names
/// mean one key, the first is the one that is written.
const SPECIAL: [(&str, u32); 43] = [
    ("bs", 0xFF08),
    ("tab", 0xFF09),
    ("enter", 0xFF0D),
    ("return", 0xFF0D),
    ("esc", 0xFF1B),
    ("del", 0xFFFF),
    ("insert", 0xFF63),
    ("home", 0xFF50),
    ("left", 0xFF51),
    ("up", 0xFF52),
    ("right", 0xFF53),
    ("down", 0xFF54),
    ("pageUp", 0xFF55),
    ("pageDown", 0xFF56),
    ("end", 0xFF57),
    ("menu", 0xFF67),
    ("f1", 0xFFBE),
    ("f2", 0xFFBF),
    ("f3", 0xFFC0),
    ("f4", 0xFFC1),
    ("f5", 0xFFC2),
    ("f6", 0xFFC3),
    ("f7", 0xFFC4),
    ("f8", 0xFFC5),
    ("f9", 0xFFC6),
    ("f10", 0xFFC7),
    ("f11", 0xFFC8),
    ("f12", 0xFFC9),
    ("leftShift", SHIFT.0),
    ("rightShift", RIGHT_SHIFT.0),
    ("leftCtrl", 0xFFE3),
    ("rightCtrl", 0xFFE4),
    ("leftOption", 0xFFE7),
    ("rightOption", 0xFFE8),
    ("leftAlt", 0xFFE9),
    ("leftCommand", 0xFFE9),
    ("rightAlt", 0xFFEA),
    ("rightCommand", 0xFFEA),
    ("leftSuper", 0xFFEB),
    ("rightSuper", 0xFFEC),
    // Characters by name: Packer's, and X11's for the two that open something in a boot command.
    ("spacebar", 0x20),
    ("less", '<' as u32),
    ("braceleft", '{' as u32),
];

/// One key of a US keyboard, by the keysym that RFC 6143's key event carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u32);

impl Key {
    /// Takes back the character before the cursor.
    pub(super) const BACKSPACE: Self = Self(0xFF08);

    /// The key for a character; none if a US keyboard lacks it.
    pub fn of_char(character: char) -> Option<Self> {
        // Latin 1's printable characters are their own keysyms; of those only ASCII is on the keyboard.
        matches!(character, ' '..='~').then_some(Self(character as u32))
    }

    /// The key with one of Packer's names, in upper or lower case.
    pub fn named(name: &str) -> Option<Self> {
        SPECIAL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, keysym)| Self(keysym))
    }

    /// Packer's names of special keys, and `less` and `braceleft`.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        SPECIAL.iter().map(|&(name, _)| name)
    }

    /// The X11 keysym.
    pub fn keysym(self) -> u32 {
        self.0
    }

    /// The character that the key types, if it is not a special key.
    pub fn character(self) -> Option<char> {
        char::from_u32(self.0).filter(|character| matches!(character, ' '..='~'))
    }

    /// Whether shift must be held to type it.
    pub fn needs_shift(self) -> bool {
        self.character().is_some_and(|character| character.is_ascii_uppercase() || SHIFTED.contains(character))
    }

    /// Whether it changes what other keys mean: shift, control, alt and their like.
    pub fn is_modifier(self) -> bool {
        (0xFFE1..=0xFFEE).contains(&self.0)
    }

    fn is_shift(self) -> bool {
        self == SHIFT || self == RIGHT_SHIFT
    }

    /// The same key's symbol while shift is held. QEMU compares a letter's case with the state of shift, and where
    /// they differ it presses caps lock (ui/vnc.c, `do_key_event`; `lock-key-sync`).
    fn under_shift(self) -> Self {
        match self.character() {
            Some(letter @ 'a'..='z') => Self(letter.to_ascii_uppercase() as u32),
            _ => self,
        }
    }

    /// How it is written in a boot command when it is pressed.
    fn written(self) -> String {
        match self.character() {
            // Either might open something.
            Some('<' | '{') | None => format!("<{}>", self.name()),
            Some(character) => character.to_string(),
        }
    }

    /// Its name, for `<nameOn>` and `<nameOff>`.
    pub(super) fn name(self) -> String {
        let special = SPECIAL.iter().find(|&&(_, keysym)| keysym == self.0).map(|&(name, _)| name.to_owned());
        special.or_else(|| self.character().map(String::from)).unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.name())
    }
}

/// A key event of RFC 6143: a key goes down or up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEvent {
    /// The X11 keysym.
    pub keysym: u32,
    /// Down, or else up.
    pub down: bool,
}

/// Which keys are held, and so which events a key needs.
#[derive(Debug, Clone, Default)]
pub struct Keyboard {
    held: Vec<Key>,
    /// The left shift key is down because of characters that are held and need it.
    lent: bool,
}

impl Keyboard {
    /// Presses and releases a key; shift goes round it where it needs shift and none is held.
    pub fn press(&mut self, key: Key) -> Vec<KeyEvent> {
        let (symbol, shift) = self.symbol(key);
        if key.is_shift() {
            // It is up afterwards, even if it was held before.
            self.held.retain(|held| *held != key);
            self.lent &= key != SHIFT;
        }
        let mut events = vec![symbol.event(true), symbol.event(false)];
        if shift {
            events.insert(0, SHIFT.event(true));
            events.push(SHIFT.event(false));
        }
        events
    }

    /// Holds a key down.
    pub fn hold(&mut self, key: Key) -> Vec<KeyEvent> {
        let (symbol, shift) = self.symbol(key);
        self.held.push(key);
        self.lent |= shift;
        let head = shift.then_some(SHIFT.event(true));
        head.into_iter().chain([symbol.event(true)]).collect()
    }

    /// Lets a key go, and shift with it when it was held for this key only.
    pub fn release(&mut self, key: Key) -> Vec<KeyEvent> {
        let (symbol, _) = self.symbol(key);
        self.held.retain(|held| *held != key);
        self.lent &= key != SHIFT;
        let returned = self.lent && !self.held.iter().any(|key| key.needs_shift());
        self.lent &= !returned;
        let tail = (returned && !self.held.contains(&SHIFT)).then_some(SHIFT.event(false));
        [symbol.event(false)].into_iter().chain(tail).collect()
    }

    /// Whether shift is down.
    pub fn shifted(&self) -> bool {
        self.lent || self.held.iter().any(|key| key.is_shift())
    }

    /// Whether any modifier but shift is down, so that a key is a command rather than text.
    pub fn commanding(&self) -> bool {
        self.held.iter().any(|key| key.is_modifier() && !key.is_shift())
    }

    fn symbol(&self, key: Key) -> (Key, bool) {
        if self.shifted() { (key.under_shift(), false) } else { (key, key.needs_shift()) }
    }
}

impl Key {
    fn event(self, down: bool) -> KeyEvent {
        KeyEvent { keysym: self.0, down }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Events as `+61 -61`.
    fn shown(events: &[KeyEvent]) -> String {
        let event = |event: &KeyEvent| format!("{}{:X}", if event.down { '+' } else { '-' }, event.keysym);
        events.iter().map(event).collect::<Vec<_>>().join(" ")
    }

    fn key(name: &str) -> Key {
        let mut characters = name.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Key::of_char(character).unwrap(),
            _ => Key::named(name).unwrap(),
        }
    }

    #[test]
    fn the_table_of_keysyms() {
        let table = [
            ("a", 0x61, false),
            ("A", 0x41, true),
            ("0", 0x30, false),
            (")", 0x29, true),
            ("-", 0x2D, false),
            ("_", 0x5F, true),
            ("=", 0x3D, false),
            ("+", 0x2B, true),
            ("'", 0x27, false),
            ("\"", 0x22, true),
            (";", 0x3B, false),
            (":", 0x3A, true),
            ("/", 0x2F, false),
            ("?", 0x3F, true),
            ("`", 0x60, false),
            ("~", 0x7E, true),
            ("\\", 0x5C, false),
            ("|", 0x7C, true),
            ("<", 0x3C, true),
            (">", 0x3E, true),
            (" ", 0x20, false),
            ("spacebar", 0x20, false),
            ("ENTER", 0xFF0D, false),
            ("return", 0xFF0D, false),
            ("PageUp", 0xFF55, false),
            ("f1", 0xFFBE, false),
            ("F12", 0xFFC9, false),
            ("leftCommand", 0xFFE9, false),
            ("RIGHTSUPER", 0xFFEC, false),
        ];
        for (name, keysym, shift) in table {
            assert_eq!((key(name).keysym(), key(name).needs_shift()), (keysym, shift), "{name}");
        }
        for character in ['\n', '\t', '\0', '\u{7f}', 'é', '€', '語'] {
            assert_eq!(Key::of_char(character), None, "{character:?}");
        }
    }

    #[test]
    fn every_character_needs_shift_as_qemus_keymap_says() {
        let plain = "`1234567890-=qwertyuiop[]\\asdfghjkl;'zxcvbnm,./ ";
        let shifted = "~!@#$%^&*()_+QWERTYUIOP{}|ASDFGHJKL:\"ZXCVBNM<>?";
        assert_eq!(plain.len() + shifted.len(), 95);
        assert!(plain.chars().all(|c| !key(&c.to_string()).needs_shift()));
        assert!(shifted.chars().all(|c| key(&c.to_string()).needs_shift()));
    }

    #[test]
    fn shift_goes_round_what_needs_it() {
        let mut keyboard = Keyboard::default();
        assert_eq!(shown(&keyboard.press(key("a"))), "+61 -61");
        assert_eq!(shown(&keyboard.press(key("A"))), "+FFE1 +41 -41 -FFE1");
        assert_eq!(shown(&keyboard.press(key("f10"))), "+FFC7 -FFC7");
    }

    #[test]
    fn a_held_shift_is_neither_doubled_nor_lost() {
        let mut keyboard = Keyboard::default();
        assert_eq!(shown(&keyboard.hold(key("rightShift"))), "+FFE2");
        // The small letter's symbol would make QEMU press caps lock.
        assert_eq!(shown(&keyboard.press(key("a"))), "+41 -41");
        assert_eq!(shown(&keyboard.press(key("A"))), "+41 -41");
        assert_eq!(shown(&keyboard.press(key("1"))), "+31 -31");
        assert_eq!(shown(&keyboard.release(key("rightShift"))), "-FFE2");
        assert_eq!(shown(&keyboard.press(key("a"))), "+61 -61");
    }

    #[test]
    fn a_held_capital_holds_shift() {
        let mut keyboard = Keyboard::default();
        assert_eq!(shown(&keyboard.hold(key("A"))), "+FFE1 +41");
        assert_eq!(shown(&keyboard.hold(key("!"))), "+21");
        assert_eq!(shown(&keyboard.release(key("A"))), "-41");
        assert_eq!(shown(&keyboard.release(key("!"))), "-21 -FFE1");
        assert!(!keyboard.shifted() && !keyboard.commanding());
        keyboard.hold(key("leftCtrl"));
        assert!(keyboard.commanding());
        assert_eq!(shown(&keyboard.press(key("c"))), "+63 -63");
    }

    proptest! {
        /// What the keyboard believes of shift is what the server was told, and in the end no key is down.
        #[test]
        fn shift_is_down_exactly_when_it_is_believed_to_be(steps in prop::collection::vec((0..3, 0..6_usize), 0..20)) {
            let keys = ["a", "A", "!", "leftShift", "rightShift", "leftCtrl"].map(key);
            let (mut keyboard, mut down) = (Keyboard::default(), BTreeSet::new());
            let releases = keys.iter().enumerate().map(|(index, _)| (2, index));
            for (action, index) in steps.into_iter().chain(releases) {
                let events = match action {
                    0 => keyboard.press(keys[index]),
                    1 => keyboard.hold(keys[index]),
                    _ => keyboard.release(keys[index]),
                };
                for event in events {
                    // One key bears both.
                    let keysym = if event.keysym == 0x41 { 0x61 } else { event.keysym };
                    let shift = keysym == SHIFT.0 || keysym == RIGHT_SHIFT.0;
                    let shifted = down.contains(&SHIFT.0) || down.contains(&RIGHT_SHIFT.0);
                    if event.down && !shift && keysym == 0x61 {
                        prop_assert_eq!(event.keysym == 0x41, shifted);
                    }
                    if event.down { down.insert(keysym) } else { down.remove(&keysym) };
                }
                let shifted = down.contains(&SHIFT.0) || down.contains(&RIGHT_SHIFT.0);
                prop_assert_eq!(keyboard.shifted(), shifted);
            }
            prop_assert!(down.is_empty(), "{:?}", down);
        }
    }

    #[test]
    fn names_lead_back_to_their_keys() {
        for name in Key::names() {
            let known = Key::named(name).unwrap();
            assert_eq!(Key::named(&known.name()).or_else(|| Key::of_char(known.name().chars().next()?)), Some(known));
        }
    }
}
