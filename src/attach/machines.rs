//! The machines of one run, as they come and go.

use std::path::Path;

use rustix::fs::inotify::WatchFlags;

use super::Record;
use super::find::records;
use super::notify::Notify;
use crate::error::{Context, Kind, Result};

/// Tells which machines the run with the working folder `work` has, in the order of their start: now, and whenever one
/// is there or gone. Ends with the folder.
///
/// # Errors
/// The kernel gives no watches (kind host).
pub async fn watch(work: &Path, mut tell: impl FnMut(Vec<Record>)) -> Result<()> {
    let failed = || format!("cannot watch over {}", work.display());
    let notify = Notify::new().context(Kind::Host, failed)?;
    // A record gets its name when it is complete.
    let what = WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::DELETE_SELF;
    notify.add(work, what).context(Kind::Host, failed)?;
    let mut told = None;
    while work.is_dir() {
        let mut machines = records(work);
        machines.sort_by(|a, b| (a.started, &a.purpose).cmp(&(b.started, &b.purpose)));
        if told.as_ref() != Some(&machines) {
            told = Some(machines.clone());
            tell(machines);
        }
        notify.changed().await.context(Kind::Host, failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::super::Recorded;
    use super::*;

    #[tokio::test]
    async fn machines_are_told_as_they_come_and_go() {
        let work = tempfile::tempdir().unwrap();
        let (sender, mut told) = unbounded_channel();
        let path = work.path().to_owned();
        let watching = tokio::spawn(async move {
            let names = |machines: Vec<Record>| machines.into_iter().map(|machine| machine.purpose).collect::<Vec<_>>();
            watch(&path, |machines| sender.send(names(machines)).unwrap()).await
        });
        assert_eq!(told.recv().await.unwrap(), Vec::<String>::new());
        let mut one = Recorded::new(work.path(), Path::new("/out"), "tiny", "layer");
        one.running(None).unwrap();
        assert_eq!(told.recv().await.unwrap(), ["layer"]);
        let mut two = Recorded::new(work.path(), Path::new("/out"), "tiny", "seal");
        two.running(Some(("vnc://127.0.0.1:5900", None))).unwrap();
        assert_eq!(told.recv().await.unwrap(), ["layer", "seal"]);
        drop(one);
        assert_eq!(told.recv().await.unwrap(), ["seal"]);
        drop(two);
        assert_eq!(told.recv().await.unwrap(), Vec::<String>::new());
        drop(work);
        watching.await.unwrap().unwrap();
    }
}
