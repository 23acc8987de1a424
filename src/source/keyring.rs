//! The keys that a suite is verified with.
//!
//! They come from what the host trusts already: its own archive keyring, a newer one out of the
//! host's own signed package index, or a file whose hash the user pinned; never from the suite
//! that they verify.

use std::fs;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::apt::{ARCHIVE_KEYRING, Acquire, Mirror, Mirrors, moving};
use super::write_private;
use crate::checksum::hex;
use crate::error::{Context, Error, Kind, Result};
use crate::process::Run;

/// Runs APT's own downloader: same proxies, same certificates.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
/// Debian's package with the keys of its archive.
const PACKAGE: &str = "debian-archive-keyring";

/// A keyring file that the user vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// A binary OpenPGP keyring.
    pub path: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// A keyring that verifies the suite, and why it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// A file that APT can read.
    pub path: PathBuf,
    /// For the manifest, for example `the host's debian-archive-keyring`.
    pub origin: String,
}

/// Finds the keyring for `suite`; scratch files go into `work`.
///
/// # Errors
/// The mirror has no such suite or cannot be reached (kind host), the pinned file is another
/// (kind usage), or no keyring that the host trusts has signed the suite (kind host).
pub async fn find(
    suite: &str,
    mirrors: &Mirrors,
    acquire: &Acquire,
    pinned: Option<&Pinned>,
    work: &Path,
    cancel: &CancellationToken,
) -> Result<Keyring> {
    if let Some(pinned) = pinned {
        return check_pinned(pinned);
    }
    let releases = Releases::download(suite, mirrors, acquire, work, cancel).await?;
    let host = Path::new(ARCHIVE_KEYRING);
    if host.exists() && releases.signed_by(host, cancel).await? {
        return Ok(Keyring { path: host.to_owned(), origin: format!("the host's {PACKAGE}") });
    }
    let unknown = || {
        Error::host(format!("no keyring that this host trusts has a key that signed `{suite}`")).hint(format!(
            "install a newer {PACKAGE}, or name a keyring file and its SHA-256 with --keyring and --keyring-sha256"
        ))
    };
    let newer = download_package(work, cancel).await.map_err(|error| unknown().because(error))?;
    if releases.signed_by(&newer, cancel).await? {
        let origin = format!("{PACKAGE} from the host's package index");
        return Ok(Keyring { path: newer, origin });
    }
    Err(unknown())
}

fn check_pinned(pinned: &Pinned) -> Result<Keyring> {
    let bytes =
        fs::read(&pinned.path).context(Kind::Usage, || format!("reading the keyring {}", pinned.path.display()))?;
    let digest = hex(&Sha256::digest(bytes));
    if !digest.eq_ignore_ascii_case(&pinned.sha256) {
        return Err(Error::usage(format!("the keyring {} is not the pinned one", pinned.path.display()))
            .because(format!("its SHA-256 is {digest}, pinned is {}", pinned.sha256))
            .hint("look where the file comes from before you change the pinned hash"));
    }
    let path = std::path::absolute(&pinned.path).unwrap_or_else(|_| pinned.path.clone());
    Ok(Keyring { path, origin: format!("pinned by SHA-256 {digest}") })
}

/// The signed indexes of a suite and of its security updates.
struct Releases {
    files: Vec<PathBuf>,
}

impl Releases {
    async fn download(
        suite: &str,
        mirrors: &Mirrors,
        acquire: &Acquire,
        work: &Path,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let configuration = configuration(mirrors, acquire, work)?;
        let mut files = Vec::new();
        let security = mirrors.security.as_ref().filter(|_| !moving(suite));
        let wanted = [(Some(&mirrors.main), suite.to_owned()), (security, format!("{suite}-security"))];
        for (mirror, suite) in wanted {
            let Some(mirror) = mirror else { continue };
            let file = work.join(format!("{suite}.InRelease"));
            let url = format!("{}/dists/{suite}/InRelease", mirror.url());
            Run::new(APT_HELPER, ["download-file".as_ref(), url.as_ref(), file.as_os_str()])
                .with(|command| {
                    command.env("APT_CONFIG", &configuration).env("LC_ALL", "C");
                })
                .kind(Kind::Host)
                .output(cancel)
                .await
                .map_err(|error| {
                    error
                        .context(format!("cannot get the index of `{suite}` from {}", mirror.url()))
                        .hint("`mirror` sets another mirror")
                })?;
            files.push(file);
        }
        Ok(Self { files })
    }

    /// Whether a key in `keyring` made a good signature on each of them. APT asks for one good
    /// signature too; the suites carry several, of older and newer keys.
    async fn signed_by(&self, keyring: &Path, cancel: &CancellationToken) -> Result<bool> {
        for file in &self.files {
            let mut good = false;
            let arguments = ["--status-fd=1".as_ref(), "--keyring".as_ref(), keyring.as_os_str(), file.as_os_str()];
            let run = Run::new("gpgv", arguments);
            let result = run.lines(cancel, |_, line| good |= line.starts_with("[GNUPG:] GOODSIG ")).await;
            match result {
                // A signature by a key that is not in the keyring makes gpgv fail, too.
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Build => {}
                Err(error) => return Err(error),
            }
            if !good {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An apt.conf that reaches the mirrors as the host does, with the mirrors' credentials in a
/// netrc file (apt_auth.conf(5)) rather than in an argument list.
fn configuration(mirrors: &Mirrors, acquire: &Acquire, work: &Path) -> Result<PathBuf> {
    let mut text = acquire.configuration.expose_secret().to_owned();
    let entries: String = [Some(&mirrors.main), mirrors.security.as_ref()].into_iter().flatten().map(netrc).collect();
    if !entries.is_empty() {
        let netrc = work.join("auth.conf");
        write_private(&netrc, &entries)?;
        text.push_str(&format!("Dir::Etc::netrc \"{}\";\n", netrc.display()));
    }
    let path = work.join("apt.conf");
    write_private(&path, &text)?;
    Ok(path)
}

fn netrc(mirror: &Mirror) -> String {
    let Some(credentials) = mirror.credentials() else { return String::new() };
    let (login, password) = credentials.expose_secret().split_once(':').unwrap_or((credentials.expose_secret(), ""));
    // The scheme is part of the name: without it APT uses the entry for https only.
    format!("machine {} login {login} password {password}\n", mirror.url())
}

/// The archive keyring out of the newest package that the host's own sources offer, verified by
/// APT with the host's keys. APT's state is private: works as any user and changes nothing.
async fn download_package(work: &Path, cancel: &CancellationToken) -> Result<PathBuf> {
    let state = work.join("apt");
    let folder = work.join("keyring");
    let made = ["state/lists/partial", "cache/archives/partial"].map(|part| state.join(part));
    for path in made.iter().chain([&folder]) {
        fs::create_dir_all(path).context(Kind::Host, || format!("making {}", path.display()))?;
    }
    let options = [
        format!("Dir::State={}", state.join("state").display()),
        format!("Dir::Cache={}", state.join("cache").display()),
        // The package cache lies in a private folder, which APT's own user cannot enter.
        "APT::Sandbox::User=root".to_owned(),
    ];
    let apt = |arguments: &[&str]| {
        let options = options.iter().flat_map(|option| ["-o".to_owned(), option.clone()]);
        Run::new("apt-get", options.chain(arguments.iter().map(|argument| (*argument).to_owned())))
            .with(|command: &mut Command| {
                command.env("LC_ALL", "C").current_dir(&folder);
            })
            .kind(Kind::Host)
    };
    apt(&["-q", "update"]).output(cancel).await?;
    apt(&["-q", "download", PACKAGE]).output(cancel).await?;
    let package = single_package(&folder)?;
    let tree = folder.join("tree");
    let arguments = ["--extract".as_ref(), package.as_os_str(), tree.as_os_str()];
    Run::new("dpkg-deb", arguments).kind(Kind::Host).output(cancel).await?;
    let keyring = tree.join(ARCHIVE_KEYRING.trim_start_matches('/'));
    // Newer packages have a .pgp file, and .gpg as a link to its absolute path or beside it.
    let candidates = [keyring.with_extension("pgp"), keyring];
    candidates
        .into_iter()
        .find(|path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()))
        .ok_or_else(|| Error::host(format!("the package {PACKAGE} has no keyring in it")))
}

fn single_package(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).context(Kind::Host, || format!("reading {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| Error::host(format!("apt-get did not download {PACKAGE}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::apt::read_sources;

    #[test]
    fn a_pinned_keyring_must_be_the_pinned_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.gpg");
        fs::write(&path, "abc").unwrap();
        let sha256 = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD".to_owned();
        let keyring = check_pinned(&Pinned { path: path.clone(), sha256 }).unwrap();
        assert_eq!(keyring.path, path);
        let error = check_pinned(&Pinned { path, sha256: "00".to_owned() }).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.chain()[1].contains("pinned is 00"), "{:?}", error.chain());
    }

    #[test]
    fn credentials_go_into_a_private_file_with_their_mirror() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let main = Mirror::parse("http://joe:secret@mirror.example.org/debian").unwrap();
        let mirrors = Mirrors { main, security: None };
        let path = configuration(&mirrors, &Acquire::default(), folder.path()).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("secret"));
        let netrc = folder.path().join("auth.conf");
        let text = fs::read_to_string(&netrc).unwrap();
        assert_eq!(text, "machine http://mirror.example.org/debian login joe password secret\n");
        assert_eq!(fs::metadata(netrc).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_mirror_without_credentials_needs_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mirrors = Mirrors { main: Mirror::parse("http://mirror.example.org/debian").unwrap(), security: None };
        configuration(&mirrors, &Acquire::default(), folder.path()).unwrap();
        assert!(!folder.path().join("auth.conf").exists());
    }

    #[tokio::test]
    async fn full_the_hosts_signed_index_offers_a_keyring_that_verifies_the_suite() {
        let folder = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let mirrors = Mirrors::from_sources(&read_sources(Path::new("/etc/apt")).unwrap()).unwrap();
        let acquire = Acquire::of_host(&cancel).await.unwrap();
        let releases = Releases::download("trixie", &mirrors, &acquire, folder.path(), &cancel).await.unwrap();
        let keyring = download_package(folder.path(), &cancel).await.unwrap();
        assert!(releases.signed_by(&keyring, &cancel).await.unwrap());
        fs::write(folder.path().join("none.gpg"), "").unwrap();
        assert!(!releases.signed_by(&folder.path().join("none.gpg"), &cancel).await.unwrap());
    }

    #[tokio::test]
    async fn a_suite_that_the_mirror_does_not_have_is_named_with_the_mirror() {
        let folder = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let mirrors = Mirrors::from_sources(&read_sources(Path::new("/etc/apt")).unwrap()).unwrap();
        let (acquire, work) = (Acquire::default(), folder.path());
        let error = find("no-such-suite", &mirrors, &acquire, None, work, &cancel).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert!(
            error.chain()[0].starts_with("cannot get the index of `no-such-suite` from http"),
            "{:?}",
            error.chain()
        );
        assert_eq!(error.hints()[0], "`mirror` sets another mirror");
    }
}
