//! Where the host has UEFI for its guests.

use std::fs;
use std::path::Path;

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

/// Whether the host has UEFI for its guests.
pub fn has_uefi() -> bool {
    found().is_some()
}

fn found() -> Option<&'static (&'static str, &'static str)> {
    OVMF.iter().find(|(code, vars)| Path::new(code).is_file() && Path::new(vars).is_file())
}

/// UEFI with variables of its own in the new file `vars`.
///
/// # Errors
/// The host has no OVMF, or the variables cannot be copied (kind host).
pub fn uefi(vars: &Path) -> Result<Firmware> {
    let Some((code, template)) = found() else {
        return Err(Error::host("this host has no UEFI firmware for guests (OVMF)")
            .hint("the package is called `ovmf` on Debian and Ubuntu, `edk2-ovmf` on Fedora and Arch"));
    };
    let content = fs::read(template).context(Kind::Host, || format!("cannot read {template}"))?;
    // A copy of the content and not of the file, whose permissions may forbid writing.
    fs::write(vars, content).context(Kind::Host, || format!("cannot write {}", vars.display()))?;
    Ok(Firmware::Uefi { code: (*code).into(), vars: vars.to_owned() })
}
