//! The program that is a machine's TPM.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::config::socket;
use super::{Ended, Reporter, Stderr, Tpm, Watch};
use crate::error::{Context, Error, Kind, Result};
use crate::event::Events;
use crate::process;

/// Its program.
pub(crate) const PROGRAM: &str = "swtpm";

/// How long it may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// QEMU tells it to end a moment before it ends itself: only after this long it has ended too early. One that was
/// killed or failed is told at once, because QEMU ends over it.
const LAG: Duration = Duration::from_secs(2);

/// A TPM that QEMU can connect to.
pub(super) struct Swtpm {
    child: Child,
    stderr: Stderr,
}

impl Swtpm {
    /// Starts it. Its socket listens before it runs, so that QEMU need not wait for it.
    ///
    /// # Errors
    /// The socket cannot be made, or the program is missing (kind host).
    pub(super) async fn start(tpm: &Tpm, runtime: &Path, events: &Events, template: &str) -> Result<Self> {
        let path = socket(runtime, "tpm");
        let listener = UnixListener::bind(&path).context(Kind::Host, || format!("listening on {}", path.display()))?;
        let mut state = std::ffi::OsString::from("dir=");
        state.push(&tpm.state);
        let mut command = Command::new(PROGRAM);
        command.args(["socket", "--ctrl", "type=unixio,fd=0", "--tpmstate"]).arg(state);
        if !tpm.version1 {
            command.arg("--tpm2");
        }
        command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = process::spawn(command).await.map_err(|error| {
            Error::host(format!("cannot run `{PROGRAM}`"))
                .because(error)
                .hint("it emulates the TPM that `vtpm` asks for; its package is called `swtpm`")
        })?;
        let (stderr, _) = Stderr::follow(child.stderr.take(), PROGRAM, events, template);
        Ok(Self { child, stderr })
    }

    /// Keeps it for as long as the machine lives; its end before that is the machine's.
    pub(super) fn follow(mut self, watch: Watch, reporter: Reporter) {
        tokio::spawn(async move {
            let status = tokio::select! {
                status = self.child.wait() => status,
                () = watch.gone() => process::stop(&mut self.child, GRACE).await,
            };
            let failed = status.as_ref().is_ok_and(|status| !status.success());
            if failed || tokio::time::timeout(LAG, watch.ended()).await.is_err() {
                reporter.end(Ended::of(PROGRAM, status.ok(), self.stderr.text()));
            }
        });
    }
}
