//! Where the host has UEFI for its guests.

use std::fs;
use std::path::{Path, PathBuf};

use super::Firmware;
use crate::error::{Context, Error, Kind, Result};

/// Code and variables of OVMF without secure boot, as Debian and Ubuntu, Fedora, openSUSE and Arch
/// install them.
const OVMF: [(&str, &str); 6] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
];

/// The same with secure boot, and variables that hold Microsoft's keys; Arch has none such.
const SECURE: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/OVMF/OVMF_CODE.ms.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ("/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin", "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin"),
];

/// Which UEFI a machine is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uefi {
    /// Its code; none is the host's.
    pub code: Option<PathBuf>,
    /// The variables that a machine starts with; none are those that belong to the code.
    pub vars: Option<PathBuf>,
    /// It starts signed boot loaders only.
    pub secure_boot: bool,
}

impl Uefi {
    /// Code and variables on this host.
    ///
    /// # Errors
    /// The host has none such, or a file that was named is not there (kind host).
    pub fn find(&self) -> Result<(PathBuf, PathBuf)> {
        let known: &[(&str, &str)] = if self.secure_boot { &SECURE } else { &OVMF };
        let pair = match &self.code {
            // Variables belong to code of the same size.
            Some(code) => known.iter().find(|(known, _)| Path::new(known) == code),
            None => known.iter().find(|(code, vars)| Path::new(code).is_file() && Path::new(vars).is_file()),
        };
        let code = self.code.clone().or_else(|| pair.map(|(code, _)| code.into()));
        let vars = self.vars.clone().or_else(|| pair.map(|(_, vars)| vars.into()));
        let (code, vars) = match (code, vars) {
            (Some(code), Some(vars)) => (code, vars),
            (Some(code), None) => {
                return Err(Error::host(format!("no variables are known for the firmware {}", code.display()))
                    .hint("name them with `efi_firmware_vars`"));
            }
            (None, _) => {
                let kind = if self.secure_boot { " with secure boot" } else { "" };
                return Err(Error::host(format!("this host has no UEFI firmware for guests (OVMF){kind}"))
                    .hint("the package is called `ovmf` on Debian and Ubuntu, `edk2-ovmf` on Fedora and Arch"));
            }
        };
        if let Some(missing) = [&code, &vars].into_iter().find(|path| !path.is_file()) {
            return Err(Error::host(format!("the firmware {} is not there", missing.display()))
                .hint("`efi_firmware_code` and `efi_firmware_vars` name files of this host"));
        }
        Ok((code, vars))
    }

    /// The firmware of one machine, whose variables are in the new file `vars`.
    ///
    /// # Errors
    /// As [`Uefi::find`], or the variables cannot be copied (kind host).
    pub fn firmware(&self, vars: &Path) -> Result<Firmware> {
        let (code, template) = self.find()?;
        let content = fs::read(&template).context(Kind::Host, || format!("cannot read {}", template.display()))?;
        // A copy of the content and not of the file, whose permissions may forbid writing.
        fs::write(vars, content).context(Kind::Host, || format!("cannot write {}", vars.display()))?;
        Ok(Firmware::Uefi { code, vars: vars.to_owned(), secure_boot: self.secure_boot })
    }
}

/// Whether the host has UEFI for its guests.
pub fn has_uefi() -> bool {
    Uefi::default().find().is_ok()
}

/// The host's own UEFI with variables in the new file `vars`.
///
/// # Errors
/// The host has no OVMF, or the variables cannot be copied (kind host).
pub fn uefi(vars: &Path) -> Result<Firmware> {
    Uefi::default().firmware(vars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let code = folder.path().join("code.fd");
        let uefi = Uefi { code: Some(code.clone()), ..Uefi::default() };
        assert!(uefi.find().unwrap_err().to_string().starts_with("no variables are known for the firmware"));
        let uefi = Uefi { vars: Some(code.clone()), ..uefi };
        let error = uefi.find().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::Host, format!("the firmware {} is not there", code.display()))
        );
        fs::write(&code, "x").unwrap();
        assert_eq!(uefi.find().unwrap(), (code.clone(), code));
    }

    #[test]
    fn each_machine_has_variables_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (from, vars) = (folder.path().join("template.fd"), folder.path().join("vars.fd"));
        fs::write(&from, "variables").unwrap();
        let uefi = Uefi { code: Some(from.clone()), vars: Some(from.clone()), secure_boot: true };
        let made = uefi.firmware(&vars).unwrap();
        assert_eq!(made, Firmware::Uefi { code: from, vars: vars.clone(), secure_boot: true });
        assert_eq!(fs::read_to_string(vars).unwrap(), "variables");
    }
}
