//! Who looks at which machine, and who of them has taken it over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tokio::sync::watch;

use super::story::Story;
use crate::event::{Events, Level};

/// Why a page does not get the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such page looks at a machine.
    Unknown,
    /// Another page has it.
    Taken,
    /// A boot command is being typed.
    Typing,
}

#[derive(Debug)]
struct Seat {
    machine: String,
    template: String,
    typing: watch::Sender<bool>,
}

/// All pages that look at a machine, by names that they gave themselves.
#[derive(Debug)]
pub(super) struct Seats {
    story: Arc<Story>,
    events: Mutex<Events>,
    seats: Mutex<BTreeMap<String, Seat>>,
}

/// A page's place, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    seats: Arc<Seats>,
    viewer: String,
    /// Whether it may type.
    pub(super) typing: watch::Receiver<bool>,
}

impl Seats {
    /// None yet.
    pub(super) fn new(story: Arc<Story>) -> Self {
        Self { story, events: Mutex::new(Events::none()), seats: Mutex::default() }
    }

    /// Who is told of what is done from now on.
    pub(super) fn tell(&self, events: &Events) {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = events.clone();
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Seat>> {
        // Nothing is done with it that could panic half-way.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page `viewer` begins to look at `machine`, which is `template`'s; none if there is one of that name.
    pub(super) fn sit(self: &Arc<Self>, viewer: &str, machine: &str, template: &str) -> Option<Taken> {
        let mut seats = self.seats();
        if seats.contains_key(viewer) {
            return None;
        }
        let (sender, typing) = watch::channel(false);
        let seat = Seat { machine: machine.to_owned(), template: template.to_owned(), typing: sender };
        seats.insert(viewer.to_owned(), seat);
        Some(Taken { seats: Arc::clone(self), viewer: viewer.to_owned(), typing })
    }

    /// Lets a page type; `anyway` beside a boot command too.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn take(&self, viewer: &str, anyway: bool) -> Result<(), Refusal> {
        let seats = self.seats();
        let seat = seats.get(viewer).ok_or(Refusal::Unknown)?;
        if *seat.typing.borrow() {
            return Ok(());
        }
        let others = seats.values().any(|other| other.machine == seat.machine && *other.typing.borrow());
        if others {
            return Err(Refusal::Taken);
        }
        let typing = self.story.is_typing(&seat.template);
        if typing && !anyway {
            return Err(Refusal::Typing);
        }
        seat.typing.send_replace(true);
        let template = seat.template.clone();
        self.tell_taken(&seats);
        drop(seats);
        if typing {
            let text = "the screen was taken over in the live page while the boot command is typed: keys may mix";
            self.message(Level::Warning, &template, text);
        } else {
            self.message(Level::Info, &template, "the screen was taken over in the live page");
        }
        Ok(())
    }

    /// Lets a page type no more.
    ///
    /// # Errors
    /// There is no such page.
    pub(super) fn give_back(&self, viewer: &str) -> Result<(), Refusal> {
        let seats = self.seats();
        let seat = seats.get(viewer).ok_or(Refusal::Unknown)?;
        let typed = seat.typing.send_replace(false);
        let template = seat.template.clone();
        self.tell_taken(&seats);
        drop(seats);
        self.given_back(typed, &template);
        Ok(())
    }

    fn given_back(&self, typed: bool, template: &str) {
        if typed {
            self.message(Level::Info, template, "the live page gave the screen back");
        }
    }

    fn message(&self, level: Level, template: &str, text: &str) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match level {
            Level::Warning => events.warn(Some(template), text),
            _ => events.info(Some(template), text),
        }
    }

    /// Tells all pages which machines are taken over; not by whom.
    fn tell_taken(&self, seats: &BTreeMap<String, Seat>) {
        let taken: Vec<&str> = seats.values().filter(|seat| *seat.typing.borrow()).map(|seat| &*seat.machine).collect();
        self.story.tell("taken", json!({ "machines": taken }));
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seats = self.seats.seats();
        let Some(seat) = seats.remove(&self.viewer) else { return };
        let typed = *seat.typing.borrow();
        if typed {
            self.seats.tell_taken(&seats);
        }
        drop(seats);
        self.seats.given_back(typed, &seat.template);
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Teller;
    use super::*;
    use crate::event::Redactor;

    fn seats() -> (Arc<Seats>, Arc<Story>, Events) {
        let story = Arc::<Story>::default();
        let events = Events::new(vec![Box::new(Teller(Arc::clone(&story)))], Redactor::default());
        let seats = Arc::new(Seats::new(Arc::clone(&story)));
        seats.tell(&events);
        (seats, story, events)
    }

    fn said(story: &Story) -> Vec<String> {
        story.since(0, usize::MAX).told.iter().map(|told| told.json.to_string()).collect()
    }

    #[test]
    fn one_page_types_at_a_machine_and_gives_it_back_when_it_is_gone() {
        let (seats, story, _) = seats();
        let one = seats.sit("one", "t.layer", "t").unwrap();
        let two = seats.sit("two", "t.layer", "t").unwrap();
        let other = seats.sit("other", "u.layer", "u").unwrap();
        assert!(seats.sit("one", "t.layer", "t").is_none(), "a name is one page's");
        assert_eq!(seats.take("three", false), Err(Refusal::Unknown));
        for _ in 0..2 {
            assert_eq!(seats.take("one", false), Ok(()));
        }
        assert_eq!(seats.take("two", true), Err(Refusal::Taken));
        assert_eq!(seats.take("other", false), Ok(()), "another machine");
        assert_eq!((*one.typing.borrow(), *two.typing.borrow()), (true, false));
        drop(one);
        assert_eq!(seats.take("two", false), Ok(()));
        assert_eq!(seats.give_back("two"), Ok(()));
        assert!(!*two.typing.borrow());
        drop((two, other));
        let said = said(&story);
        assert!(said.last().unwrap().contains("the live page gave the screen back"), "{said:#?}");
        assert!(said.iter().any(|line| line.starts_with(r#"{"machines":[],"event":"taken"}"#)), "{said:#?}");
        assert_eq!(said.iter().filter(|line| line.contains("was taken over")).count(), 3);
        assert_eq!(said.iter().filter(|line| line.contains("gave the screen back")).count(), 3);
    }

    #[test]
    fn beside_a_boot_command_a_page_types_only_if_it_insists() {
        let (seats, story, events) = seats();
        let _one = seats.sit("one", "t.install", "t").unwrap();
        let typing = events.typing("t");
        assert_eq!(seats.take("one", false), Err(Refusal::Typing));
        assert_eq!(seats.take("one", true), Ok(()));
        assert!(said(&story).iter().any(|line| line.contains("keys may mix") && line.contains("warning")));
        seats.give_back("one").unwrap();
        drop(typing);
        assert_eq!(seats.take("one", false), Ok(()));
    }
}
