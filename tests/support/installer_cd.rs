//! debian-installer on CDs of a test's own.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "netboot.rs"]
mod images;

/// The installer's kernel and initial file system, below `folder`.
pub fn netboot(folder: &Path) -> (PathBuf, PathBuf) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(images::installer(folder))
}

/// A folder with the installer's kernel and initial file system.
pub fn cd_tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    let (kernel, initrd) = netboot(folder);
    fs::create_dir_all(&tree).unwrap();
    fs::rename(kernel, tree.join("linux")).unwrap();
    fs::rename(initrd, tree.join("initrd.gz")).unwrap();
    tree
}

/// A CD with the installer and a menu, as distributions make them: isolinux, whose entries `<tab>` lets one edit.
pub fn boot_cd(folder: &Path) -> PathBuf {
    let (tree, iso) = (cd_tree(folder), folder.join("installer.iso"));
    fs::create_dir_all(tree.join("isolinux")).unwrap();
    let modules = "/usr/lib/syslinux/modules/bios";
    for file in ["/usr/lib/ISOLINUX/isolinux.bin".to_owned()]
        .into_iter()
        .chain(["ldlinux.c32", "menu.c32", "libutil.c32", "libcom32.c32"].map(|name| format!("{modules}/{name}")))
    {
        let name = Path::new(&file).file_name().unwrap().to_owned();
        fs::copy(&file, tree.join("isolinux").join(name)).expect("isolinux and syslinux-common are installed");
    }
    let menu = "DEFAULT menu.c32\nPROMPT 0\nTIMEOUT 0\nMENU TITLE Installer\n\
                LABEL install\n  MENU LABEL Install\n  KERNEL /linux\n  APPEND initrd=/initrd.gz\n\
                LABEL auto\n  KERNEL /linux\n  APPEND initrd=/initrd.gz auto=true DEBIAN_FRONTEND=text TERM=dumb\n";
    fs::write(tree.join("isolinux/isolinux.cfg"), menu).unwrap();
    let mut make = Command::new("xorriso");
    make.args(["-as", "mkisofs", "-quiet", "-r", "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"]);
    make.args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-o"]).args([&iso, &tree]);
    assert!(make.status().unwrap().success());
    iso
}
