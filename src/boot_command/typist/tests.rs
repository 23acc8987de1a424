//! A typist at a VNC server that draws what a test wants.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::boot_command::key::SHIFT;

const WIDTH: u16 = 256;
const HEIGHT: u16 = 40;

/// What the server's guest does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guest {
    /// Draws a letter so long after it came.
    Draws(Duration),
    /// Draws nothing.
    Silent,
    /// Draws nothing, but a cursor blinks.
    Blinks,
}

/// A key event that came, and how many letters were drawn by then.
type Came = (KeyEvent, u32);

/// RFB 3.8 without security, for one client that understands raw pixels.
struct Server {
    stream: UnixStream,
    guest: Guest,
    came: Arc<Mutex<Vec<Came>>>,
    letters: u32,
    cursor: bool,
    /// When the next letters will be drawn.
    coming: Vec<tokio::time::Instant>,
    asked: bool,
    changed: bool,
}

impl Server {
    async fn greet(&mut self) -> std::io::Result<()> {
        self.stream.write_all(b"RFB 003.008\n").await?;
        self.stream.read_exact(&mut [0; 12]).await?;
        self.stream.write_all(&[1, 1]).await?;
        self.stream.read_exact(&mut [0; 1]).await?;
        self.stream.write_all(&[0; 4]).await?;
        self.stream.read_exact(&mut [0; 1]).await?;
        let mut init = [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat();
        init.extend([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0, 0, 0, 0, 4]);
        init.extend(b"test");
        self.stream.write_all(&init).await
    }

    async fn serve(mut self) -> std::io::Result<()> {
        self.greet().await?;
        let mut blink = tokio::time::interval(Duration::from_millis(40));
        loop {
            let next = self.coming.first().copied();
            tokio::select! {
                kind = self.stream.read_u8() => self.message(kind?).await?,
                () = sleep_until(next.unwrap_or_else(tokio::time::Instant::now)), if next.is_some() => {
                    self.coming.remove(0);
                    self.letters += 1;
                    self.changed = true;
                }
                _ = blink.tick(), if self.guest == Guest::Blinks => {
                    self.cursor = !self.cursor;
                    self.changed = true;
                }
            }
            if self.asked && self.changed {
                (self.asked, self.changed) = (false, false);
                let frame = self.frame();
                self.stream.write_all(&frame).await?;
            }
        }
    }

    async fn message(&mut self, kind: u8) -> std::io::Result<()> {
        let mut body = vec![0; [19, 0, 3, 9, 7][usize::from(kind)]];
        self.stream.read_exact(&mut body).await?;
        match kind {
            2 => {
                let encodings = usize::from(u16::from_be_bytes([body[1], body[2]]));
                self.stream.read_exact(&mut vec![0; encodings * 4]).await?;
            }
            3 => {
                self.asked = true;
                self.changed |= body[0] == 0;
            }
            4 => {
                let keysym = u32::from_be_bytes([body[3], body[4], body[5], body[6]]);
                let event = KeyEvent { keysym, down: body[0] == 1 };
                self.came.lock().unwrap().push((event, self.letters));
                if let (Guest::Draws(after), true) = (self.guest, event.down && keysym != SHIFT.keysym()) {
                    self.coming.push(tokio::time::Instant::now() + after);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The whole screen: letters like an L, and the cursor behind them.
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0, 0, 0, 1, 0, 0, 0, 0];
        frame.extend([WIDTH.to_be_bytes(), HEIGHT.to_be_bytes(), [0; 2], [0; 2]].concat());
        for y in 0..u32::from(HEIGHT) {
            for x in 0..u32::from(WIDTH) {
                let (cell, column) = (x / 8, x % 8);
                let letter = cell < self.letters && ((column == 1 && y > 3) || y == 15) && y < 16;
                let cursor = self.cursor && cell == self.letters && (14..16).contains(&y);
                frame.extend([if letter || cursor { 255 } else { 0 }; 4]);
            }
        }
        frame
    }
}

struct Desk {
    typist: Typist,
    came: Arc<Mutex<Vec<Came>>>,
    cancel: CancellationToken,
    _folder: TempDir,
}

async fn desk(guest: Guest, pace: Pace) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vnc");
    let listener = UnixListener::bind(&path).unwrap();
    let came = Arc::default();
    let seen = Arc::clone(&came);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (letters, cursor, coming) = (0, false, Vec::new());
        let server = Server { stream, guest, came: seen, letters, cursor, coming, asked: false, changed: true };
        server.serve().await
    });
    let cancel = CancellationToken::new();
    let typist = Typist::connect(&Address::Unix(path), None, pace, &cancel).await.unwrap();
    Desk { typist, came, cancel, _folder: folder }
}

impl Desk {
    async fn types(&mut self, text: &str) -> Result<Typed, Box<Unfinished>> {
        let command = BootCommand::parse(&[text]).unwrap();
        self.typist.run(&command, &Pictures::default()).await
    }

    /// What came, as `+61 -61`, with the number of letters that were drawn before each key went down.
    fn came(&self) -> (String, Vec<u32>) {
        let came = self.came.lock().unwrap();
        let shown = |(event, _): &Came| format!("{}{:X}", if event.down { '+' } else { '-' }, event.keysym);
        let keys = came.iter().filter(|(event, _)| event.down && event.keysym != SHIFT.keysym());
        (came.iter().map(shown).collect::<Vec<_>>().join(" "), keys.map(|(_, letters)| *letters).collect())
    }
}

#[tokio::test]
async fn a_key_waits_until_the_one_before_was_drawn() {
    let mut desk = desk(Guest::Draws(Duration::from_millis(60)), Pace::default()).await;
    let typed = desk.types("aB-c").await.unwrap();
    assert_eq!(desk.came(), ("+61 -61 +FFE1 +42 -42 -FFE1 +2D -2D +63 -63".to_owned(), vec![0, 1, 2, 3]));
    assert_eq!((typed.keys, typed.events, typed.unseen), (4, 10, 0));
    assert!(typed.time >= Duration::from_millis(240), "{typed:?}");
}

#[tokio::test]
async fn without_echo_a_key_takes_as_long_as_packers() {
    for guest in [Guest::Silent, Guest::Blinks] {
        let mut desk = desk(guest, Pace::default()).await;
        let typed = desk.types("abcd").await.unwrap();
        assert_eq!((typed.keys, typed.unseen), (4, 4), "{guest:?}");
        // The first one might have been drawn later.
        assert!(typed.time >= Duration::from_millis(1600) && typed.time < Duration::from_secs(10), "{typed:?}");
        assert_eq!(desk.came().0, "+61 -61 +62 -62 +63 -63 +64 -64");
    }
}

#[tokio::test]
async fn a_blinking_cursor_does_not_keep_the_screen_from_being_stable() {
    let mut desk = desk(Guest::Blinks, Pace::default()).await;
    desk.types("<waitForScreen stable 400ms 5s>").await.unwrap();
}

#[tokio::test]
async fn intervals_are_kept() {
    let pace = Pace {
        key_interval: Duration::from_millis(30),
        group_interval: Duration::from_millis(200),
        echo: false,
        read_back: false,
    };
    let mut desk = desk(Guest::Silent, pace).await;
    let start = Instant::now();
    let command = BootCommand::parse(&["A", "b"]).unwrap();
    let typed = desk.typist.run(&command, &Pictures::default()).await.unwrap();
    assert!(typed.time >= Duration::from_millis(180), "{typed:?}");
    assert!(start.elapsed() >= Duration::from_millis(580), "{:?}", start.elapsed());
    assert_eq!(desk.came().0, "+FFE1 +41 -41 -FFE1 +62 -62");
}

#[tokio::test]
async fn the_last_event_arrives_before_the_run_ends() {
    let mut desk = desk(Guest::Silent, Pace { echo: false, ..Pace::default() }).await;
    desk.types("<leftCtrlOn><leftAltOn><f2On><f2Off><leftAltOff><leftCtrlOff>").await.unwrap();
    assert_eq!(desk.came().0, "+FFE3 +FFE9 +FFBF -FFBF -FFE9 -FFE3");
}

#[tokio::test]
async fn a_cancelled_run_says_where_it_was() {
    let mut desk = desk(Guest::Draws(Duration::ZERO), Pace::default()).await;
    let cancel = desk.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    });
    let unfinished = desk.types("ab<wait1h>c").await.unwrap_err();
    assert_eq!(unfinished.at, (0, 2));
    assert_eq!(unfinished.error.kind(), crate::error::Kind::Interrupted);
    assert_eq!(unfinished.to_string(), "the boot command was not typed to its end (`boot_command[0]`)");
    assert_eq!(Screen::from_png(&unfinished.picture.unwrap()).unwrap().size(), (WIDTH.into(), HEIGHT.into()));
    assert_eq!(desk.came().0, "+61 -61 +62 -62");
}

#[tokio::test]
async fn a_variable_without_a_value_is_not_typed() {
    let mut desk = desk(Guest::Silent, Pace::default()).await;
    let unfinished = desk.types("{{ .HTTPIP }}").await.unwrap_err();
    assert_eq!(unfinished.error.chain()[1], "`{{ .HTTPIP }}` in the boot command has got no value");
}
