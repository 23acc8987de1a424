//! Which distribution the host runs, to say how a missing package is installed.

use std::path::Path;

use crate::os_release::OsRelease;

/// The host's distribution, from os-release(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `ID` (`debian`).
    pub id: String,
    /// `VERSION_CODENAME` (`bookworm`), where there is one.
    pub codename: Option<String>,
    /// Packages are Debian's (`ID` or `ID_LIKE` says so).
    pub debian_like: bool,
}

impl Distribution {
    /// This host's; empty where it does not say.
    pub fn of_host() -> Self {
        let text = std::fs::read_to_string(Path::new("/etc/os-release"));
        text.map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// Reads the text of os-release(5).
    pub fn parse(text: &str) -> Self {
        let release = OsRelease::parse(text);
        let id = release.get("ID").unwrap_or_default();
        let like = release.get("ID_LIKE").unwrap_or_default();
        let debian_like = id == "debian" || like.split_whitespace().any(|like| like == "debian");
        Self { id, codename: release.get("VERSION_CODENAME"), debian_like }
    }

    /// How the Debian package `package` is installed here.
    pub fn install(&self, package: &str) -> String {
        if self.debian_like {
            format!("`apt-get install {package}`, or `scripts/quickstart`, which installs all that is missing")
        } else {
            format!("install what Debian calls `{package}`")
        }
    }

    /// How a newer QEMU comes to this host.
    pub fn newer_qemu(&self) -> String {
        match (self.id.as_str(), self.codename.as_deref()) {
            // Debian 12's own is 7.2; both packages together, because the old one removes the new qemu-utils.
            ("debian", Some("bookworm")) => {
                "add the suite bookworm-backports to the APT sources, then `apt-get install -t bookworm-backports \
                 qemu-system-x86 qemu-utils`; `scripts/quickstart` does both"
                    .to_owned()
            }
            ("debian" | "ubuntu", Some(codename)) => {
                format!("{codename} has no newer QEMU: build on a newer release, or on a host with KVM")
            }
            _ => "install QEMU 10 or newer, or build on a host with KVM".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_children_install_with_apt() {
        let debian = Distribution::parse("PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_CODENAME=bookworm\n");
        assert_eq!(debian.codename.as_deref(), Some("bookworm"));
        assert!(debian.install("gpgv").starts_with("`apt-get install gpgv`"));
        assert!(debian.newer_qemu().contains("-t bookworm-backports qemu-system-x86 qemu-utils"));
        let mint = Distribution::parse("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n");
        assert!(mint.debian_like);
        let ubuntu = Distribution::parse("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=jammy");
        assert!(ubuntu.newer_qemu().starts_with("jammy has no newer QEMU"));
    }

    #[test]
    fn elsewhere_the_package_is_only_named() {
        let fedora = Distribution::parse("ID=fedora\n");
        assert_eq!(fedora.install("gpgv"), "install what Debian calls `gpgv`");
        assert_eq!(Distribution::parse(""), Distribution::default());
    }
}
