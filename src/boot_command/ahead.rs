//! Typing ahead of what is drawn, by as many keys as the shortest queue holds.
//!
//! One key at a time waits for each of them until QEMU looks at the screen again (30 ms), and for a guest that does not
//! get the processor. Where it is known in which cells a line is drawn, the keys on their way can be counted: those
//! whose cells are still empty.

use std::time::Instant;

use super::key::Key;
use super::pace::{PATIENCE, Trace};
use super::read_back::{Line, Place, Reading};
use super::screen::Screen;
use super::typist::Typist;
use crate::error::Result;

/// Bytes of keys on their way: PS/2 keyboards hold 16, and a stroke or a space may be drawn unnoticed.
const ROOM: usize = 12;
/// Cells behind a line in which nothing may be drawn meanwhile, but for a cursor in the first.
const BEHIND: usize = 16;
/// Bytes of a key and of one with shift, pressed and released, as a PS/2 keyboard sends them untranslated.
const BYTES: (usize, usize) = (3, 6);

/// Where the line is drawn that is being typed.
#[derive(Debug)]
pub(super) struct Ahead {
    place: Place,
    /// The screen when that was found, and how many cells were drawn then.
    seen: Screen,
    found: usize,
}

impl Ahead {
    /// Bytes of keys that are not drawn yet; none if it is not certain which those are.
    fn on_their_way(&self, line: &Line, now: &Screen) -> Option<usize> {
        let text = line.trimmed_start();
        if !self.place.holds(text.len() + BEHIND, now) {
            return None;
        }
        let changed = self.place.changed(&self.seen, now, text.len() + BEHIND)?;
        // A screen that scrolls or is drawn anew takes the line elsewhere.
        let (before, after) = (&changed.drawn[..self.found], &changed.drawn[text.len() + 1..]);
        let typed = self.found..changed.end.clamp(self.found, text.len());
        let gap = text[typed.clone()].iter().zip(&changed.drawn[typed.clone()]).any(|(c, drawn)| *c != ' ' && !drawn);
        if gap || before.iter().chain(after).any(|drawn| *drawn) {
            return None;
        }
        Some(text[typed.end..].iter().map(|character| bytes(*character)).sum())
    }
}

fn bytes(character: char) -> usize {
    if Key::of_char(character).is_some_and(Key::needs_shift) { BYTES.1 } else { BYTES.0 }
}

impl Typist {
    /// Types a character of a line.
    pub(super) async fn character(&mut self, key: Key, character: char) -> Result<()> {
        let start = Instant::now();
        if std::mem::take(&mut self.unsettled) {
            // What the line is compared with is the screen that it is typed on.
            self.settle().await?;
        }
        self.vnc.catch_up().await?;
        let room = self.has_room(bytes(character)).await?;
        self.typed.time += start.elapsed();
        self.note(character);
        if room {
            let start = Instant::now();
            let events = self.keyboard.press(key);
            self.send(&events).await?;
            self.typed.keys += 1;
            self.typed.time += start.elapsed();
            return Ok(());
        }
        let seen = self.press(key).await?;
        self.note_seen(seen);
        if self.pace.echo && seen == Some(true) {
            self.find_place();
        }
        Ok(())
    }

    /// Waits until the guest rests, as after a line.
    async fn settle(&mut self) -> Result<()> {
        match self.echo.rest(Trace::Line) {
            Some((quiet, limit)) => self.rest(quiet, Instant::now() + limit).await.map(drop),
            None => Ok(()),
        }
    }

    /// Looks where the line is drawn.
    fn find_place(&mut self) {
        let Some(line) = &self.line else { return };
        let seen = self.vnc.screen();
        let found = line.trimmed().len();
        let place = line.begins(seen).or_else(|| match line.read(seen) {
            // Nothing may be behind it that is no line of a few characters by chance.
            Reading::Shown(place) => {
                Some(place).filter(|place| place.drawn(&line.before, seen, found + BEHIND) == found)
            }
            _ => None,
        });
        self.ahead = place.map(|place| Ahead { place, seen: seen.clone(), found });
    }

    /// Waits until a key finds room in the queues; false if it is not known what is in them.
    async fn has_room(&mut self, more: usize) -> Result<bool> {
        let Some(ahead) = self.ahead.take() else { return Ok(false) };
        let Some(line) = self.line.take() else { return Ok(false) };
        let mut room = false;
        let mut look = |now: &Screen| {
            let bytes = ahead.on_their_way(&line, now);
            room = bytes.is_some_and(|bytes| bytes + more <= ROOM);
            bytes.is_none() || room
        };
        if !look(self.vnc.screen()) {
            self.until(Instant::now() + PATIENCE, look).await?;
        }
        self.line = Some(line);
        self.ahead = room.then_some(ahead);
        Ok(room)
    }

    /// Waits until all keys of a line were drawn that was typed ahead.
    pub(super) async fn catch_up_with(&mut self, line: &Line, ahead: &Ahead) -> Result<()> {
        let length = line.trimmed().len();
        let last = length.saturating_sub(1);
        self.cursor = Some(ahead.place.rows(last));
        let drawn = |now: &Screen| {
            // A stroke at the end looks like a cursor.
            ahead.place.drawn(&line.before, now, length) == length
                || ahead.place.differs(&line.before, now, last) && matches!(line.read(now), Reading::Shown(_))
        };
        if !drawn(self.vnc.screen()) {
            self.until(Instant::now() + PATIENCE, drawn).await?;
        }
        Ok(())
    }
}
