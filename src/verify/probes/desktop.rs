//! Probes of the desktop, the way that a user takes: through guacd, with a signed token.

use std::time::Duration;

use super::expect::{shown, unmet};
use super::{Bench, Probed, failed, not_run};
use crate::verify::contract::{Expect, GUACD, Login, PamResult, Picture, variables};
use crate::verify::guacamole::{self, Canvas, Connection, End, Followed, Screen};
use crate::verify::ports;

/// Where guacd finds xrdp.
const XRDP: u16 = 3389;

/// How long guacd may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// How long the desktop may take to be drawn on a fast machine.
const DRAWN: Duration = Duration::from_secs(40);

/// How often a session is opened that shows nothing at all.
const ATTEMPTS: u32 = 3;

/// Waits, in the guest, until the last connection to xrdp is closed.
const LAST_IS_CLOSED: &str =
    "for _ in $(seq 20); do test -z \"$(ss -Htn state established '( sport = :3389 )')\" && break; sleep 1; done";

/// How long the first of two connections is followed: longer than the second may take.
const FIRST: Duration = Duration::from_secs(3600);

/// How long the first picture may still fill, for people to look at.
const SETTLED: Duration = Duration::from_secs(10);

/// How long a refusal may take on a fast machine.
const REFUSED: Duration = Duration::from_secs(20);

/// guacd's numbers for a desktop's server that is not there, or does not answer (libguac's protocol-types.h:
/// upstream timeout, not found, unavailable).
const UNREACHABLE: [i32; 3] = [0x0202, 0x0204, 0x0208];

/// The question that guacd answers with its arguments.
const SELECT: &[u8] = b"6.select,3.rdp;";

impl Bench<'_, '_> {
    pub(super) async fn guacamole_arguments(&mut self, expect: &Expect) -> Probed {
        let Some(instance) = self.instance.as_deref().filter(|instance| instance.is_on()) else {
            return not_run("the instance is off");
        };
        let answer = ports::ask(instance.address(GUACD)?, SELECT, READY).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if !answer.starts_with("4.args,13.VERSION_") {
            let expected = "`args` with a version and the names of its arguments".to_owned();
            return failed("guacd's handshake".to_owned(), expected, shown(&answer));
        }
        match unmet(expect, &answer, self.values()) {
            None => Ok(Ok(())),
            Some(expected) => failed("guacd's handshake".to_owned(), expected, shown(&answer)),
        }
    }

    pub(super) async fn desktop(
        &mut self,
        login: &Login,
        result: PamResult,
        (width, height): (u32, u32),
        picture: &Picture,
        join: bool,
    ) -> Probed {
        let user = variables::fill(&login.user, self.values(), str::to_owned);
        let token = self.token(&user, login.token)?;
        let Some(instance) = self.instance.as_deref().filter(|instance| instance.is_on()) else {
            return not_run("the instance is off");
        };
        let address = instance.address(GUACD)?;
        let screen = Screen { width, height, dpi: 96 };
        // guacd reaches xrdp of its own machine by the machine's outside address.
        let host = instance.variables["address"].clone();
        let mut login_data = guacamole::Login::new(&host, XRDP, &user, token, screen);
        let name = format!("session of {user} through guacd, with {}", login.token.name());
        if result == PamResult::Refused {
            let connection = Connection::open(address, &login_data, READY * self.slowness).await?;
            return self.refused(name, connection).await;
        }
        let mut attempt = 1;
        let (mut connection, followed) = loop {
            // xorgxrdp serves one connection: one that comes while the last is being closed may get nothing.
            let _ = self.in_guest(LAST_IS_CLOSED, b"").await?;
            let mut connection = Connection::open(address, &login_data, READY * self.slowness).await?;
            let followed = connection.follow(DRAWN * self.slowness, |canvas| unlike(canvas, picture).is_none()).await?;
            let nothing = followed != Followed::Enough && connection.canvas().width() == 0;
            if !nothing || attempt == ATTEMPTS {
                break (connection, followed);
            }
            // As a user does whose browser stays empty.
            attempt += 1;
            connection.disconnect().await;
            login_data = guacamole::Login::new(&host, XRDP, &user, self.token(&user, login.token)?, screen);
        };
        if self.pictures.is_empty() && followed == Followed::Enough {
            connection.follow(SETTLED, |_| false).await?;
        }
        if connection.canvas().width() > 0 {
            self.pictures.push((format!("The desktop of {user}"), connection.canvas().png()?));
        }
        let seen = unlike(connection.canvas(), picture);
        match (followed, seen) {
            (Followed::Enough, _) => {}
            (Followed::Ended(end), _) => return failed(name, "the desktop".to_owned(), end.to_string()),
            (Followed::TimedOut, Some(seen)) => return failed(name, expected(picture), seen),
            (Followed::TimedOut, None) => {}
        }
        if join {
            let id = connection.id().to_owned();
            let joined = self.joined(address, &id, screen, picture);
            // guacd draws for all or for none: it waits for one who does not read, and then hangs up on all.
            let joined = tokio::select! {
                joined = joined => joined?,
                followed = connection.follow(FIRST, |_| false) => {
                    let seen = format!("the first connection ended meanwhile: {:?}", followed?);
                    return failed(name, "two connections to one session".to_owned(), seen);
                }
            };
            connection.disconnect().await;
            return Ok(joined);
        }
        connection.disconnect().await;
        Ok(Ok(()))
    }

    /// A second connection sees the same desktop.
    async fn joined(&self, address: std::net::SocketAddr, id: &str, screen: Screen, picture: &Picture) -> Probed {
        let mut second = Connection::join(address, id, screen, READY * self.slowness).await?;
        let followed = second.follow(DRAWN * self.slowness, |canvas| unlike(canvas, picture).is_none()).await?;
        let seen = unlike(second.canvas(), picture);
        second.disconnect().await;
        match (followed, seen) {
            (Followed::Ended(end), _) => {
                failed("a second connection to the session".to_owned(), "the desktop".to_owned(), end.to_string())
            }
            (_, Some(seen)) => failed("a second connection to the session".to_owned(), expected(picture), seen),
            _ => Ok(Ok(())),
        }
    }

    /// The session must end by itself, and nothing of a desktop be seen before.
    async fn refused(&mut self, name: String, mut connection: Connection) -> Probed {
        let desktop = Picture { colours: 64, commonest: 95 };
        let followed = connection.follow(REFUSED * self.slowness, |canvas| unlike(canvas, &desktop).is_none()).await?;
        match followed {
            // guacd tells an end that the desktop's server wanted; what breaks on the way is none.
            Followed::Ended(End::Disconnected) => Ok(Ok(())),
            Followed::Ended(End::Error { status, .. }) if !UNREACHABLE.contains(&status.0) => Ok(Ok(())),
            Followed::Ended(end) => failed(name, "a refusal".to_owned(), end.to_string()),
            Followed::Enough => {
                self.pictures.push((format!("{name}, which should be refused"), connection.canvas().png()?));
                failed(name, "a refusal".to_owned(), "a desktop was drawn".to_owned())
            }
            Followed::TimedOut => {
                let colours = connection.canvas().colours();
                failed(
                    name,
                    "the end of the session".to_owned(),
                    format!("it stays open, with a picture of {colours} colours"),
                )
            }
        }
    }
}

/// In what a canvas is unlike the picture that it should be; none if it is like it.
fn unlike(canvas: &Canvas, picture: &Picture) -> Option<String> {
    if canvas.width() == 0 {
        return Some("nothing was drawn".to_owned());
    }
    let (colours, commonest) = (canvas.colours(), canvas.commonest() * 100.0);
    (colours < picture.colours || commonest > f64::from(picture.commonest))
        .then(|| format!("{colours} colours, and {commonest:.0} % of the picture has one and the same"))
}

fn expected(picture: &Picture) -> String {
    format!("{} colours, and none with more than {} % of the picture", picture.colours, picture.commonest)
}
