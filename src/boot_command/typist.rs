//! Types a boot command at a machine, and looks at its screen meanwhile.

use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::ahead::Ahead;
use super::command::{BootCommand, Step};
use super::key::{Key, KeyEvent, Keyboard};
use super::pace::{Echo, Pace, Trace};
use super::pictures::Pictures;
use super::read_back::Line;
use super::screen::{Change, Screen, Tolerance};
use super::vnc::{Address, Vnc, interrupted};
use crate::error::{Error, Result};

/// How long a server may take to read what it was sent; QEMU answers in 30 ms.
const FLUSHED: Duration = Duration::from_secs(2);

/// Types at one machine.
#[derive(Debug)]
pub struct Typist {
    pub(super) vnc: Vnc,
    pub(super) keyboard: Keyboard,
    pub(super) cancel: CancellationToken,
    pub(super) tolerance: Tolerance,
    pub(super) pace: Pace,
    pub(super) echo: Echo,
    pub(super) typed: Typed,
    /// What is being typed, until a key comes that types no character.
    pub(super) line: Option<Line>,
    /// A special key was drawn, and perhaps not all that it does.
    pub(super) unsettled: bool,
    /// Where it is drawn, if keys may be typed ahead.
    pub(super) ahead: Option<Ahead>,
    /// The rows of pixels in which the cursor stands behind a line, if they are known.
    pub(super) cursor: Option<(usize, usize)>,
}

/// What was typed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Typed {
    /// Keys that were pressed and released.
    pub keys: u64,
    /// Key events, with those of shift.
    pub events: u64,
    /// The time that keys took, without the command's own waits.
    pub time: Duration,
    /// Keys of which nothing was seen on the screen.
    pub unseen: u64,
    /// Lines that the screen showed as they were typed.
    pub read_back: u64,
    /// Lines that were typed a second time.
    pub retyped: u64,
}

impl AddAssign for Typed {
    fn add_assign(&mut self, more: Self) {
        self.keys += more.keys;
        self.events += more.events;
        self.time += more.time;
        self.unseen += more.unseen;
        self.read_back += more.read_back;
        self.retyped += more.retyped;
    }
}

/// A boot command that was not typed to its end.
#[derive(Debug)]
pub struct Unfinished {
    /// Why.
    pub error: Error,
    /// Which string of the list, from 0, and which step of it, from 0.
    pub at: (usize, usize),
    /// The screen at that moment, as PNG.
    pub picture: Option<Vec<u8>>,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Unfinished {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<Unfinished> for Error {
    fn from(unfinished: Unfinished) -> Self {
        unfinished.error
    }
}

impl Typist {
    /// Connects to a machine's screen and keyboard.
    ///
    /// # Errors
    /// As [`Vnc::connect`].
    pub async fn connect(
        address: &Address,
        password: Option<&SecretString>,
        pace: Pace,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let vnc = Vnc::connect(address, password, cancel).await?;
        Ok(Self {
            vnc,
            keyboard: Keyboard::default(),
            cancel: cancel.clone(),
            tolerance: Tolerance::default(),
            pace,
            echo: Echo::default(),
            typed: Typed::default(),
            line: None,
            unsettled: false,
            ahead: None,
            cursor: None,
        })
    }

    /// How like a picture the screen must be; the default is [`Tolerance::default`].
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Types a command whose variables are bound; `pictures` are those that it waits for.
    ///
    /// # Errors
    /// The screen does not show what is waited for, the machine is gone, or the token fires; with the screen as it
    /// was then.
    pub async fn run(&mut self, command: &BootCommand, pictures: &Pictures) -> Result<Typed, Box<Unfinished>> {
        self.typed = Typed::default();
        self.echo.unseen = 0;
        (self.line, self.ahead) = (None, None);
        for (group, steps) in command.groups().iter().enumerate() {
            for (number, step) in steps.iter().enumerate() {
                let done = self.step(step, pictures).await;
                done.map_err(|error| self.unfinished(error, (group, number)))?;
            }
            let rested = self.pause(self.pace.group_interval).await;
            rested.map_err(|error| self.unfinished(error, (group, steps.len())))?;
        }
        let finished = match self.finish_line().await {
            Ok(()) => self.flush().await,
            failed => failed,
        };
        finished.map_err(|error| self.unfinished(error, (command.groups().len(), 0)))?;
        self.typed.unseen = self.echo.unseen;
        Ok(self.typed)
    }

    /// The screen as it was drawn last.
    pub fn screen(&self) -> &Screen {
        self.vnc.screen()
    }

    /// The screen as it is now, as PNG.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn screenshot(&mut self) -> Result<Vec<u8>> {
        self.vnc.catch_up().await?;
        self.vnc.screen().png()
    }

    /// Watches the screen without typing for so long (`boot_wait`).
    ///
    /// # Errors
    /// The machine is gone, or the token fires.
    pub async fn pause(&mut self, time: Duration) -> Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        self.until(Instant::now() + time, |_| false).await.map(drop)
    }

    /// Waits until the server has read the last key event: whoever hangs up before might lose it.
    async fn flush(&mut self) -> Result<()> {
        if self.typed.events > 0 {
            self.vnc.catch_up().await?;
            self.vnc.request_all().await?;
            self.until(Instant::now() + FLUSHED, |_| true).await?;
        }
        Ok(())
    }

    fn unfinished(&self, error: Error, at: (usize, usize)) -> Box<Unfinished> {
        let error = error.context(format!("the boot command was not typed to its end (`boot_command[{}]`)", at.0));
        Box::new(Unfinished { error, at, picture: self.vnc.screen().png().ok() })
    }

    async fn step(&mut self, step: &Step, pictures: &Pictures) -> Result<()> {
        let character = match step {
            Step::Press(key) if !self.keyboard.shifted() && !self.keyboard.commanding() => key.character(),
            _ => None,
        };
        if character.is_none() {
            self.finish_line().await?;
        }
        match (step, character) {
            (Step::Press(key), Some(character)) if self.pace.read_back => self.character(*key, character).await,
            (step, _) => self.other_step(step, pictures).await,
        }
    }

    async fn other_step(&mut self, step: &Step, pictures: &Pictures) -> Result<()> {
        match step {
            Step::Press(key) => drop(self.press(*key).await?),
            Step::Hold(key) => {
                let events = self.keyboard.hold(*key);
                self.send(&events).await?;
            }
            Step::Release(key) => {
                let events = self.keyboard.release(*key);
                self.send(&events).await?;
            }
            Step::Wait(time) => {
                self.pause(*time).await?;
                self.echo.forget();
            }
            Step::WaitForScreen(wait) => {
                self.wait_for(wait, pictures).await?;
                self.echo.forget();
            }
            Step::Variable(variable) => {
                return Err(Error::build(format!("`{variable}` in the boot command has got no value")));
            }
        }
        Ok(())
    }

    /// Presses and releases a key: whether something was drawn of it, where that was looked at.
    pub(super) async fn press(&mut self, key: Key) -> Result<Option<bool>> {
        let start = Instant::now();
        let trace = Trace::of(key, self.keyboard.commanding());
        self.vnc.catch_up().await?;
        let before = self.vnc.screen().clone();
        let events = self.keyboard.press(key);
        self.send(&events).await?;
        self.unsettled = trace == Trace::Doubtful && self.pace.echo;
        let mut seen = None;
        if self.pace.echo && !key.is_modifier() {
            seen = self.see(trace, &before, start).await?;
        }
        self.typed.keys += 1;
        self.typed.time += start.elapsed();
        Ok(seen)
    }

    /// Waits until a key was drawn, and after some until the guest rests.
    async fn see(&mut self, trace: Trace, before: &Screen, start: Instant) -> Result<Option<bool>> {
        let Some(patience) = self.echo.patience(trace) else { return Ok(None) };
        // All that is seen of the end of a line may be that the cursor is elsewhere.
        let cursor = self.cursor.take().filter(|_| trace == Trace::Line);
        let drawn = |screen: &Screen| match screen.change_since(before) {
            Change::Nothing => false,
            Change::Cursor => cursor
                .zip(screen.changed_rows(before))
                .is_some_and(|((from, to), (top, bottom))| top >= to || bottom < from),
            Change::Picture => true,
        };
        let seen = self.until(start + patience, drawn).await?;
        if seen {
            self.echo.drawn(trace, start.elapsed());
        } else {
            self.echo.missed(trace);
        }
        if let Some((quiet, limit)) = self.echo.rest(trace) {
            self.rest(quiet, Instant::now() + limit).await?;
        }
        Ok(Some(seen))
    }

    pub(super) async fn send(&mut self, events: &[KeyEvent]) -> Result<()> {
        for event in events {
            if self.cancel.is_cancelled() && event.down {
                return Err(interrupted());
            }
            self.vnc.send(*event).await?;
            self.typed.events += 1;
            self.pause(self.pace.key_interval).await?;
        }
        Ok(())
    }

    /// Watches the screen until `seen` says so of it, or until `deadline`: whether it did.
    pub(super) async fn until(&mut self, deadline: Instant, mut seen: impl FnMut(&Screen) -> bool) -> Result<bool> {
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(interrupted()),
                updated = self.vnc.update() => {
                    updated?;
                    if seen(self.vnc.screen()) {
                        return Ok(true);
                    }
                    // A screen that never rests must not keep the deadline from being seen.
                    if Instant::now() >= deadline {
                        return Ok(false);
                    }
                }
                () = sleep_until(deadline.into()) => return Ok(false),
            }
        }
    }
}

#[cfg(test)]
mod tests;
