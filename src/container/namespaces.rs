//! The name spaces that a container is run from.
//!
//! ```text
//! Outer:       processes, mounts: the storage daemon, the file that it exports
//! NameSpaces:  the same processes, mounts and network of its own: the guest's file system, nspawn
//! ```
//! When the first process of [`Outer`] ends (its standard input closes, or it is killed because
//! visabuild died), the kernel ends every other one, and with the last process of each name space
//! its mounts are gone, and with those the loop device. Only the control group is left after a kill; the next
//! run removes it.
//!
//! The daemon must not share the mounts that are made from its file: if it were the last one there
//! to be killed, the kernel would have it unmount the guest's file system on its way out, which flushes to
//! the daemon itself and waits for ever.

use std::ffi::{OsStr, OsString};
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

/// Runs a command in a new control group below the one that is the script's name.
const IN_GROUP: &str = r#"mkdir "$0/$$" && echo 0 >"$0/$$/cgroup.procs" && exec "$@""#;

/// How a control group of ours is called: this, the number of visabuild's process, and a random part.
const GROUP_PREFIX: &str = "visabuild-";

/// How long everything in the name spaces may take to end.
const END: Duration = Duration::from_secs(30);

/// How often a control group is tried to be removed, and the time between: two seconds in all.
const REMOVALS: u32 = 40;
const BUSY: Duration = Duration::from_millis(50);

/// A process that holds name spaces until its standard input closes.
#[derive(Debug)]
struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Holder {
    /// Starts `command`; returns the line that it says once all is prepared, too.
    async fn start(mut command: Command, cancel: &CancellationToken) -> Result<(Self, String)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = process::spawn(command).await.context(Kind::Host, || "cannot make name spaces")?;
        let mut holder = Self { stdin: None, child };
        holder.stdin = holder.child.stdin.take();
        let line = tokio::select! {
            line = first_line(&mut holder.child) => line?,
            () = cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "stopped")),
        };
        Ok((holder, line))
    }
}

/// The processes of a container, and the mounts of its storage daemon.
#[derive(Debug)]
pub(super) struct Outer {
    holder: Holder,
    pid: u32,
}

impl Outer {
    /// Makes them.
    ///
    /// # Errors
    /// This host does not let us (kind host), or `cancel` fires.
    pub(super) async fn new(cancel: &CancellationToken) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command.args(["sh", "-c", "echo && exec cat >/dev/null"]);
        let (holder, _) = Holder::start(command, cancel).await?;
        let pid = holder.child.id().unwrap_or_default();
        Ok(Self { holder, pid })
    }

    /// A command in them.
    pub(super) fn command<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entering()).arg("--").arg(program).args(arguments);
        command
    }

    fn entering(&self) -> [String; 2] {
        let pid = self.pid;
        [format!("--mount=/proc/{pid}/ns/mnt"), format!("--pid=/proc/{pid}/ns/pid_for_children")]
    }

    /// Something of a process in them, by the number that the process has there (proc(5)).
    fn process(&self, pid: u32, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/proc/{pid}/{what}", self.pid))
    }

    /// Ends everything in them and waits until it is gone.
    pub(super) async fn close(mut self) {
        drop(self.holder.stdin.take());
        if tokio::time::timeout(END, self.holder.child.wait()).await.is_err() {
            // `unshare` takes its child along.
            let _ = self.holder.child.kill().await;
        }
    }
}

/// Name spaces for the guest; they live as long as this value.
#[derive(Debug)]
pub(super) struct NameSpaces {
    outer: Outer,
    /// Only held: it ends with `outer`.
    _holder: Holder,
    /// The holder's number among the processes of `outer`.
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
    /// Makes them; what is mounted in `outer` by now is to be seen in them.
    ///
    /// # Errors
    /// This host does not let us (kind host), or `cancel` fires; `outer` is closed then.
    pub(super) async fn new(outer: Outer, cancel: &CancellationToken) -> Result<Self> {
        let name = format!("{GROUP_PREFIX}{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let unshare = ["--mount", "--net", "--", "sh", "-c", SCRIPT, "namespaces.sh", name.as_str()];
        match Self::prepare(&outer, outer.command("unshare", unshare), name.clone(), cancel).await {
            Ok((holder, pid, group)) => Ok(Self { outer, _holder: holder, pid, group }),
            Err(error) => {
                outer.close().await;
                Err(error)
            }
        }
    }

    async fn prepare(
        outer: &Outer,
        command: Command,
        name: String,
        cancel: &CancellationToken,
    ) -> Result<(Holder, u32, Group)> {
        let (holder, line) = Holder::start(command, cancel).await?;
        let (pid, parent) = line.split_once(' ').unwrap_or_default();
        let pid = pid.parse().context(Kind::Host, || format!("cannot find the name spaces ({line})"))?;
        let outside = below(outer.process(pid, "root"), Path::new(parent));
        remove_abandoned(&outside);
        let open = File::open(&outside).context(Kind::Host, || format!("cannot open the control group {parent}"))?;
        Ok((holder, pid, Group { parent: open, path: parent.into(), name }))
    }

    /// `path` of the name spaces' files, as visabuild sees it.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        below(self.outer.process(self.pid, "root"), path)
    }

    /// The network name space, as a path.
    pub(super) fn network(&self) -> PathBuf {
        self.network_of(self.pid)
    }

    /// The network name space of one of the processes in them, by its number there.
    pub(super) fn network_of(&self, pid: u32) -> PathBuf {
        self.outer.process(pid, "ns/net")
    }

    /// A program in all of them, run to its end.
    pub(super) fn run<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Run {
        let mut all = self.entering();
        all.extend(["--".into(), program.into()]);
        all.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        Run::new("nsenter", all)
    }

    /// A command in all of them and in a control group of its own below theirs: nspawn gives its
    /// group controllers, after which nothing can be put into it (cgroups(7), "no internal processes").
    pub(super) fn command_in_group<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entering()).args(["--", "sh", "-c", IN_GROUP]);
        command.arg(self.group.path.join(&self.group.name)).arg(program).args(arguments);
        command
    }

    fn entering(&self) -> Vec<OsString> {
        let option = |name: &str, path: PathBuf| {
            let mut option = OsString::from(name);
            option.push(path);
            option
        };
        let [_, processes] = self.outer.entering();
        let mounts = option("--mount=", self.outer.process(self.pid, "ns/mnt"));
        vec![mounts, option("--net=", self.network()), processes.into()]
    }

    /// Ends everything in them and waits until it is gone.
    pub(super) async fn close(self) {
        self.outer.close().await;
        let folder = format!("/proc/self/fd/{}/{}", self.group.parent.as_raw_fd(), self.group.name);
        // The kernel may still be busy with the last of its processes. What cannot be removed now is
        // removed by the next run.
        for _ in 0..REMOVALS {
            match remove_group(Path::new(&folder)) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => tokio::time::sleep(BUSY).await,
                Ok(()) | Err(_) => break,
            }
        }
    }
}

/// `path` below another root.
fn below(mut root: PathBuf, path: &Path) -> PathBuf {
    root.extend(path.components().skip(1));
    root
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
        assert_eq!(below("/proc/7/root".into(), Path::new("/sys/fs")), Path::new("/proc/7/root/sys/fs"));
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
