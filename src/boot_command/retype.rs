//! Typed lines are read back, and typed once more where the screen shows another one.

use std::time::{Duration, Instant};

use super::key::{Key, SHIFT};
use super::pace::Pace;
use super::read_back::{Line, Reading, SHORTEST, Wrong};
use super::typist::Typist;
use crate::error::{Cause, Error, Result};

/// Nothing was drawn for so long: what was typed has probably been drawn.
const SOON: Duration = Duration::from_millis(150);
/// Nothing was drawn for so long: keys that were not seen do not come any more.
const SURELY: Duration = Duration::from_millis(2500);
/// How many times as long a screen that never rests is waited for.
const PATIENCE: u32 = 4;
/// How often a line is erased until nothing of it is left: backspaces get lost, too.
const ERASURES: usize = 3;
/// Cells behind a line in which something of it might be.
const BEHIND: usize = 8;

impl Typist {
    /// Notes a character that is about to be typed.
    pub(super) fn note(&mut self, character: char) {
        let before = self.vnc.screen();
        let line = self.line.get_or_insert_with(|| Line::new(before.clone()));
        line.text.push(character);
    }

    /// Notes whether something was drawn after the character noted last.
    pub(super) fn note_seen(&mut self, seen: Option<bool>) {
        if let Some(line) = &mut self.line
            && line.text.iter().filter(|character| **character != ' ').count() == 1
        {
            line.began = line.began.or(seen);
        }
    }

    /// The line ends: it must be there before anything else is typed.
    ///
    /// # Errors
    /// The screen shows another line, also after it was typed a second time.
    pub(super) async fn finish_line(&mut self) -> Result<()> {
        let (line, ahead) = (self.line.take(), self.ahead.take());
        let Some(line) = line.filter(|line| line.trimmed().len() >= SHORTEST) else { return Ok(()) };
        if self.pace.echo && !self.echo.is_seen() {
            return Ok(());
        }
        let start = Instant::now();
        if let Some(ahead) = ahead {
            self.catch_up_with(&line, &ahead).await?;
        }
        let reading = self.read_back(&line).await?;
        self.typed.time += start.elapsed();
        match reading {
            Reading::Shown(_) => self.typed.read_back += 1,
            Reading::Unknown => {}
            Reading::Differs(wrong) => {
                let slow = Pace { group_interval: self.pace.group_interval, ..Pace::packer() };
                let pace = std::mem::replace(&mut self.pace, slow);
                let done = self.retype(&line, &wrong).await;
                self.pace = pace;
                done?;
            }
        }
        Ok(())
    }

    /// Reads the line, at first as the screen is. Only what rests is believed to differ.
    async fn read_back(&mut self, line: &Line) -> Result<Reading> {
        self.vnc.catch_up().await?;
        let mut reading = line.read(self.vnc.screen());
        for quiet in [SOON, SURELY] {
            if matches!(reading, Reading::Shown(_)) || quiet == SURELY && reading == Reading::Unknown {
                break;
            }
            self.rest(quiet, Instant::now() + quiet * PATIENCE).await?;
            reading = line.read(self.vnc.screen());
        }
        Ok(reading)
    }

    /// Erases the line and types it again.
    async fn retype(&mut self, line: &Line, wrong: &Wrong) -> Result<()> {
        self.typed.retyped += 1;
        let mut left = wrong.cells;
        for _ in 0..ERASURES {
            for _ in 0..left {
                self.press(Key::BACKSPACE).await?;
            }
            self.rest(SURELY, Instant::now() + SURELY * PATIENCE).await?;
            // Never more than is left: what is before the line is the guest's.
            left = wrong.place.drawn(&line.before, self.vnc.screen(), wrong.cells + BEHIND);
            if left == 0 {
                break;
            }
        }
        if left > 0 {
            return Err(mistyped(line, wrong, "which could not be erased"));
        }
        // A shift whose release was lost is down for the guest.
        self.press(SHIFT).await?;
        // Where it begins is known now, so a first key that is lost is no menu's.
        let line = Line { began: Some(false), ..line.clone() };
        for character in line.trimmed() {
            if let Some(key) = Key::of_char(character) {
                self.press(key).await?;
            }
        }
        match self.read_back(&line).await? {
            Reading::Differs(wrong) => Err(mistyped(&line, &wrong, "also when it was typed a second time")),
            Reading::Shown(_) => {
                self.typed.read_back += 1;
                Ok(())
            }
            Reading::Unknown => Ok(()),
        }
    }
}

fn mistyped(line: &Line, wrong: &Wrong, what: &str) -> Error {
    let typed: String = line.trimmed().into_iter().collect();
    let (shows, right) = (&wrong.shows, wrong.right);
    Error::build("the guest did not get the line that was typed")
        .because(format!(
            "typed was {typed:?}; the screen shows {shows:?}, {what}: the first {right} of {} characters are right",
            typed.chars().count()
        ))
        .caused_by(Cause::Mistyped)
        .hint(
            "keys are lost where the guest does not listen yet: wait with `<waitForScreen …>` before the line, or set \
             `boot_key_interval`; where a guest shows something else on purpose, `boot_read_back: false`",
        )
}
