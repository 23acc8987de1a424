//! The guest's serial console: a log, events, and what its lines say about the machine's fate.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Ended, Reporter};
use crate::error::{Context, Kind, Result};
use crate::event::{Event, Events};
use crate::lines::Splitter;

/// The last bytes of a log, at most `limit`.
pub(crate) fn log_tail(log: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    // It may be written to meanwhile.
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a line on the serial console means.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// The machine cannot go on.
    Fatal(Ended),
    /// The user should know.
    Warning(&'static str),
}

#[derive(Clone, Copy)]
enum Meaning {
    Panic,
    Emergency,
    NoBoot,
    Warning(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Anywhere in a line.
    Anywhere,
    /// At the start of a line, so that a script that mentions it is not taken for it.
    Start,
    /// At the start of a line that has no end, because somebody is expected to type.
    Prompt,
}

/// GRUB's command line: where it found no menu, or where somebody asked for it.
const GRUB_PROMPT: &str = "grub>";

/// What to look for, and where.
const CHECKS: &[(Place, &str, Meaning)] = &[
    (Place::Anywhere, "Kernel panic - not syncing", Meaning::Panic),
    (Place::Anywhere, "BUG: unable to handle", Meaning::Panic),
    (Place::Anywhere, "kernel BUG at ", Meaning::Panic),
    (Place::Start, "You are in emergency mode", Meaning::Emergency),
    (Place::Start, "Give root password for maintenance", Meaning::Emergency),
    (Place::Start, "Cannot open access to console, the root account is locked", Meaning::Emergency),
    (Place::Prompt, "(initramfs)", Meaning::Emergency),
    (Place::Prompt, "grub rescue>", Meaning::NoBoot),
    (Place::Prompt, GRUB_PROMPT, Meaning::NoBoot),
    (Place::Anywhere, "No bootable option or device was found", Meaning::NoBoot),
    (Place::Anywhere, "No bootable device", Meaning::NoBoot),
    (Place::Anywhere, "Out of memory: Killed process", Meaning::Warning("the guest ran out of memory")),
    (Place::Anywhere, "EXT4-fs error", Meaning::Warning("the guest's file system is damaged")),
    (Place::Anywhere, ": soft lockup - CPU#", Meaning::Warning("the guest's processor was busy or starved for long")),
];

/// The meaning of `line`, which has no control characters. One that is not `complete` yet can only
/// be a prompt: the rest of anything else is about to come.
fn check(line: &str, complete: bool) -> Option<Finding> {
    let line = line.trim_start();
    let (_, _, meaning) = CHECKS.iter().find(|(place, text, _)| match place {
        Place::Anywhere => complete && line.contains(text),
        Place::Start => complete && line.starts_with(text),
        Place::Prompt => line.starts_with(text),
    })?;
    let line = line.trim_end().to_owned();
    Some(match meaning {
        Meaning::Panic => Finding::Fatal(Ended::KernelPanic { line }),
        Meaning::Emergency => Finding::Fatal(Ended::EmergencyShell { line }),
        Meaning::NoBoot => Finding::Fatal(Ended::NoBoot { line }),
        Meaning::Warning(text) => Finding::Warning(text),
    })
}

/// `text` without terminal control sequences (ECMA-48) and other control characters but the tab.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            skip_sequence(&mut characters);
        } else if character == '\t' || !character.is_control() {
            out.push(character);
        }
    }
    out
}

/// Skips what follows an escape character: `[`, parameters and a final letter; `]` to its end (BEL);
/// or intermediate characters and one more.
fn skip_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => {
            characters.find(|c| matches!(c, '\x40'..='\x7e'));
        }
        Some(']') => {
            characters.find(|c| matches!(c, '\x07' | '\x1b'));
        }
        Some('\x20'..='\x2f') => {
            characters.next();
        }
        _ => {}
    }
}

/// Where the console's lines go.
pub(crate) struct Console {
    template: String,
    events: Events,
    reporter: Reporter,
    log: File,
    raw: Option<File>,
    /// Somebody types at the boot loader.
    typed: bool,
}

impl Console {
    /// A console that appends its lines to the file `log`, where an earlier boot's stay, and all that it says to `raw`.
    pub(crate) fn new(
        template: &str,
        events: &Events,
        reporter: Reporter,
        (log, raw): (&Path, Option<&Path>),
    ) -> Result<Self> {
        let open = |options: &mut OpenOptions, path: &Path| {
            let file = options.create(true).append(true).open(path);
            file.context(Kind::Host, || format!("opening the serial log {}", path.display()))
        };
        let raw = raw.map(|raw| open(OpenOptions::new().mode(0o600), raw)).transpose()?;
        let log = open(&mut OpenOptions::new(), log)?;
        Ok(Self { template: template.to_owned(), events: events.clone(), reporter, log, raw, typed: false })
    }

    /// The same console where keys are `typed` at the boot loader, whose prompt is then no end. With UEFI, GRUB has it on
    /// the serial console as on the screen.
    pub(crate) fn typed(self, typed: bool) -> Self {
        Self { typed, ..self }
    }

    /// The meaning of a line, where it has one.
    fn finding(&self, line: &str, complete: bool) -> Option<Finding> {
        let typed_at = self.typed && line.trim_start().starts_with(GRUB_PROMPT);
        check(line, complete).filter(|_| !typed_at)
    }

    /// Follows the console to its end.
    pub(crate) async fn follow(mut self, mut serial: impl AsyncRead + Unpin) {
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; 16 * 1024];
        // An error (a reset connection) is the end too.
        while let Ok(count @ 1..) = serial.read(&mut buffer).await {
            if let Some(raw) = &mut self.raw {
                // As with the log: what cannot be written does not end the build.
                let _ = raw.write_all(&buffer[..count]);
            }
            splitter.push(&buffer[..count], |line| self.line(line));
            // A prompt has no line end, and nothing follows it.
            if let Some(Finding::Fatal(ended)) = self.finding(&printable(&splitter.pending()), false) {
                self.reporter.end(ended);
            }
        }
        splitter.finish(|line| self.line(line));
    }

    fn line(&mut self, raw: &str) {
        let line = printable(raw);
        match self.finding(&line, true) {
            Some(Finding::Fatal(ended)) => self.reporter.end(ended),
            Some(Finding::Warning(text)) => {
                self.events.warn(Some(&self.template), format!("{text}: {}", line.trim()));
            }
            None => {}
        }
        // A line is short and the page cache takes it at once: not worth a thread. A full disk must
        // not end the build for its log's sake.
        let _ = self.log.write_all(format!("{}\n", self.events.redact(&line)).as_bytes());
        self.events.emit(Event::Serial { template: self.template.clone(), line });
    }
}

/// Follows what the firmware says beside its screen, to its end: only that it found nothing to boot matters.
pub(super) async fn follow_firmware(mut stream: impl AsyncRead + Unpin, reporter: Reporter) {
    let mut splitter = Splitter::default();
    let mut buffer = vec![0; 4096];
    let line = |line: &str| {
        if let Some(Finding::Fatal(ended @ Ended::NoBoot { .. })) = check(&printable(line), true) {
            reporter.end(ended);
        }
    };
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        splitter.push(&buffer[..count], line);
    }
    splitter.finish(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fatal_lines_are_known() {
        for (line, expected) in [
            ("[    3.141592] Kernel panic - not syncing: VFS: Unable to mount root fs", "the guest's kernel failed"),
            ("[   10.0] BUG: unable to handle page fault for address: ffff", "the guest's kernel failed"),
            ("[   10.0] kernel BUG at mm/slub.c:448!", "the guest's kernel failed"),
            ("You are in emergency mode. After logging in, type", "the guest stopped in an emergency shell"),
            ("Give root password for maintenance", "the guest stopped in an emergency shell"),
            ("(initramfs) ", "the guest stopped in an emergency shell"),
            ("grub rescue> ", "the machine found nothing to boot"),
            ("BdsDxe: No bootable option or device was found.", "the machine found nothing to boot"),
        ] {
            let Some(Finding::Fatal(ended)) = check(line, true) else { panic!("{line:?} is not fatal") };
            assert_eq!(ended.to_string(), format!("{expected}: {}", line.trim()));
        }
    }

    #[test]
    fn some_lines_only_warn() {
        for line in [
            "[  99.0] Out of memory: Killed process 412 (apt-get) total-vm:1kB",
            "[  99.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s!",
            "[  99.0] EXT4-fs error (device vda1): ext4_find_entry:1455",
        ] {
            assert!(matches!(check(line, true), Some(Finding::Warning(_))), "{line:?}");
        }
    }

    #[test]
    fn ordinary_lines_mean_nothing() {
        for line in [
            "",
            "Debian GNU/Linux 13 visa ttyS0",
            "update-initramfs: Generating /boot/initrd.img (initramfs)",
            "echo grub rescue>",
            "[    1.0] Kernel command line: root=LABEL=root panic=30",
            "[    2.0] systemd[1]: Reached target emergency.target - Emergency Mode.",
        ] {
            assert_eq!(check(line, true), None, "{line:?}");
        }
    }

    #[test]
    fn a_line_without_its_end_can_only_be_a_prompt() {
        assert_eq!(check("[    1.0] Kernel panic - not sync", false), None);
        assert_eq!(check("[    1.0] Kernel panic - not syncing", false), None);
        assert!(check("grub> ", false).is_some());
    }

    #[test]
    fn control_sequences_are_taken_out() {
        assert_eq!(
            printable("\x1b[0;1;32m  OK  \x1b[0m] \x1b]0;title\x07Started\x1b(B\tx\x08\x1b[?2004h"),
            "  OK  ] Started\tx"
        );
        assert_eq!(printable("cut \x1b["), "cut ");
    }

    #[tokio::test]
    async fn a_prompt_without_a_line_end_is_seen_and_all_is_logged() {
        let folder = tempfile::tempdir().unwrap();
        let [log, raw] = ["serial.log", "serial.raw"].map(|name| folder.path().join(name));
        let (reporter, watch) = super::super::Watch::channel();
        let console = Console::new("t", &Events::none(), reporter, (&log, Some(&raw))).unwrap();
        let (mut guest, serial) = tokio::io::duplex(64);
        let follow = tokio::spawn(console.follow(serial));
        tokio::io::AsyncWriteExt::write_all(&mut guest, b"Begin: mounting\r\n\x1b[1m(initramfs) ").await.unwrap();
        assert_eq!(watch.ended().await, Ended::EmergencyShell { line: "(initramfs)".into() });
        assert_eq!(std::fs::read(raw).unwrap(), b"Begin: mounting\r\n\x1b[1m(initramfs) ");
        drop(guest);
        follow.await.unwrap();
        assert_eq!(std::fs::read_to_string(log).unwrap(), "Begin: mounting\n(initramfs) \n");
    }

    #[tokio::test]
    async fn grubs_prompt_is_no_end_where_keys_are_typed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("serial.log");
        let (reporter, watch) = super::super::Watch::channel();
        let console = Console::new("t", &Events::none(), reporter, (&log, None)).unwrap().typed(true);
        let said: &[u8] = b"grub> linux /linux\r\ngrub> boot\r\ngrub rescue> ";
        console.follow(said).await;
        assert_eq!(watch.ended().await, Ended::NoBoot { line: "grub rescue>".into() });
    }
}
