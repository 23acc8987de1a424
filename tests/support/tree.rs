//! All files of an image, to compare one image with another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use visabuild::checksum::hex;
use visabuild::event::Events;
use visabuild::verify::disk::Disk;
use visabuild::verify::disk::files::EntryKind;

/// What is at each path, in words: kind, permissions, owner, and the content's digest or where a link leads.
pub type Tree = BTreeMap<String, String>;

/// What no two boots of one guest leave the same.
const BOOTS: [&str; 15] = [
    "/etc/machine-id",
    "/etc/ssh/ssh_host_",
    "/etc/netplan/",
    "/run/",
    "/var/lib/cloud/",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/timers/",
    "/var/lib/systemd/timesync/",
    "/var/lib/private/",
    "/var/cache/ldconfig/aux-cache",
    "/boot/grub/grubenv",
    "/boot/grub/x86_64-efi/load.cfg",
    "/etc/fstab",
    "/boot/grub/grub.cfg",
    "/var/log/",
];

/// The files of the image or layer at `path`, without those that no two boots leave the same.
pub async fn tree(path: &Path) -> Tree {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let phase = Events::none().phase("tree", "open");
    let disk = Disk::open(path, true, folder.path(), &phase, &CancellationToken::new()).await.unwrap();
    let files = disk.files().unwrap();
    let mut tree = Tree::new();
    files
        .walk(|path, entry| {
            let name = path.to_str().unwrap();
            if BOOTS.iter().any(|boot| name.starts_with(boot)) {
                return Ok(());
            }
            let content = match entry.kind {
                EntryKind::File => {
                    let mut bytes = files.read(path, usize::MAX)?.unwrap_or_default();
                    if name == "/etc/shadow" {
                        bytes = without_hashes(&bytes);
                    }
                    hex(&Sha256::digest(bytes))
                }
                _ => entry.target.as_ref().map(|target| target.display().to_string()).unwrap_or_default(),
            };
            let text = format!("{:?} {:o} {}:{} {content}", entry.kind, entry.mode, entry.uid, entry.gid);
            tree.insert(name.to_owned(), text);
            Ok(())
        })
        .unwrap();
    tree
}

/// The files of the layer of `template` that a build has used last.
pub async fn newest_layer(cache: &Path, template: &str) -> Tree {
    let folder = cache.join("visabuild/layers");
    let records = fs::read_dir(&folder).unwrap().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        let key = name.strip_suffix(".json").filter(|key| !key.ends_with(".sum"))?;
        let record: serde_json::Value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
        let disk = folder.join(format!("{key}.{}.qcow2", record["instance"].as_str()?));
        // The record of a layer that was taken out of the cache is newer than its disk.
        (record["template"] == template).then(|| (entry.metadata().unwrap().modified().unwrap(), disk))
    });
    let newest: Option<(SystemTime, PathBuf)> = records.max_by_key(|(time, _)| *time);
    tree(&newest.unwrap().1).await
}

/// Accounts, without their passwords' hashes, which have a new salt each time (shadow(5)).
fn without_hashes(shadow: &[u8]) -> Vec<u8> {
    let shadow = String::from_utf8_lossy(shadow);
    let lines = shadow.lines().map(|line| {
        let mut fields: Vec<&str> = line.split(':').collect();
        if fields.get(1).is_some_and(|hash| hash.starts_with('$')) {
            fields[1] = "a hash";
        }
        fields.join(":") + "\n"
    });
    lines.collect::<String>().into_bytes()
}

/// Paths at which two images differ, with what is there.
pub fn differences(one: &Tree, other: &Tree) -> Vec<String> {
    let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&String| one.get(*name) != other.get(*name);
    names.into_iter().filter(differs).map(|name| format!("{name}: {:?} {:?}", one.get(name), other.get(name))).collect()
}
