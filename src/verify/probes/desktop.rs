//! Probes of the desktop, the way that a user takes: through guacd, with a signed token.

use std::net::SocketAddr;
use std::time::Duration;

use super::expect::shown;
use super::{Bench, Probed, failed, not_run};
use crate::error::Result;
use crate::verify::contract::{Expect, GUACD, Login, PamResult, Picture, Token};
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

/// A desktop that is asked for, and what it must look like.
struct Session<'a> {
    guacd: SocketAddr,
    /// Where guacd finds xrdp: its own machine, by the machine's outside address.
    host: String,
    user: String,
    token: Token,
    screen: Screen,
    picture: &'a Picture,
}

impl Bench<'_, '_> {
    pub(super) async fn guacamole_arguments(&mut self, expect: &Expect) -> Probed {
        let address = match self.running() {
            Ok(instance) => instance.address(GUACD)?,
            Err(why) => return not_run(why),
        };
        let answer = ports::ask(address, SELECT, READY).await?;
        let answer = String::from_utf8_lossy(&answer);
        let name = "guacd's handshake".to_owned();
        if !answer.starts_with("4.args,13.VERSION_") {
            let expected = "`args` with a version and the names of its arguments".to_owned();
            return failed(name, expected, shown(&answer));
        }
        self.judge(name, expect, &answer)
    }

    pub(super) async fn desktop(
        &mut self,
        login: &Login,
        result: PamResult,
        (width, height): (u32, u32),
        picture: &Picture,
        join: bool,
    ) -> Probed {
        let instance = match self.running() {
            Ok(instance) => instance,
            Err(why) => return not_run(why),
        };
        let session = Session {
            guacd: instance.address(GUACD)?,
            host: instance.variables["address"].clone(),
            user: self.fill(&login.user),
            token: login.token,
            screen: Screen { width, height, dpi: 96 },
            picture,
        };
        let name = format!("session of {} through guacd, with {}", session.user, session.token.name());
        if result == PamResult::Refused {
            let connection = self.open(&session).await?;
            return self.refused(name, connection).await;
        }
        let (mut connection, followed) = self.drawn(&session).await?;
        if self.pictures.is_empty() && followed == Followed::Enough {
            connection.follow(SETTLED, |_| false).await?;
        }
        if connection.canvas().width() > 0 {
            self.pictures.push((format!("The desktop of {}", session.user), connection.canvas().png()?));
        }
        match (followed, unlike(connection.canvas(), picture)) {
            (Followed::Ended(end), _) => return failed(name, "the desktop".to_owned(), end.to_string()),
            (Followed::TimedOut, Some(seen)) => return failed(name, expected(picture), seen),
            (Followed::Enough, _) | (Followed::TimedOut, None) => {}
        }
        let probed = if join { self.shared(name, &session, &mut connection).await? } else { Ok(()) };
        connection.disconnect().await;
        Ok(probed)
    }

    /// Opens a session, with a login made for it.
    async fn open(&self, session: &Session<'_>) -> Result<Connection> {
        let token = self.token(&session.user, session.token)?;
        let login = guacamole::Login::new(&session.host, XRDP, &session.user, token, session.screen);
        Connection::open(session.guacd, &login, READY * self.slowness).await
    }

    /// Opens a session until something is drawn, as a user does whose browser stays empty.
    async fn drawn(&mut self, session: &Session<'_>) -> Result<(Connection, Followed)> {
        let mut attempt = 1;
        loop {
            // xorgxrdp serves one connection: one that comes while the last is being closed may get nothing.
            let _ = self.in_guest(LAST_IS_CLOSED, b"").await?;
            let mut connection = self.open(session).await?;
            let followed = self.follow(&mut connection, session.picture).await?;
            let nothing = followed != Followed::Enough && connection.canvas().width() == 0;
            if !nothing || attempt == ATTEMPTS {
                return Ok((connection, followed));
            }
            attempt += 1;
            connection.disconnect().await;
        }
    }

    /// Follows a session until it looks as it should.
    async fn follow(&self, connection: &mut Connection, picture: &Picture) -> Result<Followed> {
        connection.follow(DRAWN * self.slowness, |canvas| unlike(canvas, picture).is_none()).await
    }

    /// A second connection to a session sees it while the first goes on.
    async fn shared(&self, name: String, session: &Session<'_>, first: &mut Connection) -> Probed {
        let id = first.id().to_owned();
        // guacd draws for all or for none: it waits for one who does not read, and then hangs up on all.
        tokio::select! {
            joined = self.joined(&id, session) => joined,
            followed = first.follow(FIRST, |_| false) => {
                let seen = format!("the first connection ended meanwhile: {:?}", followed?);
                failed(name, "two connections to one session".to_owned(), seen)
            }
        }
    }

    /// A second connection sees the same desktop.
    async fn joined(&self, id: &str, session: &Session<'_>) -> Probed {
        let name = "a second connection to the session".to_owned();
        let mut second = Connection::join(session.guacd, id, session.screen, READY * self.slowness).await?;
        let followed = self.follow(&mut second, session.picture).await?;
        let seen = unlike(second.canvas(), session.picture);
        second.disconnect().await;
        match (followed, seen) {
            (Followed::Ended(end), _) => failed(name, "the desktop".to_owned(), end.to_string()),
            (_, Some(seen)) => failed(name, expected(session.picture), seen),
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
