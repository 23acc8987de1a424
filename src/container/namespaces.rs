//! The name spaces that a container is run from.
//!
//! One process holds a mount, a network and a process-id name space. When its standard input closes
//! or it is killed (it is, when visabuild dies), the kernel ends every process in them, and with the
//! last one their mounts are gone, and with those the loop devices. Only the control group is left
//! after a kill; the next run removes it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Kind, Result};
use crate::process::{self, Run};

const SCRIPT: &str = include_str!("namespaces.sh");

/// How a control group of ours is called: this, the number of visabuild's process, and a random part.
const GROUP_PREFIX: &str = "visabuild-";

/// How long everything in the name spaces may take to end.
const END: Duration = Duration::from_secs(10);

/// Name spaces that live as long as this value.
#[derive(Debug)]
pub(super) struct NameSpaces {
    holder: Child,
    stdin: Option<ChildStdin>,
    pid: u32,
    group: Group,
}

/// A control group (cgroups(7), version 2) below visabuild's own.
#[derive(Debug)]
struct Group {
    /// The folder of the parent group; open, because its mount goes with the name spaces.
    parent: File,
    /// The same as a path within the name spaces.
    path: PathBuf,
    name: String,
}

impl NameSpaces {
    /// Makes them.
    ///
    /// # Errors
    /// This host does not let us (kind host), or `cancel` fires.
    pub(super) async fn new(cancel: &CancellationToken) -> Result<Self> {
        let name = format!("{GROUP_PREFIX}{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command.args(["sh", "-c", SCRIPT, "namespaces.sh", &name]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = process::spawn(command).await.context(Kind::Host, || "cannot run `unshare`")?;
        let pid = holder.id().unwrap_or_default();
        let stdin = holder.stdin.take();
        let parent = tokio::select! {
            parent = first_line(&mut holder) => parent?,
            () = cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "stopped")),
        };
        let outside = within(pid, Path::new(&parent));
        let fail = || format!("cannot open the control group {parent}");
        remove_abandoned(&outside);
        let open = File::open(&outside).context(Kind::Host, fail)?;
        let group = Group { parent: open, path: parent.into(), name };
        Ok(Self { holder, stdin, pid, group })
    }

    /// `path` of the name spaces' files, as visabuild sees it.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        within(self.pid, path)
    }

    /// The network name space, as a path.
    pub(super) fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }

    /// A command in all of them.
    pub(super) fn command<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entering()).arg("--").arg(program).args(arguments);
        command
    }

    /// A program in all of them, run to its end.
    pub(super) fn run<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Run {
        let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let all = self.entering().into_iter().map(Into::into).chain(["--".into(), program.into()]).chain(arguments);
        Run::new("nsenter", all.collect::<Vec<std::ffi::OsString>>())
    }

    /// A command in all of them and in their control group.
    pub(super) fn command_in_group<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let procs = self.group.path.join(&self.group.name).join("cgroup.procs");
        let mut command = self.command("sh", ["-c", r#"echo 0 >"$0" && exec "$@""#]);
        command.arg(procs).arg(program).args(arguments);
        command
    }

    fn entering(&self) -> [String; 3] {
        let pid = self.pid;
        [
            format!("--mount=/proc/{pid}/ns/mnt"),
            format!("--net=/proc/{pid}/ns/net"),
            format!("--pid=/proc/{pid}/ns/pid_for_children"),
        ]
    }

    /// Ends everything in them and waits until it is gone.
    pub(super) async fn close(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(END, self.holder.wait()).await.is_err() {
            // `unshare` takes its child along.
            let _ = self.holder.kill().await;
        }
        let folder = format!("/proc/self/fd/{}/{}", self.group.parent.as_raw_fd(), self.group.name);
        // What cannot be removed now is removed by the next run.
        let _ = remove_group(Path::new(&folder));
    }
}

/// A path of the process `pid`'s mount name space, as everybody else sees it (proc_pid_root(5)).
fn within(pid: u32, path: &Path) -> PathBuf {
    let mut outside = PathBuf::from(format!("/proc/{pid}/root"));
    outside.extend(path.components().skip(1));
    outside
}

/// What the script says once all is prepared.
async fn first_line(holder: &mut Child) -> Result<String> {
    let mut line = String::new();
    if let Some(stdout) = holder.stdout.take() {
        let read = BufReader::new(stdout).read_line(&mut line).await;
        read.context(Kind::Host, || "cannot read from `unshare`")?;
    }
    if line.ends_with('\n') {
        line.pop();
        return Ok(line);
    }
    let mut said = String::new();
    if let Some(stderr) = holder.stderr.take() {
        // What it has said until an error is all there is.
        let _ = BufReader::new(stderr).read_to_string(&mut said).await;
    }
    Err(Error::host("this host does not let us make the name spaces of a container")
        .because(said.trim_end().to_owned())
        .hint("run as root outside of containers, or use `--engine qemu`"))
}

/// Removes control groups of visabuilds that are gone; those that are in use cannot be removed.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let owner = owner(&entry.file_name());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = remove_group(&entry.path());
        }
    }
}

/// The process that a control group of ours belongs to.
fn owner(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix(GROUP_PREFIX)?.split('-').next()?.parse().ok()
}

/// Removes an empty control group: its folders, not the files in them (cgroups(7)).
fn remove_group(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_through_the_holder() {
        assert_eq!(within(7, Path::new("/sys/fs/cgroup")), Path::new("/proc/7/root/sys/fs/cgroup"));
    }

    #[test]
    fn control_groups_say_whose_they_are() {
        assert_eq!(owner("visabuild-42-0a1b".as_ref()), Some(42));
        assert_eq!(owner("visabuild.slice".as_ref()), None);
        assert_eq!(owner("user.slice".as_ref()), None);
    }

    #[test]
    fn a_group_is_removed_with_the_groups_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("visabuild-1-a/payload/init.scope")).unwrap();
        remove_group(&folder.path().join("visabuild-1-a")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
