//! A machine that sits there: its guest shows something, and waits for somebody who never comes.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, network};
use super::{Ended, NetworkUse, Running, powered_off};
use crate::boot_command::{Change, Screen};
use crate::error::{Context, Kind, Result};

/// How long a guest may do nothing that can be seen before it counts as waiting for somebody.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How often the machine is looked at, as a share of the time that it may do nothing, and within which limits: a
/// picture costs QEMU some milliseconds.
const LOOKS: u32 = 20;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

/// How long a guest may take to say that it has its address; it is emulated and the host is busy.
const KNOCK: Duration = Duration::from_secs(3);

/// The machine as it was looked at.
struct Look {
    activity: Activity,
    /// The screen as QEMU's PNG.
    picture: Vec<u8>,
}

impl Running {
    /// Waits until the guest has sat there for `limit`: nothing but a cursor's blinking has changed on its screen, and
    /// neither disk, network (of its own accord) nor serial console had anything to do. For whoever waits for
    /// something that only a guest that works can bring. Never ends where `limit` is zero, or when QEMU is gone, which
    /// [`super::Watch`] tells.
    pub async fn idle(&self, limit: Duration) -> Ended {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        let pause = (limit / LOOKS).clamp(SHORTEST, LONGEST);
        let (mut first, mut quiet, mut looked): (Option<Look>, _, _) = (None, Duration::ZERO, Instant::now());
        loop {
            // Without a picture nothing is known.
            let look = self.look().await.ok();
            // A host that slept, or had no time for QEMU, says nothing of the guest.
            let passed = looked.elapsed().min(pause * 2);
            looked = Instant::now();
            let same = match (&first, &look) {
                (Some(first), Some(look)) => look.is_like(first),
                _ => false,
            };
            if same {
                quiet += passed;
            } else {
                (first, quiet) = (look, Duration::ZERO);
            }
            if quiet >= limit {
                return Ended::Idle { quiet: limit };
            }
            sleep(pause).await;
        }
    }

    /// As [`Running::shutdown`] waits, for a guest that powers itself off; one that sits there for `idle` instead ends
    /// the wait. The machine is left as it is, to be looked at.
    ///
    /// # Errors
    /// The guest is still running after `timeout`, sits there, ends in another way, or `cancel` fires.
    pub async fn until_powered_off(&self, timeout: Duration, idle: Duration, cancel: &CancellationToken) -> Result<()> {
        let ended = async {
            tokio::select! {
                ended = self.ended() => Ok(ended),
                ended = self.idle(idle) => Ok(ended),
            }
        };
        powered_off(ended, timeout, cancel).await
    }

    /// Whether the guest has a driver for its network card and nevertheless answers nothing that comes over it, not even
    /// who has its address (ARP): its network is not set up. Takes some seconds. Not known, and so `false`, of a machine
    /// without a port that is forwarded.
    pub async fn is_mute(&self) -> bool {
        let Some(port) = self.ports.values().next() else { return false };
        let Ok(Some(before @ NetworkUse { driver: true, .. })) = self.network().await else { return false };
        // QEMU takes it, and asks the guest for its address.
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await;
        sleep(KNOCK).await;
        drop(connection);
        matches!(self.network().await, Ok(Some(after)) if after.sent == before.sent)
    }

    /// What the guest has done with its network card; none where QEMU does not tell.
    ///
    /// # Errors
    /// QEMU is gone.
    pub async fn network(&self) -> Result<Option<NetworkUse>> {
        network(&self.qmp).await
    }

    async fn look(&self) -> Result<Look> {
        let activity = Activity::of(&self.qmp, &self.serial_log).await?;
        let file = Removed(&self.runtime.join("idle.png"));
        self.screenshot(file.0).await?;
        let picture = std::fs::read(file.0).context(Kind::Build, || "reading the picture of the screen")?;
        Ok(Look { activity, picture })
    }
}

impl Look {
    /// Whether nothing has happened since `earlier` but a cursor's blinking.
    fn is_like(&self, earlier: &Self) -> bool {
        self.activity == earlier.activity && (self.picture == earlier.picture || self.blinked(earlier))
    }

    fn blinked(&self, earlier: &Self) -> bool {
        match (Screen::from_png(&self.picture), Screen::from_png(&earlier.picture)) {
            (Ok(now), Ok(then)) => now.change_since(&then) != Change::Picture,
            // Not a picture of a screen.
            _ => false,
        }
    }
}

/// A file that goes when it is not needed any more.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        // Its folder goes with the machine.
        let _ = std::fs::remove_file(self.0);
    }
}
