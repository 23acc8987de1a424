//! Programs that run as root of name spaces of their own.
//!
//! A process-id name space takes along everything that a program has started when it ends, however
//! it ends: `unshare --kill-child` kills its first process, and the kernel kills the rest and drops
//! the mounts with the mount name space. An ordinary user gets a user name space too, in which the
//! user is root and the rest of the user's subordinate ids are everybody else (subuid(5)); files of
//! root in a tree made there belong to the user outside.

use std::ffi::{OsStr, OsString};

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::process::Run;

/// `program` with `args` as root of name spaces of its own.
pub fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Run {
    let mut all: Vec<OsString> = arguments(rustix::process::geteuid().is_root()).map(OsString::from).collect();
    all.push("--".into());
    all.push(program.into());
    all.extend(args.into_iter().map(|argument| argument.as_ref().to_owned()));
    Run::new("unshare", all)
}

fn arguments(root: bool) -> impl Iterator<Item = &'static str> {
    let user: &[&str] = if root { &[] } else { &["--user", "--map-root-user", "--map-auto"] };
    user.iter().copied().chain(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
}

/// Whether this host lets us make such name spaces.
///
/// # Errors
/// It does not (kind host); the hints say how to change that.
pub async fn check(cancel: &CancellationToken) -> Result<()> {
    let none: [&str; 0] = [];
    run("true", none).kind(Kind::Host).output(cancel).await.map(drop).map_err(|error| {
        let error = error.context("this host does not let us make name spaces, which the bootstrap needs");
        explain(error, rustix::process::geteuid().is_root())
    })
}

fn explain(error: Error, root: bool) -> Error {
    if error.kind() == Kind::Interrupted {
        error
    } else if root {
        error.hint("in a container, give it the right to mount (CAP_SYS_ADMIN), or run as an ordinary user outside one")
    } else {
        error
            .hint("an ordinary user needs the package `uidmap` and 65536 ids in /etc/subuid and /etc/subgid (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`)")
            .hint("the kernel must allow user name spaces (`sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu), and util-linux must be 2.38 or newer")
            .hint("or run as root")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_gets_a_user_name_space() {
        assert!(arguments(false).any(|argument| argument == "--user"));
        assert!(!arguments(true).any(|argument| argument == "--user"));
        assert!(arguments(true).any(|argument| argument == "--kill-child"));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        assert!(explain(Error::host("no"), true).hints()[0].contains("CAP_SYS_ADMIN"));
        assert!(explain(Error::host("no"), false).hints()[0].contains("/etc/subuid"));
        assert!(explain(Error::new(Kind::Interrupted, "stopped"), false).hints().is_empty());
    }

    #[tokio::test]
    async fn a_program_is_root_and_the_first_but_one_process_where_name_spaces_are_allowed() {
        let cancel = CancellationToken::new();
        if check(&cancel).await.is_ok() {
            let seen = run("sh", ["-c", "id -u; echo $$"]).output(&cancel).await.unwrap();
            assert_eq!(seen, "0\n1");
        }
    }
}
