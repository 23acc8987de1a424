//! What is tested, and how it is written.

use std::time::Duration;

use crate::error::Location;

/// Where guacd listens.
pub const GUACD: u16 = 4822;

/// Where JupyterLab listens.
pub const JUPYTER: u16 = 8888;

/// One test.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The test.
    pub what: What,
    /// It is made again until it succeeds, or this long.
    pub within: Option<Duration>,
    /// Where it is written.
    pub location: Location,
}

/// The tests that there are.
#[derive(Debug, Clone)]
pub enum What {
    /// The image itself: a flat qcow2 or raw without snapshots.
    Image,
    /// Every byte of the disk, free space too, holds none of the build's secrets.
    Secrets,
    /// A file, or all that match a pattern; read offline at the level static, else in the guest.
    File {
        /// Path, perhaps with `*` and `?`.
        path: String,
        /// Whether there must be one.
        presence: Presence,
        /// Paths that are left out.
        except: Vec<String>,
        /// Permission bits that it must have exactly.
        mode: Option<u32>,
        /// `user:group` by name.
        owner: Option<String>,
        /// It must have no byte.
        empty: bool,
        /// What must be in it.
        content: Expect,
    },
    /// Root is locked, or has exactly the password that was asked for.
    RootPassword,
    /// Set-uid, set-gid and world-writable files that are not in the list of those known.
    Modes {
        /// Paths that may be set-uid or set-gid.
        privileged: Vec<String>,
        /// Paths that everybody may write.
        writable: Vec<String>,
    },
    /// A command in the guest, by bash.
    Command {
        /// The command.
        run: String,
        /// Whose it is; root if not set.
        user: Option<String>,
        /// Exit code.
        status: u32,
        /// What it must say, on either stream.
        output: Expect,
    },
    /// A unit of the service manager.
    Unit {
        /// Its name.
        name: String,
        /// Whether it must be active.
        active: Option<bool>,
        /// Whether it must be enabled.
        enabled: Option<bool>,
    },
    /// Ports on which something listens on an address other than loopback.
    Listening {
        /// They must listen on all addresses.
        ports: Vec<u16>,
        /// Nothing else may.
        only: bool,
    },
    /// A connection from outside that is taken and answered.
    Port {
        /// TCP port of the guest.
        port: u16,
        /// Connections that are opened and closed without a word, before that.
        empty_connections: usize,
    },
    /// The X.224 negotiation of RDP chooses TLS.
    RdpTls {
        /// TCP port of the guest.
        port: u16,
    },
    /// An HTTP request.
    Http {
        /// TCP port of the guest.
        port: u16,
        /// Path and query.
        path: String,
        /// Method.
        method: String,
        /// Headers.
        headers: Vec<(String, String)>,
        /// Statuses of which the answer must have one.
        status: Vec<u16>,
        /// What its headers must be, as lines `name: value`.
        header: Expect,
        /// What its body must be.
        body: Expect,
    },
    /// A WebSocket is opened, or refused with a status.
    WebSocket {
        /// TCP port of the guest.
        port: u16,
        /// Path and query.
        path: String,
        /// Header `Origin`.
        origin: Option<String>,
        /// 101, or the status of the refusal.
        status: u16,
    },
    /// A kernel of Jupyter runs code.
    JupyterKernel {
        /// The code.
        run: String,
        /// What it must print.
        output: Expect,
    },
    /// A terminal of Jupyter runs a command.
    JupyterTerminal {
        /// The command.
        run: String,
        /// What it must print.
        output: Expect,
    },
    /// A page of another origin is refused a kernel's WebSocket.
    JupyterOrigin,
    /// A kernel is asked for without the token against cross-site requests, then with it.
    JupyterXsrf,
    /// A file goes up in pieces of 1 MiB and comes back the same.
    JupyterUpload {
        /// Its size, bytes.
        bytes: usize,
    },
    /// What the serial console said.
    Serial(Expect),
    /// A login by PAM in the guest.
    Pam {
        /// PAM's service.
        service: String,
        /// Who logs in.
        login: Login,
        /// What must come out.
        result: PamResult,
    },
    /// The guest's clock differs from the host's by no more than this.
    Clock(Duration),
    /// The first answer of guacd: the instruction with its version and the names of its arguments.
    GuacamoleArguments(Expect),
    /// A session through guacd, as the platform opens it.
    Guacamole {
        /// Who logs in.
        login: Login,
        /// Whether the desktop must be drawn, or the login be refused.
        result: PamResult,
        /// The size of the desktop.
        size: (u32, u32),
        /// What the picture must be like.
        picture: Picture,
        /// A second connection joins the session.
        join: bool,
    },
    /// The power is cut and comes back, as by Nova's hard reboot.
    Reset,
    /// The power button; the machine must be off in this time.
    PowerButton {
        /// The time.
        limit: Duration,
    },
    /// The ports that must answer after a boot or a reset, in this time.
    Ports {
        /// The time.
        limit: Duration,
    },
}

/// Whether a file must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It must.
    Required,
    /// It must not.
    Absent,
    /// It may; then it must be as the probe says.
    Optional,
}

/// Who logs in with what.
#[derive(Debug, Clone)]
pub struct Login {
    /// The account.
    pub user: String,
    /// The password.
    pub token: Token,
}

/// The password of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// As the platform makes it.
    Valid,
    /// Signed by another key.
    WrongKey,
    /// An hour old.
    Old,
    /// An hour in the future.
    Future,
    /// Made for another user, whose name is longer by one letter.
    OthersLonger,
    /// Made for somebody else.
    Others,
    /// No token at all but a word.
    Password,
}

/// What must come of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PamResult {
    /// It is let in.
    Accepted,
    /// It is not.
    Refused,
}

/// What the picture of a desktop must be like.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// Distinct colours, at least.
    pub colours: usize,
    /// Share of the commonest colour, percent, at most.
    pub commonest: u8,
}

/// What a text must be.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// The text without white space around it.
    pub equals: Option<String>,
    /// Each is in it.
    pub contains: Vec<String>,
    /// Regular expressions, `^` and `$` at each line; each matches somewhere.
    pub matches: Vec<String>,
    /// Regular expressions; none matches anywhere.
    pub excludes: Vec<String>,
}

impl Expect {
    /// All texts of it.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let lists = [&self.contains, &self.matches, &self.excludes];
        lists.into_iter().flatten().chain(&self.equals).map(String::as_str)
    }

    /// Whether anything is expected at all.
    pub fn is_empty(&self) -> bool {
        self.equals.is_none() && self.contains.is_empty() && self.matches.is_empty() && self.excludes.is_empty()
    }
}

impl What {
    /// The guest's port that it goes to.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Port { port, .. }
            | Self::RdpTls { port }
            | Self::Http { port, .. }
            | Self::WebSocket { port, .. } => Some(*port),
            Self::Guacamole { .. } | Self::GuacamoleArguments(_) => Some(GUACD),
            Self::JupyterKernel { .. }
            | Self::JupyterTerminal { .. }
            | Self::JupyterOrigin
            | Self::JupyterXsrf
            | Self::JupyterUpload { .. } => Some(JUPYTER),
            _ => None,
        }
    }

    /// The texts that may name variables.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::File { path, content, .. } => content.texts().chain([path.as_str()]).collect(),
            Self::Command { run, user, output, .. } => {
                output.texts().chain([run.as_str()]).chain(user.as_deref()).collect()
            }
            Self::JupyterKernel { run, output } | Self::JupyterTerminal { run, output } => {
                output.texts().chain([run.as_str()]).collect()
            }
            Self::Unit { name, .. } => vec![name],
            Self::Http { path, headers, header, body, .. } => {
                let headers = headers.iter().map(|(_, value)| value.as_str());
                header.texts().chain(body.texts()).chain(headers).chain([path.as_str()]).collect()
            }
            Self::WebSocket { path, origin, .. } => [path.as_str()].into_iter().chain(origin.as_deref()).collect(),
            Self::Serial(output) | Self::GuacamoleArguments(output) => output.texts().collect(),
            Self::Pam { login, .. } | Self::Guacamole { login, .. } => vec![&login.user],
            _ => Vec::new(),
        }
    }
}
