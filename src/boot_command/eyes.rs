//! Waits for the screen.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::command::{Region, ScreenWait, Until};
use super::key::{KeyEvent, SHIFT};
use super::ocr;
use super::pictures::{Likeness, Pictures, compare};
use super::screen::{Change, Screen};
use super::typist::Typist;
use super::vnc::interrupted;
use crate::error::{Error, Result};

/// How often QEMU is kept from looking away: without input it looks for changes ever less often, down to once in
/// 3 s (ui/vnc.c, `VNC_REFRESH_INTERVAL_INC`), and any input brings it back to 30 ms.
const NUDGE: Duration = Duration::from_millis(500);
/// Lines of a screen's text that an error shows.
const SHOWN_LINES: usize = 12;

impl Typist {
    /// Waits until the screen shows something.
    ///
    /// # Errors
    /// It did not in time, OCR is missing, the machine is gone, or the token fires.
    pub async fn wait_for(&mut self, wait: &ScreenWait, pictures: &Pictures) -> Result<()> {
        let deadline = Instant::now() + wait.timeout;
        self.vnc.catch_up().await?;
        let missed = match &wait.until {
            Until::Stable(quiet) => self.rest(*quiet, deadline).await?.then_some("it never rested".to_owned()),
            Until::Image { file, region } => self.image(pictures.get(file)?, *region, deadline).await?,
            Until::Text { text, region } => self.text(text, *region, deadline).await?,
        };
        let Some(why) = missed else { return Ok(()) };
        let wanted = wait.to_string();
        Err(Error::build(format!("the screen did not show what `{wanted}` waits for"))
            .because(why)
            .hint("look at the picture of the screen that is kept with the failure"))
    }

    /// Waits until nothing but a cursor's blinking was drawn for `quiet`; whether `deadline` came first.
    pub(super) async fn rest(&mut self, quiet: Duration, deadline: Instant) -> Result<bool> {
        loop {
            let before = self.vnc.screen().clone();
            let rested = Instant::now() + quiet;
            let changed = |screen: &Screen| screen.change_since(&before) == Change::Picture;
            if !self.watch(rested.min(deadline), changed).await? {
                return Ok(rested > deadline);
            }
        }
    }

    /// As [`Typist::until`], and keeps the server looking.
    async fn watch(&mut self, deadline: Instant, mut seen: impl FnMut(&Screen) -> bool) -> Result<bool> {
        loop {
            let nudge = (Instant::now() + NUDGE).min(deadline);
            if self.until(nudge, &mut seen).await? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            if !self.keyboard.shifted() {
                // The release of a key that is up, of which the guest learns nothing (ui/kbd-state.c).
                self.vnc.send(KeyEvent { keysym: SHIFT.keysym(), down: false }).await?;
            }
        }
    }

    /// Waits for a picture; why it was not seen.
    async fn image(&mut self, picture: &Screen, region: Option<Region>, deadline: Instant) -> Result<Option<String>> {
        let tolerance = self.tolerance;
        let mut nearest = Likeness::Size;
        let mut shown = |screen: &Screen| {
            let likeness = compare(screen, picture, region, tolerance);
            nearest = match (nearest, likeness) {
                (Likeness::Other(a), Likeness::Other(b)) => Likeness::Other(a.min(b)),
                (Likeness::Other(a), Likeness::Size) => Likeness::Other(a),
                (_, likeness) => likeness,
            };
            likeness == Likeness::Shown
        };
        if shown(self.vnc.screen()) || self.watch(deadline, shown).await? {
            return Ok(None);
        }
        Ok(Some(match nearest {
            Likeness::Other(share) => format!(
                "{:.2} % of the pixels were other when it was nearest; {:.2} % may be",
                share * 100.0,
                tolerance.pixels * 100.0
            ),
            _ => format!(
                "the screen is {:?} and the picture {picture:?}, which is neither the screen nor the region",
                self.vnc.screen()
            ),
        }))
    }

    /// Waits for a text; why it was not seen.
    async fn text(&mut self, wanted: &str, region: Option<Region>, deadline: Instant) -> Result<Option<String>> {
        loop {
            let seen = self.vnc.screen().clone();
            let read = match region {
                None => self.read(&seen).await?,
                Some(region) => match seen.part(region) {
                    Some(part) => self.read(&part).await?,
                    None => String::new(),
                },
            };
            if ocr::shows(&read, wanted) {
                return Ok(None);
            }
            let changed = |screen: &Screen| screen.change_since(&seen) == Change::Picture;
            // What was drawn while the program read.
            if !changed(self.vnc.screen()) && !self.watch(deadline, changed).await? || Instant::now() >= deadline {
                let outside = region.filter(|region| seen.part(*region).is_none());
                return Ok(Some(match outside {
                    Some(region) => format!("the region {region} is not on the screen, which is {seen:?}"),
                    None => told(&read),
                }));
            }
        }
    }

    /// Reads a screen, and goes on looking at the machine meanwhile.
    async fn read(&mut self, screen: &Screen) -> Result<String> {
        // One's own token: the screen is watched in the same task, and what ends that ends the program.
        let stop = CancellationToken::new();
        let _ends = stop.clone().drop_guard();
        let mut read = Box::pin(ocr::read(screen, &stop));
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(interrupted()),
                text = &mut read => return text,
                updated = self.vnc.update() => updated?,
            }
        }
    }
}

/// What an error says of the text that was read.
fn told(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    if last.is_empty() {
        return "no text was read on the screen".to_owned();
    }
    format!("the last text that was read on the screen:\n{}", last.join("\n"))
}
