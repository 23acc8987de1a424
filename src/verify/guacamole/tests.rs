//! The client against a guacd that plays its part as the protocol's documentation says.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::protocol::{Instruction, Parser, encode};
use super::raster::tests::png_rgba;
use super::{Connection, End, Followed, Login, Screen, Status};
use crate::error::{Error, Kind};

/// Far longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);
/// For what shall not come.
const SHORT: Duration = Duration::from_millis(50);
const SCREEN: Screen = Screen { width: 1280, height: 1024, dpi: 96 };
const TOKEN: &str = "eyJ.secret,token;.x";
const ID: &str = "$260d01da-779b-4ee9-afc1-c16bae885cc7";

/// The first arguments of RDP in guacd 1.3, and some that come later.
const ARGS_1_3: &[&str] = &[
    "VERSION_1_3_0",
    "hostname",
    "port",
    "domain",
    "username",
    "password",
    "width",
    "height",
    "dpi",
    "initial-program",
    "color-depth",
    "disable-audio",
    "server-layout",
    "security",
    "ignore-cert",
];
/// Some of guacd 1.6, which tells the protocol version 1.5.0 and has `timeout` in between.
const ARGS_1_6: &[&str] = &[
    "VERSION_1_5_0",
    "hostname",
    "port",
    "timeout",
    "domain",
    "username",
    "password",
    "color-depth",
    "server-layout",
    "ignore-cert",
    "disable-gfx",
    "force-lossless",
];

/// guacd's side of one connection.
struct Guacd {
    stream: TcpStream,
    parser: Parser,
}

impl Guacd {
    /// The next instruction as words, none at the end.
    async fn hear(&mut self) -> Option<Vec<String>> {
        let words = |instruction: Instruction| {
            let arguments = instruction.arguments().iter().cloned();
            std::iter::once(instruction.opcode().to_owned()).chain(arguments).collect()
        };
        let mut chunk = [0; 1024];
        loop {
            if let Some(instruction) = self.parser.next().unwrap() {
                return Some(words(instruction));
            }
            match self.stream.read(&mut chunk).await {
                Ok(count @ 1..) => self.parser.push(&chunk[..count]),
                _ => return None,
            }
        }
    }

    async fn expect(&mut self, words: &[&str]) {
        assert_eq!(self.hear().await.unwrap(), words);
    }

    async fn say(&mut self, words: &[&str]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, words[0], &words[1..]);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Says lines of words.
    async fn draw(&mut self, lines: &str) {
        for line in lines.lines() {
            self.say(&line.split_whitespace().collect::<Vec<_>>()).await;
        }
    }

    /// The handshake of a new session; gives what was connected with.
    async fn shake(&mut self, args: &[&str]) -> Vec<String> {
        self.expect(&["select", "rdp"]).await;
        self.say(&[&["args"], args].concat()).await;
        self.expect(&["size", "1280", "1024", "96"]).await;
        self.expect(&["audio"]).await;
        self.expect(&["video"]).await;
        self.expect(&["image", "image/png"]).await;
        let connect = self.hear().await.unwrap();
        self.say(&["ready", ID]).await;
        connect
    }

    /// Hears all until the client leaves.
    async fn rest(mut self) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        while let Some(words) = self.hear().await {
            all.push(words);
        }
        all
    }
}

/// What a guacd of a test does, once somebody connects to it.
macro_rules! guacd {
    (|$guacd:ident| $part:block) => {{
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task: JoinHandle<_> = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            #[allow(unused_mut)]
            let mut $guacd = Guacd { stream, parser: Parser::new() };
            $part
        });
        (address, task)
    }};
}

fn login() -> Login {
    Login::new("10.0.0.5", 3389, "joebloggs", SecretString::from(TOKEN), SCREEN)
}

async fn open(address: SocketAddr) -> Connection {
    Connection::open(address, &login(), LONG).await.unwrap()
}

/// The error of a handshake, with the address taken out.
async fn refused(address: SocketAddr, patience: Duration) -> Vec<String> {
    let error: Error = Connection::open(address, &login(), patience).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Verification);
    assert!(!format!("{error:?}").contains(TOKEN));
    error.chain().iter().map(|line| line.replace(&address.to_string(), "HERE")).collect()
}

#[tokio::test]
async fn the_handshake_with_1_3_answers_in_its_order() {
    let (address, task) = guacd!(|guacd| { guacd.shake(ARGS_1_3).await });
    let connection = open(address).await;
    assert_eq!((connection.id(), connection.version()), (ID, Some("VERSION_1_3_0")));
    assert!(!format!("{connection:?}").contains(TOKEN));
    let expected = [
        "connect",
        "VERSION_1_3_0",
        "10.0.0.5",
        "3389",
        "",
        "joebloggs",
        TOKEN,
        "",
        "",
        "",
        "",
        "16",
        "",
        "en-us-qwerty",
        "",
        "true",
    ];
    assert_eq!(task.await.unwrap(), expected);
}

#[tokio::test]
async fn the_handshake_with_1_6_answers_in_its_order() {
    let (address, task) = guacd!(|guacd| { guacd.shake(ARGS_1_6).await });
    let login = Login { server_layout: "fr-fr-azerty".to_owned(), ignore_cert: false, colour_depth: 24, ..login() };
    let connection = Connection::open(address, &login, LONG).await.unwrap();
    assert_eq!((connection.id(), connection.version()), (ID, Some("VERSION_1_5_0")));
    let expected = [
        "connect",
        "VERSION_1_5_0",
        "10.0.0.5",
        "3389",
        "",
        "",
        "joebloggs",
        TOKEN,
        "24",
        "fr-fr-azerty",
        "",
        "",
        "true",
    ];
    assert_eq!(task.await.unwrap(), expected);
}

#[tokio::test]
async fn a_guacd_without_versions_is_answered_too() {
    let (address, task) = guacd!(|guacd| { guacd.shake(&["hostname", "force-lossless"]).await });
    let login = Login { lossless: false, ..login() };
    let connection = Connection::open(address, &login, LONG).await.unwrap();
    assert_eq!(connection.version(), None);
    assert_eq!(task.await.unwrap(), ["connect", "10.0.0.5", ""]);
}

#[tokio::test]
async fn the_bytes_are_the_protocols() {
    let (address, task) = guacd!(|guacd| {
        let mut heard = vec![0; "6.select,3.rdp;".len()];
        guacd.stream.read_exact(&mut heard).await.unwrap();
        guacd.stream.write_all(b"4.args,13.VERSION_1_5_0,8.hostname,8.password;").await.unwrap();
        let rest = "4.size,4.1280,4.1024,2.96;5.audio;5.video;5.image,9.image/png;\
                    7.connect,13.VERSION_1_5_0,8.10.0.0.5,3.\u{e9},;;";
        let mut more = vec![0; rest.len()];
        guacd.stream.read_exact(&mut more).await.unwrap();
        guacd.stream.write_all(b"5.ready,2.$x;").await.unwrap();
        heard.extend(more);
        (String::from_utf8(heard).unwrap(), format!("6.select,3.rdp;{rest}"))
    });
    let login = Login { password: SecretString::from("\u{e9},;"), ..login() };
    assert_eq!(Connection::open(address, &login, LONG).await.unwrap().id(), "$x");
    let (heard, expected) = task.await.unwrap();
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_running_session_is_joined() {
    let (address, task) = guacd!(|guacd| {
        guacd.expect(&["select", ID]).await;
        guacd.say(&[&["args"], ARGS_1_6].concat()).await;
        for opcode in ["size", "audio", "video", "image"] {
            assert_eq!(guacd.hear().await.unwrap()[0], opcode);
        }
        let connect = guacd.hear().await.unwrap();
        guacd.say(&["ready", ID]).await;
        connect
    });
    let connection = Connection::join(address, ID, SCREEN, LONG).await.unwrap();
    assert_eq!(connection.id(), ID);
    let mut expected = vec![""; ARGS_1_6.len() + 1];
    expected[..2].copy_from_slice(&["connect", "VERSION_1_5_0"]);
    assert_eq!(task.await.unwrap(), expected);
}

#[tokio::test]
async fn refusals_of_the_handshake_are_told() {
    let (address, _task) = guacd!(|guacd| {
        guacd.hear().await;
        guacd.say(&["error", "Bad\u{1b} login", "769"]).await;
        guacd.rest().await
    });
    let expected = [
        "guacd at HERE did not send `args` in the handshake",
        "guacd reports status 769 (0x0301): not authorized: the login was refused (\"Bad login\")",
    ];
    assert_eq!(refused(address, LONG).await, expected);

    let (address, _task) = guacd!(|guacd| {
        guacd.hear().await;
        guacd.say(&["args", "hostname"]).await;
        for _ in 0..5 {
            guacd.hear().await;
        }
    });
    let chain = refused(address, LONG).await;
    assert_eq!(chain, ["guacd at HERE did not send `ready` in the handshake", "it closed the connection"]);

    let (address, _task) = guacd!(|guacd| {
        guacd.say(&["sync", "1"]).await;
        guacd.rest().await
    });
    assert_eq!(refused(address, LONG).await[1], "it sent `sync`");

    let (address, _task) = guacd!(|guacd| {
        guacd.stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        guacd.rest().await
    });
    assert_eq!(refused(address, LONG).await[1], "what was received is not the Guacamole protocol");
}

#[tokio::test]
async fn silence_and_absence_are_told() {
    let (address, _task) = guacd!(|guacd| { guacd.rest().await });
    let chain = refused(address, SHORT).await;
    assert_eq!(chain, ["guacd at HERE did not send `args` in the handshake", "it said nothing in time"]);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(refused(address, LONG).await[0], "cannot connect to guacd at HERE");
}

#[tokio::test]
async fn a_desktop_is_drawn_and_followed() {
    let wallpaper: Vec<[u8; 4]> = (0..64).map(|i| [i as u8, 2 * i as u8, 200, 255]).collect();
    let png = png_rgba(8, 8, &wallpaper);
    let (address, task) = guacd!(|guacd| {
        guacd.shake(ARGS_1_6).await;
        guacd.draw("size 0 0 0\nsync 1 0").await;
        guacd.draw("size 0 8 8\nnop\nimg 1 14 0 image/png 0 0").await;
        for part in png.chunks(50) {
            guacd.say(&["blob", "1", &STANDARD.encode(part)]).await;
        }
        guacd.draw("end 1\nclipboard 3 text/plain\nfile 5 a/b c\nsync 2 1").await;
        guacd.draw("rect 0 0 6 8 2\ncfill 14 0 40 40 40 255\ncopy 0 0 0 2 2 14 0 4 4\nsync 3 1").await;
        (png.chunks(50).count(), guacd.rest().await)
    });
    let mut connection = open(address).await;
    let first = connection.follow(LONG, |canvas| canvas.colours() > 1).await.unwrap();
    assert_eq!((first, connection.canvas().frames()), (Followed::Enough, 2));
    let canvas = connection.canvas();
    assert_eq!((canvas.width(), canvas.height(), canvas.colours()), (8, 8, 64));
    for (index, &[r, g, b, _]) in (0..).zip(&wallpaper) {
        assert_eq!(canvas.pixel(index % 8, index / 8), [r, g, b]);
    }
    // What is so already is seen without another frame.
    assert_eq!(connection.follow(LONG, |canvas| canvas.width() == 8).await.unwrap(), Followed::Enough);
    assert_eq!(connection.follow(LONG, |canvas| canvas.frames() == 3).await.unwrap(), Followed::Enough);

    let canvas = connection.canvas();
    let mut expected: Vec<[u8; 3]> = wallpaper.iter().map(|&[r, g, b, _]| [r, g, b]).collect();
    expected[48..].fill([40; 3]);
    for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        expected[(y + 4) * 8 + x + 4] = expected[y * 8 + x];
    }
    let mut reader = png::Decoder::new(std::io::Cursor::new(canvas.png().unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert_eq!(pixels, expected.as_flattened());
    assert_eq!((canvas.commonest(), canvas.undrawn()), (0.25, 0));

    connection.key(0xff0d, true);
    connection.mouse(3, 4, 1);
    connection.disconnect().await;
    let (blobs, heard) = task.await.unwrap();
    let heard: Vec<String> = heard.iter().map(|words| words.join(" ")).collect();
    let ack = ["ack 1 OK 0"].repeat(blobs);
    let before = ["sync 1", "nop"];
    let after = ["ack 3 OK 0", "ack 5 unsupported 256", "sync 2", "sync 3", "key 65293 1", "mouse 3 4 1", "disconnect"];
    assert_eq!(heard, [&before[..], &ack, &after].concat());
}

#[tokio::test]
async fn following_ends_with_the_session() {
    for (last, end) in [
        (Some("error Refused 519"), End::Error { status: Status(519), message: "Refused".to_owned() }),
        (Some("disconnect"), End::Disconnected),
        (Some("required username password"), End::Required(vec!["username".to_owned(), "password".to_owned()])),
        (None, End::Closed),
    ] {
        let (address, _task) = guacd!(|guacd| {
            guacd.shake(ARGS_1_3).await;
            guacd.draw("size 0 1 1\nsync 1").await;
            guacd.draw(last.unwrap_or_default()).await;
            guacd.stream.shutdown().await.unwrap();
            guacd.rest().await
        });
        let mut connection = open(address).await;
        for _ in 0..2 {
            let followed = connection.follow(LONG, |_| false).await.unwrap();
            assert_eq!(followed, Followed::Ended(end.clone()));
        }
        assert_eq!(connection.canvas().frames(), 1);
    }
    let error = End::Error { status: Status(519), message: "Refused".to_owned() }.to_string();
    assert!(error.starts_with("guacd reports status 519 (0x0207): the desktop's server"), "{error}");
}

#[tokio::test]
async fn a_quiet_desktop_times_out_and_goes_on() {
    let (go, wait) = tokio::sync::oneshot::channel();
    let (address, _task) = guacd!(|guacd| {
        guacd.shake(ARGS_1_3).await;
        // Half an instruction is kept over the limit.
        guacd.stream.write_all(b"4.size,1.0,1.7,1").await.unwrap();
        wait.await.unwrap();
        guacd.stream.write_all(b".5;4.sync,1.1;").await.unwrap();
        guacd.rest().await
    });
    let mut connection = open(address).await;
    assert_eq!(connection.follow(SHORT, |_| true).await.unwrap(), Followed::TimedOut);
    go.send(()).unwrap();
    assert_eq!(connection.follow(LONG, |canvas| canvas.height() == 5).await.unwrap(), Followed::Enough);
}

#[tokio::test]
async fn guacd_hears_of_us_while_it_is_quiet() {
    let (address, _task) = guacd!(|guacd| {
        guacd.shake(ARGS_1_3).await;
        guacd.expect(&["nop"]).await;
        guacd.expect(&["nop"]).await;
        guacd.say(&["disconnect"]).await;
        guacd.rest().await
    });
    let mut connection = open(address).await;
    connection.keep_alive(Duration::from_millis(10));
    assert_eq!(connection.follow(LONG, |_| false).await.unwrap(), Followed::Ended(End::Disconnected));
}

#[tokio::test]
async fn dropping_a_follow_loses_nothing() {
    let (address, _task) = guacd!(|guacd| {
        guacd.shake(ARGS_1_3).await;
        guacd.draw("size 0 2 1\nsync 1").await;
        guacd.expect(&["sync", "1"]).await;
        guacd.draw("size 0 3 1\nsync 2").await;
        guacd.expect(&["sync", "2"]).await;
        guacd.say(&["disconnect"]).await;
        guacd.rest().await
    });
    let mut connection = open(address).await;
    let end = loop {
        tokio::select! {
            biased;
            followed = connection.follow(LONG, |_| false) => break followed.unwrap(),
            () = tokio::task::yield_now() => {}
        }
    };
    assert_eq!((end, connection.canvas().width()), (Followed::Ended(End::Disconnected), 3));
}

#[tokio::test]
async fn what_cannot_be_drawn_is_an_error() {
    let (address, _task) = guacd!(|guacd| {
        guacd.shake(ARGS_1_3).await;
        guacd.draw("size 0 100000 100000").await;
        guacd.rest().await
    });
    let error = open(address).await.follow(LONG, |_| true).await.unwrap_err();
    assert_eq!(error.to_string(), "guacd draws a picture of 100000x100000 pixels, which is too large");
    assert_eq!(error.kind(), Kind::Verification);
}

#[tokio::test]
async fn a_guacd_that_does_not_listen_is_not_fed_for_ever() {
    let (address, _task) = guacd!(|guacd| {
        guacd.shake(ARGS_1_3).await;
        let mut sync = Vec::new();
        encode(&mut sync, "sync", ["1".repeat(8000)]);
        // It goes on until the client leaves.
        while guacd.stream.write_all(&sync).await.is_ok() {}
    });
    let error = open(address).await.follow(LONG, |_| false).await.unwrap_err();
    assert_eq!(error.to_string(), "guacd does not read what it is sent");
}

#[test]
fn the_futures_can_move_between_threads() {
    fn check<T: Send>(_: T) {}
    check(Connection::open(([127, 0, 0, 1], 4822).into(), &login(), LONG));
    check(async {
        if let Ok(mut connection) = Connection::join(([127, 0, 0, 1], 4822).into(), ID, SCREEN, LONG).await {
            drop(connection.follow(LONG, |_| true).await);
        }
    });
}
